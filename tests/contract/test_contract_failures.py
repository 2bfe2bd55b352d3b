"""What goes wrong, the same on every runtime: every send ends once, the pool lives on, nothing is left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import socket
import struct

import pytest

import sippool_sync
from sippool_core import (
    CloseReason,
    ConnectionClosed,
    PeerUnreachable,
    PoolClosed,
    PoolConfig,
    QueueFull,
    SendFailure,
    SendUnawaited,
    Target,
    TlsSettings,
    Transport,
)

RESET = struct.pack("ii", 1, 0)


def unused_port():
    """A port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def deaf_server(rt):
    """A server whose connections take very little."""
    server = rt.server()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return server, f"tcp:127.0.0.1:{server.getsockname()[1]}"


async def fill(rt, pool, target, message):
    """Send until nothing more is taken; the outcomes, the last of which are pending."""
    outcomes = []
    with contextlib.suppress(QueueFull):
        while len(outcomes) < 5000:
            outcomes.append(pool.send(message, target))
            if len(outcomes) == 1:
                await rt.ended(outcomes[0])
    return outcomes


async def test_a_refused_connection(rt, sip):
    async with rt.open() as pool:
        sent = pool.send(sip.request(), f"tcp:127.0.0.1:{unused_port()}")
        with pytest.raises(ConnectionRefusedError, match="ECONNREFUSED") as caught:
            await rt.outcome(sent)
        assert isinstance(caught.value, sippool_sync.SendError)
        assert caught.value.failed.reason is SendFailure.CONNECTION_REFUSED
        assert not caught.value.failed.bytes_may_be_out
        closed = await rt.event(pool, ConnectionClosed)
        assert closed.reason is CloseReason.CONNECT_FAILED


async def test_an_address_that_cannot_be_connected_to(rt, sip):
    """A link-local address without its link is refused at once."""
    async with rt.open() as pool:
        with pytest.raises(OSError, match="unreachable") as caught:
            await rt.outcome(pool.send(sip.request(), "tcp:[fe80::1]:5060"))
        assert caught.value.failed.reason is SendFailure.UNREACHABLE


async def test_a_failure_that_nobody_holds_becomes_an_event(rt, sip):
    async with rt.open() as pool:
        pool.send(sip.request(), f"tcp:127.0.0.1:{unused_port()}")
        unawaited = await rt.event(pool, SendUnawaited)
        assert unawaited.failed.reason is SendFailure.CONNECTION_REFUSED


async def test_a_failure_that_is_dropped_unseen_becomes_an_event(rt, sip):
    async with rt.open() as pool:
        outcome = pool.send(sip.request(), f"tcp:127.0.0.1:{unused_port()}")
        await rt.until(lambda: outcome.done)
        await rt.event(pool, ConnectionClosed)
        assert pool.take_event() is None
        outcome = None
        gc.collect()
        await rt.event(pool, SendUnawaited)


async def test_a_failure_that_was_seen_is_no_event(rt, sip):
    async with rt.open() as pool:
        outcome = pool.send(sip.request(), f"tcp:127.0.0.1:{unused_port()}")
        with pytest.raises(ConnectionRefusedError):
            await rt.outcome(outcome)
        del outcome
        gc.collect()
        await rt.turn()
        await rt.event(pool, ConnectionClosed)
        assert pool.take_event() is None


async def test_no_descriptor_for_a_new_connection(rt, sip):
    server = rt.server()
    async with rt.open() as pool:
        with no_descriptors():
            sent = pool.send(sip.request(), f"tcp:127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(OSError, match="EMFILE"):
            await rt.ended(sent)


async def test_accepting_without_descriptors_pauses_and_goes_on(rt, sip):
    async with rt.open("tcp:127.0.0.1:0") as pool:
        peer = rt.dial(pool.listeners[0].address)
        with no_descriptors():
            await rt.until(lambda: pool.stats.accept_failures)
            for _ in range(5):
                await rt.turn()
            assert pool.stats.accept_failures == 1, "it must not spin"
        peer.send(sip.request())
        await rt.message(pool)


async def test_peers_that_reset_at_once_do_no_harm(rt, sip):
    async with rt.open("tcp:127.0.0.1:0") as pool:
        address = pool.listeners[0].address
        for number in range(100):
            peer = socket.create_connection((address.host, address.port))
            if number % 2:
                peer.send(sip.request()[: number * 4])
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            peer.close()
        last = rt.dial(address)
        last.send(sip.request("INFO"))
        while (await rt.message(pool)).message.method != "INFO":
            pass
        await rt.until(lambda: pool.stats.connections == 1)


async def test_a_peer_that_does_not_read_fills_its_own_queue_only(rt, sip):
    server, target = deaf_server(rt)
    config = PoolConfig().replace(write_seconds=0.3)
    async with rt.open(config=config) as pool:
        big = sip.request("MESSAGE", body=bytes(60000))
        outcomes = await fill(rt, pool, target, big)
        assert not outcomes[-1].done
        with pytest.raises(QueueFull, match="wait for"):
            pool.send(big, target)

        other = rt.server()
        await rt.ended(pool.send(sip.request(), f"tcp:127.0.0.1:{other.getsockname()[1]}"))

        with pytest.raises(TimeoutError) as caught:
            await rt.outcome(outcomes[-1])
        assert caught.value.failed.reason is SendFailure.WRITE_TIMEOUT
        assert not caught.value.failed.bytes_may_be_out
        await rt.until(lambda: all(outcome.done for outcome in outcomes))
        peer = await rt.accept(server)
        with pytest.raises(ConnectionResetError):
            await rt.read(peer, len(big) * len(outcomes))


async def test_a_cancelled_send_leaves_the_stream_whole(rt, sip):
    """One in the middle of its bytes goes on; one behind it is taken back; what comes later is whole."""
    server, target = deaf_server(rt)
    async with rt.open() as pool:
        big = sip.request("MESSAGE", body=bytes(60000))
        outcomes = await fill(rt, pool, target, big)
        pending = [outcome for outcome in outcomes if not outcome.done]
        assert len(pending) >= 3
        for outcome in (pending[0], pending[-1]):
            outcome.cancel()
            with pytest.raises(sippool_sync.SendCancelledError):
                outcome.result()
        peer = await rt.accept(server)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        last = pool.send(sip.request("INFO"), target)
        size = len(big) * (len(outcomes) - 1)
        assert (await rt.read(peer, size)) == big * (len(outcomes) - 1)
        assert (await rt.read_message(peer)).startswith(b"INFO ")
        await rt.ended(last)


async def test_a_peer_that_goes_away_ends_the_sends(rt, sip):
    server, target = deaf_server(rt)
    async with rt.open() as pool:
        outcomes = await fill(rt, pool, target, sip.request("MESSAGE", body=bytes(60000)))
        peer = await rt.accept(server)
        server.close()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        peer.close()
        await rt.until(lambda: all(outcome.done for outcome in outcomes))
        with pytest.raises(ConnectionError):
            outcomes[-1].result()
        closed = await rt.event(pool, ConnectionClosed)
        assert closed.reason is CloseReason.RESET


async def test_the_answer_to_a_flow_that_is_gone(rt, sip):
    async with rt.open("tcp:127.0.0.1:0") as pool:
        peer = rt.dial(pool.listeners[0].address)
        peer.send(sip.request())
        received = await rt.message(pool)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        peer.close()
        await rt.event(pool, ConnectionClosed)
        with pytest.raises(ConnectionError, match="flow failed"):
            await rt.outcome(pool.reply(received, sip.answer(received.message)))


async def test_an_icmp_error_is_news_and_the_next_datagram_still_goes(rt, sip):
    peer = rt.udp()
    ours = rt.udp()
    ours.connect(peer.getsockname())
    address = peer.getsockname()
    async with rt.open(ours) as pool:
        peer.close()
        target = Target.parse(f"udp:127.0.0.1:{address[1]}")
        for _ in range(3):
            await rt.outcome(pool.send(sip.request(via="UDP"), target))
        unreachable = await rt.event(pool, PeerUnreachable)
        assert unreachable.detail == "ECONNREFUSED"
        assert unreachable.flow.peer.port == address[1]
        again = rt.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        again.bind(address)
        await rt.outcome(pool.send(sip.request("INFO", via="UDP"), target))
        assert (await rt.datagram(again)).startswith(b"INFO ")


async def test_closing_ends_every_send(rt, sip):
    server, target = deaf_server(rt)
    config = PoolConfig().replace(close_seconds=0.2)
    async with rt.open(config=config) as pool:
        outcomes = await fill(rt, pool, target, sip.request("MESSAGE", body=bytes(60000)))
        connecting = pool.send(sip.request(), "tcp:192.0.2.1:5060")
        await rt.close(pool)
        assert pool.is_closed
        assert all(outcome.done for outcome in outcomes)
        for outcome in (outcomes[-1], connecting):
            with pytest.raises(OSError, match=r"pool closed|unreachable"):
                outcome.result()
        with pytest.raises(PoolClosed):
            pool.send(sip.request(), target)
        with pytest.raises(PoolClosed):
            await rt.receive(pool)
        assert server is not None


async def test_closing_flushes_what_is_queued(rt, sip):
    server, target = deaf_server(rt)
    async with rt.open(config=PoolConfig().replace(close_seconds=10)) as pool:
        big = sip.request("MESSAGE", body=bytes(60000))
        outcomes = await fill(rt, pool, target, big)
        peer = await rt.accept(server)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        pool.close_flow((await rt.ended(outcomes[0])).flow)
        assert await rt.read(peer, len(big) * len(outcomes) + 1) == big * len(outcomes)
        await rt.until(lambda: all(outcome.done for outcome in outcomes))
        assert outcomes[-1].result()


async def test_a_failed_tls_handshake(rt, sip, server_certificate):
    tls = TlsSettings(certificate=server_certificate.certificate, key=server_certificate.key)
    async with rt.open("tls:127.0.0.1:0", tls=tls) as server, rt.open() as client:
        target = Target(Transport.TLS, server.listeners[0].address)
        with pytest.raises(OSError, match="handshake failed"):
            await rt.ended(client.send(sip.request(via="TLS"), target))
        await rt.event(server, ConnectionClosed)


@contextlib.contextmanager
def no_descriptors():
    """The process may open nothing more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
