"""What Net::SIP::SocketPool does wrongly with real sockets, done right: on every runtime where all have the word.

The ids are those of the table in docs/from-net-sip.md. What the contract suite shows already is not shown again.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import ssl
import struct
import time
import warnings

import pytest

import sippool_sync
from sippool_core import (
    ClientVerification,
    CloseReason,
    ConnectionClosed,
    ConnectionOpened,
    FramingFailed,
    PoolConfig,
    Target,
    TlsSettings,
    Transport,
)

RESET = struct.pack("ii", 1, 0)
PATIENCE_SECONDS = 10.0


def descriptors():
    return len(os.listdir("/proc/self/fd")) - 1


def probe(*ids):
    """Puts the ids of probes into the id of a test that needs no other parameter."""
    return pytest.mark.parametrize("_probe", [pytest.param(None, id="-".join(ids))])


def address_of(listener):
    return (listener.address.host, listener.address.port)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


@pytest.fixture
def server_tls(server_certificate):
    return TlsSettings(certificate=server_certificate.certificate, key=server_certificate.key)


# Signals and descriptors.


@contextlib.contextmanager
def sigpipe_by_default():
    """The default disposition, which kills; blocked, so that a signal that was sent can be seen."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        yield
        assert signal.SIGPIPE not in signal.sigpending(), "SIGPIPE would have killed the process"
    finally:
        while signal.sigtimedwait({signal.SIGPIPE}, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPIPE})
        signal.signal(signal.SIGPIPE, before)


@probe("C10")
async def test_a_peer_that_closes_before_its_answers_sends_no_signal(rt, sip, _probe):
    with sigpipe_by_default():
        async with rt.open("tcp:127.0.0.1:0") as pool:
            peer = rt.dial(pool.listeners[0].address)
            peer.send(b"".join(sip.request(branch=f"{n}") for n in range(3)))
            peer.close()
            received = [await rt.message(pool) for _ in range(3)]
            for event in received:
                pool.reply(event, sip.answer(event.message))
                await rt.turn()
            closed = await rt.event(pool, ConnectionClosed)
            assert (closed.reason, closed.detail) == (CloseReason.RESET, "EPIPE")


@probe("R15")
async def test_an_origin_that_is_kept_keeps_no_descriptor(rt, sip, _probe):
    async with rt.open("tcp:127.0.0.1:0") as pool:
        before = descriptors()
        origins = []
        for number in range(20):
            peer = rt.dial(pool.listeners[0].address)
            peer.send(sip.request("ACK", branch=f"{number}"))
            origins.append(await rt.message(pool))
            peer.close()
            await rt.event(pool, ConnectionClosed)
        assert descriptors() == before
        assert len({origin.flow.peer for origin in origins}) == 20  # usable still


@probe("R16")
async def test_pipelined_requests_and_a_reset_leave_no_descriptor(rt, sip, _probe):
    async with rt.open("tcp:127.0.0.1:0") as pool:
        before = descriptors()
        for _ in range(30):
            peer = rt.dial(pool.listeners[0].address)
            peer.send(b"".join(sip.request(branch=f"{n}") for n in range(20)))
            first = await rt.message(pool)
            reset(peer)
            pool.reply(first, sip.answer(first.message))
            await rt.turn()
        await rt.until(lambda: not pool.stats.connections)
        assert descriptors() == before
        # The answers that are still owed have nowhere to go, and open nothing.
        while (event := pool.take_event()) is not None:
            if hasattr(event, "message"):
                outcome = pool.reply(event, sip.answer(event.message))
                with pytest.raises(ConnectionError, match="flow failed"):
                    outcome.result()
        assert descriptors() == before and pool.stats.connections_opened == 0


@pytest.mark.parametrize("sent", [pytest.param(0, id="E06"), pytest.param(100, id="E07")])
async def test_a_stalled_tls_handshake_is_closed_and_its_descriptor_with_it(rt, sent, server_tls):
    config = PoolConfig().replace(handshake_seconds=0.3)
    async with rt.open("tls:127.0.0.1:0", tls=server_tls, config=config) as pool:
        hello = client_hello()
        peers = [rt.dial(pool.listeners[0].address) for _ in range(10)]
        before = descriptors()
        for peer in peers:
            peer.send(hello[:sent])
        await rt.until(lambda: pool.stats.connections == 10)
        assert descriptors() == before + 10
        for _ in peers:
            closed = await rt.event(pool, ConnectionClosed)
            assert closed.reason is CloseReason.HANDSHAKE_TIMEOUT
        assert descriptors() == before
        for peer in peers:
            assert await rt.read(peer, 1) == b""  # they see our FIN


def client_hello():
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="server.test")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def nodelay_at(port):
    """Of each TCP connection of this process with that port at our end, whether it has TCP_NODELAY."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            copy = os.dup(int(name))
        except OSError:
            continue
        try:
            sock = socket.socket(fileno=copy)
        except OSError:
            os.close(copy)
            continue
        with sock, contextlib.suppress(OSError):
            if sock.getpeername() and sock.getsockname()[1] == port:
                found.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    return found


@probe("M05")
async def test_nagle_holds_nothing_back(rt, sip, _probe):
    async with rt.open("tcp:127.0.0.1:0") as server, rt.open() as client:
        port = server.listeners[0].address.port
        sent = client.send(sip.request(), f"tcp:127.0.0.1:{port}")
        await rt.message(server)
        outbound = (await rt.ended(sent)).flow.local.port
        for ours in (port, outbound):
            options = nodelay_at(ours)
            assert options and all(options)


# The life of a pool.


@probe("C15")
async def test_a_pool_that_is_left_listens_no_more(rt, _probe):
    async with rt.open("tcp:127.0.0.1:0") as pool:
        address = pool.listeners[0].address
        rt.dial(address)
        await rt.event(pool, ConnectionOpened)
    with pytest.raises(ConnectionRefusedError):
        rt.dial(address)


@probe("C15")
def test_a_pool_that_is_dropped_without_a_word_listens_no_more(_probe):
    pool = sippool_sync.open_pool("tcp:127.0.0.1:0")
    address = address_of(pool.listeners[0])
    with socket.create_connection(address) as peer:
        peer.settimeout(PATIENCE_SECONDS)
        pool.next_event(PATIENCE_SECONDS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # Python's own remark
            del pool
            gc.collect()
        assert peer.recv(1) == b""
    with pytest.raises(ConnectionRefusedError), socket.create_connection(address):
        pass


class ForeignLoop:
    """Somebody's loop, which a pool is hung into and taken out of."""

    def __init__(self, pool):
        self.pool = pool

    def __enter__(self):
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.pool.fileno(), selectors.EVENT_READ)
        return self

    def __exit__(self, *_):
        self.selector.close()

    def until(self, condition):
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < ends_at, "in vain"
            deadline = self.pool.next_deadline()
            left = 0.02 if deadline is None else min(0.02, deadline - self.pool.clock())
            self.selector.select(max(0.0, left))
            self.pool.process()


def take(pool, kind):
    while (event := pool.take_event()) is not None:
        if isinstance(event, kind):
            return event
    return None


@probe("C13")
def test_what_is_sent_while_detached_goes_out_now_or_when_attached_again(sip, _probe):
    with (
        sippool_sync.open_pool("udp:127.0.0.1:0", "tcp:127.0.0.1:0") as pool,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.create_connection(address_of(pool.listeners[1])) as accepted,
    ):
        datagrams.bind(("127.0.0.1", 0))
        for sock in (server, datagrams, accepted):
            sock.settimeout(PATIENCE_SECONDS)
        opened = []
        with ForeignLoop(pool) as loop:
            loop.until(lambda: opened.append(take(pool, ConnectionOpened)) or opened[-1])
        # Detached now.
        sends = [
            pool.send(sip.request(via="UDP"), f"udp:127.0.0.1:{datagrams.getsockname()[1]}"),
            pool.send(sip.request(branch="existing"), flow=opened[-1].flow),
            pool.send(sip.request(branch="new"), f"tcp:127.0.0.1:{server.getsockname()[1]}"),
        ]
        assert datagrams.recv(65536).startswith(b"OPTIONS ")
        assert b"z9hG4bKexisting;" in accepted.recv(65536)
        assert [outcome.done for outcome in sends[:2]] == [True, True]
        with ForeignLoop(pool) as loop:
            loop.until(lambda: sends[2].done)
        assert all(outcome.result() for outcome in sends)
        with server.accept()[0] as dialled:
            dialled.settimeout(PATIENCE_SECONDS)
            assert b"z9hG4bKnew;" in dialled.recv(65536)


@pytest.mark.parametrize("attached_again", [pytest.param(True, id="E12")])
def test_idle_connections_expire_after_the_pool_was_detached(sip, attached_again):
    config = PoolConfig().replace(min_idle_seconds=0.1, max_idle_seconds=0.1)
    with sippool_sync.open_pool("tcp:127.0.0.1:0", config=config) as pool:
        closed = []

        def is_closed():
            closed.extend(filter(None, [take(pool, ConnectionClosed)]))
            return closed

        with socket.create_connection(address_of(pool.listeners[0])) as first:
            first.send(sip.request("ACK"))
            with ForeignLoop(pool) as loop:
                loop.until(lambda: pool.stats.messages_received == 1)
            time.sleep(0.15)  # detached; what has become due meanwhile runs at once
            assert pool.next_deadline() <= pool.clock()
            pool.process()
            assert is_closed() and closed.pop().reason is CloseReason.EXPIRED
        with (
            socket.create_connection(address_of(pool.listeners[0])) as second,
            ForeignLoop(pool) as loop,
        ):
            second.send(sip.request("ACK"))
            loop.until(is_closed)
            assert closed[0].reason is CloseReason.EXPIRED


@probe("T13")
def test_a_tls_handshake_outlives_detaching(sip, server_tls, ca, _probe):
    with (
        sippool_sync.open_pool("tls:127.0.0.1:0", tls=server_tls) as pool,
        socket.create_connection(address_of(pool.listeners[0])) as sock,
    ):
        sock.settimeout(0.0)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=ca.file)
        tls = context.wrap_bio(incoming, outgoing, server_hostname="server.test")
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = outgoing.read()

        def shakes():
            with contextlib.suppress(BlockingIOError):
                incoming.write(sock.recv(65536))
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                return False
            return True

        with ForeignLoop(pool) as loop:
            sock.send(hello[:100])
            loop.until(lambda: pool.stats.connections == 1)
            pool.process()
        sock.send(hello[100:])  # detached, in the middle of the handshake
        time.sleep(0.02)
        with ForeignLoop(pool) as loop:
            loop.until(shakes)
            tls.write(sip.request(via="TLS"))
            sock.send(outgoing.read())
            loop.until(lambda: pool.stats.messages_received)


# The end of a TLS connection, as a peer of plain `ssl` sees it.


async def tls_peer(rt, address, ca):
    """A connected client that tells a cut stream (`SSLEOFError`) from a closed one (`b""`)."""
    context = ssl.create_default_context(cafile=ca.file)
    sock = rt.dial(address)
    tls = rt.keep(
        context.wrap_socket(
            sock,
            server_hostname="server.test",
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
    )

    def shakes():
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
            return True

    await rt.until(shakes)
    return tls


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("expiry", id="T08-expiry"),
        pytest.param("protocol error", id="T08-protocol-error"),
        pytest.param("close", id="T08-close"),
    ],
)
async def test_close_notify_comes_before_the_end(rt, sip, end, server_tls, ca):
    config = PoolConfig().replace(min_idle_seconds=0.2, max_idle_seconds=0.2)
    async with rt.open("tls:127.0.0.1:0", tls=server_tls, config=config) as pool:
        peer = await tls_peer(rt, pool.listeners[0].address, ca)
        opened = await rt.event(pool, ConnectionOpened)
        peer.send(sip.request("ACK", via="TLS"))
        await rt.message(pool)
        if end == "protocol error":
            peer.send(b"GET / HTTP/1.1\r\n\r\n")
            await rt.event(pool, FramingFailed)
        elif end == "close":
            pool.close_flow(opened.flow)
        seen = []

        def ended():
            with contextlib.suppress(ssl.SSLWantReadError):
                seen.append(peer.recv(100))
                return True

        await rt.until(ended)
        peer.close()
        assert seen == [b""]


# Time.


@pytest.mark.parametrize("step", [pytest.param(3600, id="E10"), pytest.param(-3600, id="E11")])
async def test_the_wall_clock_may_be_set_at_any_time(rt, sip, step, monkeypatch):
    config = PoolConfig().replace(min_idle_seconds=0.25, max_idle_seconds=0.25)
    async with rt.open("tcp:127.0.0.1:0", config=config) as pool:
        peer = rt.dial(pool.listeners[0].address)
        peer.send(sip.request("ACK"))
        await rt.message(pool)
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + step)
        peer.send(sip.request())
        received = await rt.message(pool)
        pool.reply(received, sip.answer(received.message))
        assert (await rt.read_message(peer)).startswith(b"SIP/2.0 200 ")
        closed = await rt.event(pool, ConnectionClosed)
        assert closed.reason is CloseReason.EXPIRED


# Settings.


class Counting(sippool_sync.SystemSockets):
    """Remembers how much was asked for at each read of a connection."""

    def __init__(self):
        self.sizes = []

    def open_stream(self, peer, local):
        sizes = self.sizes

        class Counted:
            def __init__(self, sock):
                self.sock = sock

            def __getattr__(self, name):
                return getattr(self.sock, name)

            def recv(self, size):
                sizes.append(size)
                return self.sock.recv(size)

        return Counted(super().open_stream(peer, local))


@probe("S10")
async def test_a_pool_reads_as_much_at_once_as_its_settings_say(rt, sip, _probe):
    server = rt.server()
    target = f"tcp:127.0.0.1:{server.getsockname()[1]}"
    usual, modest = Counting(), Counting()
    config = PoolConfig().replace(read_bytes=100)
    async with rt.open(sockets=usual) as one, rt.open(sockets=modest, config=config) as other:
        for pool in (one, other):
            await rt.ended(pool.send(sip.request(), target))
            peer = await rt.accept(server)
            peer.send(sip.answer(await rt.read_message(peer)))
            assert (await rt.message(pool)).message.status == 200
    assert (set(usual.sizes), set(modest.sizes)) == ({2**16}, {100})
    assert len(modest.sizes) > 2


@probe("T02")
async def test_two_pools_made_from_the_same_settings_ask_the_same(
    rt, sip, _probe, server_certificate, ca
):
    tls = TlsSettings(
        server_certificate.certificate,
        server_certificate.key,
        ca.file,
        verify_client=ClientVerification.REQUIRED,
    )
    for _ in range(2):
        async with (
            rt.open("tls:127.0.0.1:0", tls=tls) as server,
            rt.open(tls=TlsSettings(ca=ca.file)) as client,
        ):
            target = Target(Transport.TLS, server.listeners[0].address)
            client.send(sip.request("ACK", via="TLS"), target)
            closed = await rt.event(server, ConnectionClosed)
            assert closed.reason is CloseReason.HANDSHAKE_FAILED
            assert server.stats.messages_received == 0
            refused = await rt.event(client, ConnectionClosed)
            assert refused.reason is CloseReason.CERTIFICATE_REFUSED
