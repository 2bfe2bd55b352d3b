"""Sockets that are adopted, and sockets that misbehave, the same on every runtime."""

from __future__ import annotations

import errno
import socket

import pytest

from sippool_core import (
    Address,
    CloseReason,
    ConfigurationError,
    ConnectionClosed,
    DropReason,
    Endpoint,
    InputDropped,
    Limits,
    PoolConfig,
    SendFailure,
    Target,
    TlsSettings,
    Transport,
)
from sippool_sync import SystemSockets


async def test_an_adopted_udp_socket_stays_open(rt, sip):
    sock, peer = rt.udp(), rt.udp()
    sock.settimeout(5)
    async with rt.open(sock) as pool:
        assert pool.listeners[0].socket is sock
        peer.sendto(sip.request(via="UDP"), sock.getsockname())
        received = await rt.message(pool)
        pool.reply(received, sip.answer(received.message))
        await rt.datagram(peer)
    assert sock.fileno() >= 0
    assert sock.gettimeout() == 5, "it gets its blocking mode back"
    sock.sendto(b"still ours", peer.getsockname())
    assert peer.recv(100) == b"still ours"


async def test_a_connected_udp_socket_has_one_peer(rt, sip):
    sock, peer, stranger = rt.udp(), rt.udp(), rt.udp()
    sock.connect(peer.getsockname())
    async with rt.open(sock) as pool:
        assert pool.listeners[0].connected_to == Address(*peer.getsockname())
        await rt.outcome(pool.send(sip.request(via="UDP"), f"udp:127.0.0.1:{port_of(stranger)}"))
        request = await rt.datagram(peer)
        peer.sendto(sip.answer(request), sock.getsockname())
        assert (await rt.message(pool)).message.status == 200
    assert sock.fileno() >= 0


@pytest.mark.parametrize("listening", [True, False])
async def test_an_adopted_tcp_socket_stays_open(rt, sip, listening):
    sock = rt.server() if listening else rt.keep(socket.socket())
    if not listening:
        sock.bind(("127.0.0.1", 0))
    async with rt.open(sock) as pool:
        peer = rt.dial(pool.listeners[0].address)
        peer.send(sip.request())
        await rt.message(pool)
    later = rt.dial(Address(*sock.getsockname()))
    await rt.accept(sock)
    assert later.fileno() >= 0


async def test_an_adopted_tcp_socket_can_serve_tls(rt, sip, server_certificate, ca):
    server_tls = TlsSettings(certificate=server_certificate.certificate, key=server_certificate.key)
    async with (
        rt.open(("tls", rt.server()), tls=server_tls) as server,
        rt.open(tls=TlsSettings(ca=ca.file)) as client,
    ):
        target = Target(Transport.TLS, server.listeners[0].address)
        await rt.ended(client.send(sip.request(via="TLS"), target))
        assert (await rt.message(server)).flow.transport is Transport.TLS


async def test_a_dual_stack_socket_serves_both_families(rt, sip):
    sock = rt.keep(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 0))
    async with rt.open(sock) as pool:
        for peer, host in ((rt.udp(), "127.0.0.1"), (rt.udp("::1"), "::1")):
            peer.sendto(sip.request(via="UDP"), (host, port_of(sock)))
            received = await rt.message(pool)
            assert received.flow.peer.host == host
            await rt.outcome(pool.reply(received, sip.answer(received.message)))
            assert f"received={host}" in sip.header(await rt.datagram(peer), "Via")


async def test_sockets_that_cannot_be_adopted(rt):
    connected = rt.dial(Address(*rt.server().getsockname()))
    unbound = rt.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    one, other = socket.socketpair()
    udp = rt.udp()
    cases = [
        (connected, "one connection"),
        (unbound, "not bound"),
        (rt.keep(one), "not an IP socket"),
        (("tls", udp), "cannot carry tls"),
        (("tls", rt.server()), "needs a certificate"),
        ((Transport.UDP, rt.server()), "cannot carry udp"),
    ]
    rt.keep(other)
    for where, text in cases:
        with pytest.raises(ConfigurationError, match=text):
            async with rt.open(where):
                pytest.fail("it opened")
    with pytest.raises(ConfigurationError, match="already"):
        async with rt.open(udp, udp):
            pytest.fail("it opened")


async def test_opening_is_all_or_nothing(rt):
    taken = rt.udp()
    places = ["tcp:127.0.0.1:0", rt.server(), f"udp:127.0.0.1:{port_of(taken)}"]
    with pytest.raises(OSError) as caught:
        async with rt.open(*places):
            pytest.fail("it opened")
    assert caught.value.errno == errno.EADDRINUSE
    assert "cannot bind to 127.0.0.1" in caught.value.__notes__[0]


async def test_an_endpoint_that_cannot_be_read(rt):
    with pytest.raises(ValueError, match="sctp"):
        async with rt.open("sctp:127.0.0.1:5060"):
            pytest.fail("it opened")


async def test_listeners_come_and_go(rt, sip):
    async with rt.open() as pool:
        udp = pool.add_listener(Endpoint(Transport.UDP, Address("127.0.0.1", 0)))
        tcp = pool.add_listener("tcp:127.0.0.1:0")
        assert pool.listeners == (udp, tcp)
        assert str(tcp) == f"tcp:127.0.0.1:{tcp.address.port}"
        peer = rt.dial(tcp.address)
        peer.send(sip.request())
        received = await rt.message(pool)
        pool.remove_listener(tcp)
        assert pool.listeners == (udp,)
        with pytest.raises(ConnectionRefusedError):
            rt.dial(tcp.address)
        pool.reply(received, sip.answer(received.message))
        assert (await rt.read_message(peer)).startswith(b"SIP/2.0 200 ")


async def test_connections_beyond_the_limit_are_reset(rt, sip):
    async with rt.open("tcp:127.0.0.1:0", config=PoolConfig().replace(max_connections=1)) as pool:
        first = rt.dial(pool.listeners[0].address)
        first.send(sip.request())
        await rt.message(pool)
        second = rt.dial(pool.listeners[0].address)
        dropped = await rt.event(pool, InputDropped)
        assert dropped.reason is DropReason.TOO_MANY_CONNECTIONS
        with pytest.raises(ConnectionResetError):
            await rt.read(second, 1)
        first.send(sip.request("INFO"))
        await rt.message(pool)


async def test_limits_that_the_process_cannot_keep(rt):
    class FewDescriptors(SystemSockets):
        def descriptor_limit(self):
            return 100

    with pytest.raises(ConfigurationError, match=r"\(500\) and spare_descriptors \(64\).* 100 "):
        async with rt.open(
            config=PoolConfig(Limits(max_connections=500)), sockets=FewDescriptors()
        ):
            pytest.fail("it opened")
    # Nobody asked for the default, so it gives way.
    async with rt.open("tcp:127.0.0.1:0", sockets=FewDescriptors()) as pool:
        peers = [rt.dial(pool.listeners[0].address) for _ in range(37)]
        await rt.until(lambda: pool.stats.connections_accepted == len(peers))
        assert pool.stats.connections == 36


class Faulty:
    """A real socket, some calls of which fail first."""

    def __init__(self, sock, **faults):
        self._sock = sock
        self._faults = {name: list(codes) for name, codes in faults.items()}

    def __getattr__(self, name):
        if codes := self._faults.get(name):
            code = codes.pop(0)

            def fail(*_arguments):
                raise OSError(code, errno.errorcode[code])

            return fail
        return getattr(self._sock, name)


class FaultyListener(Faulty):
    """A real listening socket, the first connection of which is faulty."""

    def accept(self):
        sock, peer = self.__getattr__("accept")()
        return Faulty(sock, getsockname=self._faults.pop("accepted", [])), peer


class FaultySockets(SystemSockets):
    """Makes faulty sockets."""

    def __init__(self, **faults):
        self.faults = faults

    def open_datagram(self, local):
        return Faulty(super().open_datagram(local), **self.faults)

    def open_listener(self, local):
        return FaultyListener(super().open_listener(local), **self.faults)

    def open_stream(self, peer, local):
        return Faulty(super().open_stream(peer, local), **self.faults)


async def test_a_full_buffer_delays_datagrams_and_keeps_their_order(rt, sip):
    peer = rt.udp()
    faults = {"sendto": [errno.EAGAIN] * 3}
    async with rt.open("udp:127.0.0.1:0", sockets=FaultySockets(**faults)) as pool:
        outcomes = [
            pool.send(sip.request(via="UDP", branch=str(number)), f"udp:127.0.0.1:{port_of(peer)}")
            for number in range(4)
        ]
        assert not any(outcome.done for outcome in outcomes)
        for number in range(4):
            assert f"z9hG4bK{number};" in sip.header(await rt.datagram(peer), "Via")
        for outcome in outcomes:
            await rt.ended(outcome)


@pytest.mark.parametrize(
    ("codes", "failure"),
    [
        ([errno.EMSGSIZE] * 2, SendFailure.TOO_LARGE),
        ([errno.ECONNREFUSED, errno.ENETUNREACH], SendFailure.UNREACHABLE),
        ([errno.ECONNREFUSED], None),
        ([errno.ECONNREFUSED, errno.EAGAIN], None),
    ],
)
async def test_a_datagram_that_is_refused_is_tried_once_more(rt, sip, codes, failure):
    peer = rt.udp()
    async with rt.open("udp:127.0.0.1:0", sockets=FaultySockets(sendto=codes)) as pool:
        sent = pool.send(sip.request(via="UDP"), f"udp:127.0.0.1:{port_of(peer)}")
        await rt.until(lambda: sent.done)
        assert pool.stats.unreachable == (codes[0] != codes[-1] or failure is None)
        if failure is None:
            await rt.datagram(peer)
            assert sent.result()
        else:
            with pytest.raises(OSError) as caught:
                sent.result()
            assert caught.value.failed.reason is failure


async def test_an_error_read_from_a_udp_socket_is_news(rt, sip):
    peer = rt.udp()
    faults = {"recvfrom": [errno.EHOSTUNREACH]}
    async with rt.open("udp:127.0.0.1:0", sockets=FaultySockets(**faults)) as pool:
        peer.sendto(sip.request(via="UDP"), ("127.0.0.1", pool.listeners[0].address.port))
        await rt.message(pool)
        assert pool.stats.unreachable == 1


async def test_a_peer_that_is_gone_before_it_is_accepted(rt, sip):
    faults = {"accept": [errno.ECONNABORTED]}
    async with rt.open("tcp:127.0.0.1:0", sockets=FaultySockets(**faults)) as pool:
        peer = rt.dial(pool.listeners[0].address)
        peer.send(sip.request())
        await rt.message(pool)
        assert pool.stats.accept_failures == 1


async def test_a_peer_that_is_gone_while_it_is_accepted(rt, sip):
    faults = {"accepted": [errno.EINVAL]}
    async with rt.open("tcp:127.0.0.1:0", sockets=FaultySockets(**faults)) as pool:
        first, second = (rt.dial(pool.listeners[0].address) for _ in range(2))
        second.send(sip.request())
        await rt.message(pool)
        assert pool.stats.accept_failures == 1
        assert await rt.read(first, 1) == b""


async def test_a_stream_that_cannot_send_fin(rt):
    """The core wanted to linger after a framing error; the peer has gone meanwhile."""

    class Sockets(SystemSockets):
        def open_listener(self, local):
            return ShutFails(super().open_listener(local))

    class ShutFails(Faulty):
        def accept(self):
            sock, peer = self._sock.accept()
            return Faulty(sock, shutdown=[errno.ENOTCONN]), peer

    async with rt.open("tcp:127.0.0.1:0", sockets=Sockets()) as pool:
        peer = rt.dial(pool.listeners[0].address)
        peer.send(b"no SIP at all\r\n\r\n")
        closed = await rt.event(pool, ConnectionClosed)
        assert closed.reason is CloseReason.FRAMING_ERROR


def test_a_local_address_that_is_not_ours():
    with pytest.raises(OSError) as caught:
        SystemSockets().open_stream(Address("127.0.0.1", 5060), Address("192.0.2.1", 0))
    assert caught.value.errno == errno.EADDRNOTAVAIL


async def test_an_adopted_socket_that_its_owner_closes(rt, sip):
    sock = rt.udp()
    async with rt.open(sock, "udp:127.0.0.1:0") as pool:
        sock.close()
        sent = pool.send(sip.request(via="UDP"), "udp:127.0.0.1:5060")
        with pytest.raises(OSError, match="EBADF"):
            await rt.outcome(sent)
        peer = rt.udp()
        peer.sendto(sip.request(via="UDP"), ("127.0.0.1", pool.listeners[1].address.port))
        await rt.message(pool)


@pytest.mark.parametrize(
    ("faults", "failure"),
    [
        ({"send": [errno.EPIPE]}, SendFailure.CONNECTION_LOST),
        ({"send": [errno.EAGAIN]}, None),
        ({"recv": [errno.EAGAIN]}, None),
    ],
)
async def test_errors_of_a_stream(rt, sip, faults, failure):
    server = rt.server()
    async with rt.open(sockets=FaultySockets(**faults)) as pool:
        sent = pool.send(sip.request(), f"tcp:127.0.0.1:{port_of(server)}")
        await rt.until(lambda: sent.done)
        if failure is not None:
            with pytest.raises(OSError) as caught:
                sent.result()
            assert caught.value.failed.reason is failure
            return
        peer = await rt.accept(server)
        peer.send(sip.answer(await rt.read_message(peer)))
        assert (await rt.message(pool)).message.status == 200


def port_of(sock):
    """The local port."""
    return sock.getsockname()[1]
