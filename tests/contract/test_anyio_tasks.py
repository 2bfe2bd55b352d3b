"""What only the pool for asyncio and trio has: tasks, cancellation, exceptions."""

from __future__ import annotations

import selectors
import socket

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing

import sippool_anyio
import sippool_sync
from sippool_core import (
    Address,
    CloseReason,
    ConnectionClosed,
    ConnectionOpened,
    MessageReceived,
    PoolClosed,
    PoolConfig,
    Target,
    Transport,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def peer():
    """A UDP socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


@pytest.fixture
def deaf():
    """A TCP server that reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        yield server


def address_of(pool):
    address = pool.listeners[0].address
    return (address.host, address.port)


async def until_stuck(pool, target, message):
    """The outcome of a send that the peer does not take."""
    outcome = pool.send(message, target)
    await outcome
    while outcome.done:
        outcome = pool.send(message, target)
    return outcome


async def test_an_exception_of_the_body_passes_unwrapped():
    with pytest.raises(LookupError, match="mine"):
        async with sippool_anyio.open_pool("udp:127.0.0.1:0"):
            raise LookupError("mine")
    with pytest.raises(SystemExit):
        async with sippool_anyio.open_pool("udp:127.0.0.1:0"):
            raise SystemExit(3)


async def test_an_exception_of_the_body_survives_a_cancelled_closing(deaf, sip):
    target = Target(Transport.TCP, Address(*deaf.getsockname()))
    config = PoolConfig().replace(close_seconds=60)
    with anyio.move_on_after(0.1), pytest.raises(LookupError, match="mine"):
        async with sippool_anyio.open_pool(config=config) as pool:
            await until_stuck(pool, target, sip.request("MESSAGE", body=bytes(60000)))
            raise LookupError("mine")
    assert pool.is_closed


async def test_a_fault_of_the_driver_ends_the_body():
    class NoSelect(selectors.DefaultSelector):
        def select(self, timeout=None):
            raise OSError("out of order")

    class Broken(sippool_sync.SystemSockets):
        def open_selector(self):
            return NoSelect()

    with pytest.raises(OSError, match="out of order"):
        async with sippool_anyio.open_pool("udp:127.0.0.1:0", sockets=Broken()) as pool:
            await pool.receive()


async def test_a_cancelled_body_can_still_say_goodbye(peer, sip):
    target = Target(Transport.UDP, Address(*peer.getsockname()))
    with anyio.move_on_after(0.05) as scope:
        async with sippool_anyio.open_pool("udp:127.0.0.1:0") as pool:
            try:
                await pool.receive()
            finally:
                with anyio.CancelScope(shield=True):
                    await pool.send(sip.request("BYE", via="UDP"), target)
                    peer.sendto(sip.request("INFO", via="UDP"), address_of(pool))
                    assert (await pool.receive()).message.method == "INFO"
    assert scope.cancelled_caught
    assert peer.recv(65536).startswith(b"BYE ")


async def test_cancelled_receiving_loses_nothing(peer, sip):
    async with sippool_anyio.open_pool("udp:127.0.0.1:0") as pool:
        seen = 0
        while seen < 50:
            peer.sendto(sip.request(via="UDP", branch=str(seen)), address_of(pool))
            received = None
            while received is None:
                with anyio.move_on_after(0):
                    received = await pool.receive()
                await anyio.lowlevel.checkpoint()
            assert f"z9hG4bK{seen};" in sip.header(received.message, "Via")
            seen += 1


async def test_a_cancelled_wait_takes_the_send_back(deaf, sip):
    target = Target(Transport.TCP, Address(*deaf.getsockname()))
    big = sip.request("MESSAGE", body=bytes(60000))
    async with sippool_anyio.open_pool() as pool:
        under_way = await until_stuck(pool, target, big)
        behind = pool.send(sip.request("INFO"), target)
        for outcome in (behind, under_way):
            with anyio.move_on_after(0.01) as scope:
                await outcome
            assert scope.cancelled_caught
            with pytest.raises(sippool_anyio.SendCancelledError):
                await outcome
        last = pool.send(sip.request("BYE"), target)
        connection, _ = deaf.accept()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        with connection:
            connection.setblocking(False)
            data = b""
            while not data.endswith(b"\r\n\r\n"):
                await anyio.wait_readable(connection)
                data += connection.recv(2**20)
            count = data.count(b"MESSAGE sip:")
            assert data == big * count + sip.request("BYE")
            assert b"INFO sip:" not in data
        await last


async def test_awaiting_in_a_cancelled_scope_cancels_the_send(deaf, sip):
    target = Target(Transport.TCP, Address(*deaf.getsockname()))
    async with sippool_anyio.open_pool() as pool:
        outcome = await until_stuck(pool, target, sip.request("MESSAGE", body=bytes(60000)))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await outcome
        assert scope.cancelled_caught
        assert outcome.done
        assert pool.stats.sends_cancelled == 1


async def test_sending_in_a_loop_lets_others_run(peer, sip):
    ran = 0

    async def neighbour():
        nonlocal ran
        while True:
            await anyio.lowlevel.checkpoint()
            ran += 1

    async with (
        sippool_anyio.open_pool("udp:127.0.0.1:0") as pool,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(neighbour)
        target = Target(Transport.UDP, Address(*peer.getsockname()))
        for _ in range(20):
            await pool.send(sip.request(via="UDP"), target)
        assert ran >= 10
        tasks.cancel_scope.cancel()


async def test_taking_events_that_are_there_lets_others_run(peer, sip):
    ran = 0

    async def neighbour():
        nonlocal ran
        while True:
            await anyio.lowlevel.checkpoint()
            ran += 1

    async with (
        sippool_anyio.open_pool("udp:127.0.0.1:0") as pool,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(64):
            peer.sendto(sip.request(via="UDP"), address_of(pool))
        await pool.receive()
        tasks.start_soon(neighbour)
        for _ in range(63):
            await pool.receive()
        assert ran >= 2
        tasks.cancel_scope.cancel()


async def test_several_tasks_share_the_messages(peer, sip):
    seen = []

    async def consume(pool):
        async for received in pool:
            seen.append(received)
            await anyio.lowlevel.checkpoint()
            if len(seen) == 40:
                pool.close_soon()

    async with sippool_anyio.open_pool("udp:127.0.0.1:0") as pool:
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(consume, pool)
            for number in range(40):
                peer.sendto(sip.request(via="UDP", branch=str(number)), address_of(pool))
        assert len(seen) == 40
        with pytest.raises(PoolClosed):
            await pool.receive()


async def test_all_events(sip):
    async with sippool_anyio.open_pool("tcp:127.0.0.1:0") as pool:
        with socket.create_connection(address_of(pool)) as sock:
            sock.send(sip.request())
        kinds = []
        async for event in pool.events():
            kinds.append(type(event))
            if isinstance(event, MessageReceived):
                pool.reply(event, sip.answer(event.message))
            if isinstance(event, ConnectionClosed):
                await pool.aclose()
        assert kinds[0] is ConnectionOpened
        assert MessageReceived in kinds
        assert kinds[-1] is ConnectionClosed


async def test_closing_twice_and_while_others_wait(peer):
    async def receive(pool):
        with pytest.raises(PoolClosed):
            await pool.receive()

    async with sippool_anyio.open_pool("udp:127.0.0.1:0") as pool:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive, pool)
            tasks.start_soon(receive, pool)
            await anyio.lowlevel.checkpoint()
            await pool.aclose()
        await pool.aclose()


async def test_a_cancelled_closing_ends_at_once(deaf, sip):
    target = Target(Transport.TCP, Address(*deaf.getsockname()))
    config = PoolConfig().replace(close_seconds=60)
    with anyio.fail_after(10):
        async with sippool_anyio.open_pool(config=config) as pool:
            outcome = await until_stuck(pool, target, sip.request("MESSAGE", body=bytes(60000)))
            with anyio.move_on_after(0.05) as scope:
                await pool.aclose()
            assert scope.cancelled_caught
            assert pool.is_closed
            with pytest.raises(sippool_anyio.SendError):
                await outcome


async def test_deadlines_are_kept_while_nobody_waits():
    config = PoolConfig().replace(first_message_seconds=0.05)
    async with sippool_anyio.open_pool("tcp:127.0.0.1:0", config=config) as pool:
        with socket.create_connection(address_of(pool)):
            await anyio.sleep(0.3)
            assert isinstance(pool.take_event(), ConnectionOpened)
            closed = pool.take_event()
            assert isinstance(closed, ConnectionClosed)
            assert closed.reason is CloseReason.FIRST_MESSAGE_TIMEOUT


def test_another_clock():
    """A simulated one, with which twenty seconds take no time."""

    async def main():
        async with sippool_anyio.open_pool("tcp:127.0.0.1:0", clock=anyio.current_time) as pool:
            with socket.create_connection(address_of(pool)):
                began_at = anyio.current_time()
                events = pool.events()
                while not isinstance(event := await anext(events), ConnectionClosed):
                    pass
                assert event.reason is CloseReason.FIRST_MESSAGE_TIMEOUT
                assert 20 <= anyio.current_time() - began_at < 21

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.05))


async def test_a_deadline_that_a_call_makes_wakes_the_driver(deaf, sip):
    """The driver waits without any deadline when the call comes."""
    config = PoolConfig().replace(write_seconds=0.05)
    target = Target(Transport.TCP, Address(*deaf.getsockname()))
    async with sippool_anyio.open_pool(config=config) as pool:
        await anyio.sleep(0.02)
        outcome = await until_stuck(pool, target, sip.request("MESSAGE", body=bytes(60000)))
        with anyio.fail_after(5), pytest.raises(TimeoutError):
            await outcome


async def test_a_system_without_epoll_and_kqueue():
    class PlainSelect(sippool_sync.SystemSockets):
        def open_selector(self):
            return selectors.SelectSelector()

    with pytest.raises(sippool_anyio.NoDescriptor, match="SelectSelector"):
        async with sippool_anyio.open_pool(sockets=PlainSelect()):
            pytest.fail("it opened")


async def test_resolving():
    targets = await sippool_anyio.resolve("sips:localhost")
    assert Target(Transport.TLS, Address("127.0.0.1", 5061), "localhost") in targets
    assert await sippool_anyio.resolve("udp:192.0.2.7") == [
        Target(Transport.UDP, Address("192.0.2.7", 5060))
    ]
