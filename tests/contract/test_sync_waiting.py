"""What only the sync pool has: timeouts, foreign loops, threads."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time

import pytest

import sippool_sync
from sippool_core import (
    Address,
    CloseReason,
    ConnectionClosed,
    MessageReceived,
    PeerFinished,
    PoolClosed,
    PoolConfig,
    SendFailure,
    Target,
    Transport,
)


@pytest.fixture
def pool():
    with sippool_sync.open_pool("udp:127.0.0.1:0", "tcp:127.0.0.1:0") as pool:
        yield pool


@pytest.fixture
def peer(pool):
    """A UDP socket connected to the pool's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(address_of(pool.listeners[0]))
        yield sock


def address_of(listener):
    return (listener.address.host, listener.address.port)


def test_iterating_ends_when_the_pool_is_closed_within(pool, peer, sip):
    for number in range(3):
        peer.send(sip.request(via="UDP", branch=str(number)))
    seen = 0
    for received in pool:
        seen += 1
        pool.reply(received, sip.answer(received.message))
        pool.close()
    assert seen == 1
    assert peer.recv(65536).startswith(b"SIP/2.0 200 ")
    pool.close()
    assert list(pool) == []


def test_iterating_may_be_left_and_taken_up_again(pool, peer, sip):
    for number in range(2):
        peer.send(sip.request(via="UDP", branch=str(number)))
    for number in range(2):
        for received in pool:
            assert f"z9hG4bK{number};" in sip.header(received.message, "Via")
            break


def test_events_that_are_left_come_before_the_end(pool, sip):
    with socket.create_connection(address_of(pool.listeners[1])) as sock:
        sock.send(sip.request())
        pool.receive(5)
        pool.close()
    assert isinstance(pool.next_event(), ConnectionClosed)
    with pytest.raises(PoolClosed):
        pool.next_event()
    pool.process()


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_timeout_of_the_caller(pool, timeout):
    with pytest.raises(TimeoutError):
        pool.receive(timeout)
    with pytest.raises(TimeoutError):
        pool.next_event(timeout)


def test_other_events_do_not_prolong_a_timeout(pool):
    with socket.create_connection(address_of(pool.listeners[1])), pytest.raises(TimeoutError):
        pool.receive(0.05)


def test_an_outcome_that_is_not_awaited_for_longer_is_cancelled(pool, sip):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        target = Target(Transport.TCP, Address(*server.getsockname()))
        outcome = pool.send(sip.request(), target)
        outcome.wait(5)
        while outcome.done:
            outcome = pool.send(sip.request("MESSAGE", body=bytes(60000)), target)
        with pytest.raises(TimeoutError, match="cancelled"):
            outcome.wait(0.01)
        assert outcome.done
        with pytest.raises(sippool_sync.SendCancelledError):
            outcome.result()
        outcome.cancel()


def test_the_result_before_the_end(pool, sip):
    with socket.create_server(("127.0.0.1", 0)) as server:
        outcome = pool.send(sip.request(), Target(Transport.TCP, Address(*server.getsockname())))
        assert "pending" in repr(outcome)
        with pytest.raises(RuntimeError, match="not ended"):
            outcome.result()
        assert outcome.wait(5) is outcome.result()


def test_deadlines_are_kept_while_waiting(sip):
    config = PoolConfig().replace(first_message_seconds=0.05)
    with (
        sippool_sync.open_pool("tcp:127.0.0.1:0", config=config) as pool,
        socket.create_connection(address_of(pool.listeners[0])),
    ):
        pool.next_event(5)
        closed = pool.next_event(5)
        assert isinstance(closed, ConnectionClosed)
        assert closed.reason is CloseReason.FIRST_MESSAGE_TIMEOUT


def test_a_slow_application_does_not_hold_up_a_pong(pool, peer, sip):
    with socket.create_connection(address_of(pool.listeners[1])) as other:
        other.settimeout(5)
        pool.next_event(5)
        for number in range(20):
            peer.send(sip.request(via="UDP", branch=str(number)))
        pool.next_event(5)
        other.send(b"\r\n\r\n")
        time.sleep(0.02)
        received = pool.next_event(0)
        assert isinstance(received, MessageReceived), "it took what was there already"
        assert other.recv(2) == b"\r\n"


def test_a_foreign_loop_waits_and_lets_go(pool, peer, sip):
    """Attach and detach: the pool needs nothing from the loop but to be watched."""
    peer.send(sip.request(via="UDP"))
    with selectors.DefaultSelector() as loop:
        loop.register(pool.fileno(), selectors.EVENT_READ, pool.process)
        for key, _ in loop.select(5):
            key.data()
        received = pool.take_event()
        assert isinstance(received, MessageReceived)
        pool.reply(received, sip.answer(received.message))
        assert peer.recv(65536).startswith(b"SIP/2.0 200 ")
        assert loop.select(0) == [], "it does not spin"
        loop.unregister(pool.fileno())
    peer.send(sip.request("INFO", via="UDP"))
    assert pool.receive(5).message.method == "INFO"


def test_sockets_that_are_not_to_be_read_do_not_spin(pool, sip):
    """Neither one whose peer has finished, nor one that waits for the application."""
    with (
        socket.create_connection(address_of(pool.listeners[1])) as finished,
        selectors.DefaultSelector() as loop,
    ):
        finished.send(sip.request())
        finished.shutdown(socket.SHUT_WR)
        while not isinstance(pool.next_event(5), PeerFinished):
            pass
        loop.register(pool.fileno(), selectors.EVENT_READ)
        assert loop.select(0) == []

    config = PoolConfig().replace(max_events=2)
    with (
        sippool_sync.open_pool("tcp:127.0.0.1:0", config=config) as other,
        socket.create_connection(address_of(other.listeners[0])) as paused,
        selectors.DefaultSelector() as loop,
    ):
        paused.send(sip.request() * 4)
        loop.register(other.fileno(), selectors.EVENT_READ)
        for _ in range(3):
            loop.select(0.05)
            other.process()
        paused.send(sip.request() * 4)
        with socket.create_connection(address_of(other.listeners[0])):
            other.process()
            assert loop.select(0.05) == []


def test_a_foreign_loop_keeps_the_deadlines(sip):
    config = PoolConfig().replace(first_message_seconds=0.05)
    closed = []

    def handle(_pool, event):
        if isinstance(event, ConnectionClosed):
            closed.append(event)

    with (
        sippool_sync.open_pool("tcp:127.0.0.1:0", config=config, handler=handle) as pool,
        socket.create_connection(address_of(pool.listeners[0])),
        selectors.DefaultSelector() as loop,
    ):
        loop.register(pool.fileno(), selectors.EVENT_READ)
        turns = 0
        while not closed:
            deadline = pool.next_deadline()
            left = 5 if deadline is None else max(0.0, deadline - pool.clock())
            loop.select(left)
            pool.process()
            turns += 1
        assert turns < 10, "it does not spin"


def test_wake_interrupts_waiting(pool):
    for word in (pool.receive, pool.next_event):
        waker = threading.Timer(0.02, pool.wake)
        waker.start()
        with pytest.raises(InterruptedError):
            word()
        waker.join()


def test_a_failure_that_was_dropped_wakes_nobody(pool, sip):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        outcome = pool.send(sip.request(), Target(Transport.TCP, Address(*sock.getsockname())))
        while not outcome.done:
            pool.process()
    del outcome
    with pytest.raises(TimeoutError):
        pool.receive(0.05)


def test_wake_does_not_end_an_iteration(pool, peer, sip):
    pool.wake()
    sender = threading.Timer(0.02, lambda: peer.send(sip.request(via="UDP")))
    sender.start()
    assert next(pool).message.method == "OPTIONS"
    sender.join()


def test_run_drives_a_pool_with_a_handler():
    events = []

    def handle(pool, event):
        events.append(event)
        if isinstance(event, ConnectionClosed):
            pool.close()

    with sippool_sync.open_pool("tcp:127.0.0.1:0", handler=handle) as pool:
        pool.run(0.01)
        assert events == []
        waker = threading.Timer(0.02, pool.wake)
        waker.start()
        pool.run()
        waker.join()
        with socket.create_connection(address_of(pool.listeners[0])):
            pool.run(0.05)
        pool.run()
        assert pool.is_closed
        assert isinstance(events[-1], ConnectionClosed)
        pool.run()
    pool.wake()


def test_a_pool_has_one_thread(pool):
    caught = []

    def misuse():
        for word in (pool.receive, pool.process, pool.take_event, pool.close):
            with pytest.raises(RuntimeError, match="thread") as error:
                word()
            caught.append(error)

    thread = threading.Thread(target=misuse)
    thread.start()
    thread.join()
    assert len(caught) == 4


def test_an_interrupt_from_the_keyboard_passes(sip):
    def handle(pool, event):
        raise KeyboardInterrupt

    with (
        sippool_sync.open_pool("udp:127.0.0.1:0", handler=handle) as pool,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.sendto(sip.request(via="UDP"), address_of(pool.listeners[0]))
        with pytest.raises(KeyboardInterrupt):
            pool.run(5)
        pool.run(0)


def test_closing_within_a_time(sip):
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        pool = stack.enter_context(
            sippool_sync.open_pool(config=PoolConfig().replace(close_seconds=60))
        )
        target = Target(Transport.TCP, Address(*server.getsockname()))
        outcome = pool.send(sip.request(), target)
        outcome.wait(5)
        while outcome.done:
            outcome = pool.send(sip.request("MESSAGE", body=bytes(60000)), target)
        pool.close(timeout=0.05)
        assert pool.is_closed
        with pytest.raises(sippool_sync.SendError) as caught:
            outcome.wait()
        assert caught.value.failed.reason is SendFailure.POOL_CLOSED


def test_resolving():
    assert sippool_sync.resolve("sip:192.0.2.7;transport=tcp") == [
        Target(Transport.TCP, Address("192.0.2.7", 5060))
    ]
    assert sippool_sync.resolve("sips:[2001:db8::1]") == [
        Target(Transport.TLS, Address("2001:db8::1", 5061))
    ]
    targets = sippool_sync.resolve("sips:localhost")
    assert Target(Transport.TLS, Address("127.0.0.1", 5061), "localhost") in targets
    assert len(set(targets)) == len(targets)
    with pytest.raises(OSError):
        sippool_sync.resolve("sip:no-such-name.invalid")
