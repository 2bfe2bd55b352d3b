"""The driver itself, where an adapter would hide it: its bounds, its end, systems that lack something."""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import time

import pytest

import sippool_sync
from sippool_core import Address, PoolClosed, PoolConfig, SendFailed, SendFailure, Target, Transport


def address_of(listener):
    return (listener.address.host, listener.address.port)


@pytest.fixture
def dial():
    """Makes connections of the test."""
    made = []

    def dial(listener):
        made.append(socket.create_connection(address_of(listener)))
        return made[-1]

    yield dial
    for sock in made:
        sock.close()


class Clock:
    """The real time, and what a test adds to it."""

    ahead = 0.0

    def __call__(self):
        return time.monotonic() + self.ahead


def settled(driver, connections):
    """Step until so many connections are accepted and their events are taken."""
    while driver.core.stats.connections < connections:
        driver.step(1)
    while driver.next_event() is not None:
        pass


def test_a_step_takes_sixteen_sockets_and_the_next_one_the_others(dial, sip):
    driver = sippool_sync.Driver()
    listener = driver.listen("tcp:127.0.0.1:0")
    peers = [dial(listener) for _ in range(40)]
    settled(driver, 40)
    for peer in peers:
        peer.send(sip.request())
    counts = []
    while driver.core.stats.messages_received < 40:
        driver.step(1)
        counts.append(driver.core.stats.messages_received)
    assert counts == [16, 32, 40]
    driver.finish()
    driver.shut()


def test_a_socket_that_is_closed_before_its_turn(dial, sip):
    """It was ready, was closed within the same step, and must not be touched in the next."""
    clock = Clock()
    driver = sippool_sync.Driver(PoolConfig().replace(connect_seconds=5), clock=clock)
    listener = driver.listen("tcp:127.0.0.1:0")
    peers = [dial(listener) for _ in range(16)]
    settled(driver, 16)
    with socket.create_server(("127.0.0.1", 0)) as server:
        for peer in peers:
            peer.send(sip.request())
        target = Target(Transport.TCP, Address(*server.getsockname()))
        send_id = driver.core.send(sip.request(), target, now=driver.enter())
        outcome = sippool_sync.Outcome(driver, send_id)
        driver.track(outcome)
        clock.ahead = 6
        driver.step()
        assert outcome.done
        with pytest.raises(sippool_sync.SendTimeoutError) as caught:
            outcome.result()
        assert caught.value.failed.reason is SendFailure.CONNECT_TIMEOUT
        driver.step()
    driver.finish()
    driver.shut()


def test_an_outcome_tells_what_it_is(sip):
    driver = sippool_sync.Driver()
    outcome = sippool_sync.Outcome(driver, 7)
    assert repr(outcome) == "<Outcome 7: pending>"
    outcome.end(SendFailed(7, SendFailure.UNREACHABLE, False, None))
    with pytest.raises(sippool_sync.SendError, match=r"^sending failed: unreachable$"):
        outcome.result()
    driver.finish()
    driver.shut()


def test_no_waiting_of_nagle(sip):
    opened = []

    class Sockets(sippool_sync.SystemSockets):
        def open_stream(self, peer, local):
            opened.append(super().open_stream(peer, local))
            return opened[-1]

    with (
        sippool_sync.open_pool(sockets=Sockets()) as pool,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        pool.send(sip.request(), Target(Transport.TCP, Address(*server.getsockname()))).wait(5)
        assert opened[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not opened[0].get_inheritable()


def test_both_families_share_a_port():
    with sippool_sync.open_pool("udp:0.0.0.0:0", "tcp:0.0.0.0:0") as pool:
        for listener in pool.listeners:
            pool.add_listener(f"{listener.transport.value}:[::]:{listener.address.port}")


def test_a_restart_finds_its_port_free(dial):
    with sippool_sync.open_pool("tcp:127.0.0.1:0") as pool:
        place = str(pool.listeners[0])
        peer = dial(pool.listeners[0])
        pool.next_event(5)
    assert peer.recv(1) == b"", "the pool closed first, so its side is in TIME_WAIT"
    with sippool_sync.open_pool(place) as pool:
        assert str(pool.listeners[0]) == place


def test_nobody_takes_datagrams_away():
    with (
        sippool_sync.open_pool("udp:127.0.0.1:0") as pool,
        pytest.raises(OSError, match="in use"),
        sippool_sync.open_pool(str(pool.listeners[0])),
    ):
        pytest.fail("it opened")


def test_a_shut_driver():
    driver = sippool_sync.Driver()
    driver.finish()
    driver.shut()
    driver.shut()
    driver.wake()
    with pytest.raises(PoolClosed):
        driver.step()


def test_what_is_imported():
    """Scripts pay for neither an event loop nor TLS before they use it."""
    text = (
        "import sys, sippool_sync; print(*{'asyncio', 'anyio', 'trio', 'ssl'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


class PlainSelect(sippool_sync.SystemSockets):
    """A system whose selector has no descriptor."""

    def open_selector(self):
        return selectors.SelectSelector()


def test_a_system_without_epoll_and_kqueue(sip):
    with (
        sippool_sync.open_pool("udp:127.0.0.1:0", sockets=PlainSelect()) as pool,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.sendto(sip.request(via="UDP"), address_of(pool.listeners[0]))
        assert pool.receive(5)
        with pytest.raises(sippool_sync.NoDescriptor, match="SelectSelector"):
            pool.fileno()


def test_an_interrupt_while_closing_ends_it(sip):
    class Interrupting(selectors.DefaultSelector):
        armed = False

        def select(self, timeout=None):
            if self.armed:
                self.armed = False
                raise KeyboardInterrupt
            return super().select(timeout)

    selector = Interrupting()

    class Sockets(sippool_sync.SystemSockets):
        def open_selector(self):
            return selector

    config = PoolConfig().replace(close_seconds=60)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        target = Target(Transport.TCP, Address(*server.getsockname()))
        pool = sippool_sync.open_pool(config=config, sockets=Sockets())
        outcome = pool.send(sip.request(), target)
        outcome.wait(5)
        while outcome.done:
            outcome = pool.send(sip.request("MESSAGE", body=bytes(60000)), target)
        selector.armed = True
        with pytest.raises(KeyboardInterrupt):
            pool.close()
        assert pool.is_closed
        assert outcome.done
