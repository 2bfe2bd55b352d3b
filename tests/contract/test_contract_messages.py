"""Messages over real sockets, the same on every runtime: where they go, what comes back, in which order."""

from __future__ import annotations

import re

import pytest

from sippool_core import (
    Address,
    CloseReason,
    ConnectionClosed,
    ConnectionOpened,
    DropReason,
    InputDropped,
    PeerFinished,
    PingReceived,
    PoolConfig,
    Restriction,
    Target,
    TlsSettings,
    Transport,
)

HOSTS = [pytest.param("127.0.0.1", id="ipv4"), pytest.param("[::1]", id="ipv6")]


@pytest.fixture
def server_tls(server_certificate):
    return TlsSettings(certificate=server_certificate.certificate, key=server_certificate.key)


@pytest.fixture
def client_tls(ca):
    return TlsSettings(ca=ca.file)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_a_request_and_its_answer(rt, sip, transport, host, server_tls, client_tls):
    tls = server_tls if transport == "tls" else None
    async with (
        rt.open(f"{transport}:{host}:0", tls=tls) as server,
        rt.open(*([f"udp:{host}:0"] if transport == "udp" else []), tls=client_tls) as client,
    ):
        listener = server.listeners[0]
        assert listener.address.port != 0
        target = Target(Transport(transport), listener.address)
        sent = client.send(sip.request(via=transport.upper()), target)

        received = await rt.message(server)
        assert received.message.method == "OPTIONS"
        assert received.flow.transport is Transport(transport)
        assert received.flow.listener_id == listener.id
        assert f"received={host.strip('[]')}" in sip.header(received.message, "Via")
        completed = await rt.ended(sent)
        assert completed.flow.peer == listener.address
        assert not completed.reused

        await rt.ended(server.reply(received, sip.answer(received.message)))
        answer = await rt.message(client)
        assert answer.message.status == 200
        assert answer.flow.peer == listener.address
        if transport == "tls":
            assert completed.flow.tls.matched_identity == host.strip("[]")


async def test_tls_verifies_the_name_of_the_target(rt, sip, server_tls, client_tls):
    async with (
        rt.open("tls:127.0.0.1:0", tls=server_tls) as server,
        rt.open(tls=client_tls) as client,
    ):
        address = server.listeners[0].address
        sent = client.send(sip.request(via="TLS"), Target(Transport.TLS, address, "server.test"))
        completed = await rt.ended(sent)
        assert completed.flow.tls.matched_identity == "server.test"

        wrong = client.send(sip.request(via="TLS"), Target(Transport.TLS, address, "other.test"))
        with pytest.raises(OSError, match="identity mismatch") as caught:
            await rt.ended(wrong)
        assert not caught.value.failed.bytes_may_be_out


async def test_an_answer_leaves_on_the_connection_of_its_request(rt, sip):
    """Two clients use the same Call-ID, CSeq and even branch; each gets its own answer."""
    async with rt.open("tcp:127.0.0.1:0") as pool:
        peers = [rt.dial(pool.listeners[0].address) for _ in range(2)]
        for peer, tag in zip(peers, "xy", strict=True):
            peer.send(sip.request(tag=tag))
        received = [await rt.message(pool), await rt.message(pool)]
        for event in reversed(received):
            pool.reply(event, sip.answer(event.message))
        for peer, tag in zip(peers, "xy", strict=True):
            answer = await rt.read_message(peer)
            assert sip.header(answer, "From").endswith(f";tag={tag}")


async def test_one_connection_serves_all_sends_in_their_order(rt, sip):
    """Sends that come while connecting share the connection; later ones reuse it."""
    server = rt.server()
    async with rt.open() as pool:
        uri = f"sip:127.0.0.1:{server.getsockname()[1]};transport=tcp"
        outcomes = [pool.send(sip.request(branch=str(number)), uri) for number in range(5)]
        peer = await rt.accept(server)
        for number in range(5):
            message = await rt.read_message(peer)
            assert f"z9hG4bK{number};" in sip.header(message, "Via")
        flows = {(await rt.ended(outcome)).flow.id for outcome in outcomes}
        assert len(flows) == 1
        completed = await rt.ended(pool.send(sip.request(branch="again"), uri))
        assert completed.reused
        assert completed.flow.id in flows
        assert pool.stats.connections_opened == 1


async def test_requests_on_an_accepted_connection_by_its_flow(rt, sip):
    async with rt.open("tcp:127.0.0.1:0") as pool:
        peer = rt.dial(pool.listeners[0].address)
        opened = await rt.event(pool, ConnectionOpened)
        await rt.ended(pool.send(sip.request("NOTIFY"), flow=opened.flow))
        assert (await rt.read_message(peer)).startswith(b"NOTIFY ")


async def test_an_answer_over_udp_goes_to_the_port_it_came_from(rt, sip):
    async with rt.open("udp:127.0.0.1:0") as pool:
        address = pool.listeners[0].address
        peer = rt.udp()
        peer.sendto(sip.request(via="UDP"), (address.host, address.port))
        received = await rt.message(pool)
        pool.reply(received, sip.answer(received.message))
        answer = await rt.datagram(peer)
        assert f"rport={peer.getsockname()[1]}" in sip.header(answer, "Via")


async def test_a_burst_of_datagrams_is_read_whole(rt, sip):
    async with rt.open("udp:127.0.0.1:0") as pool:
        address = pool.listeners[0].address
        peer = rt.udp()
        for number in range(150):
            peer.sendto(sip.request(via="UDP", branch=str(number)), (address.host, address.port))
        for number in range(150):
            received = await rt.message(pool)
            assert f"z9hG4bK{number};" in sip.header(received.message, "Via")


async def test_a_ping_gets_its_pong(rt):
    async with rt.open("tcp:127.0.0.1:0") as pool:
        peer = rt.dial(pool.listeners[0].address)
        peer.send(b"\r\n\r\n")
        assert await rt.read(peer, 2) == b"\r\n"
        await rt.event(pool, PingReceived)


async def test_a_client_that_has_closed_its_side_still_gets_the_answer(rt, sip):
    async with rt.open("tcp:127.0.0.1:0") as pool:
        peer = rt.dial(pool.listeners[0].address)
        peer.send(sip.request())
        peer.shutdown(1)
        received = await rt.message(pool)
        await rt.event(pool, PeerFinished)
        pool.reply(received, sip.answer(received.message))
        assert (await rt.read_message(peer)).startswith(b"SIP/2.0 200 ")
        assert await rt.read(peer, 1) == b""
        closed = await rt.event(pool, ConnectionClosed)
        assert closed.reason is CloseReason.CLOSED_BY_PEER


async def test_a_large_message_in_both_directions(rt, sip):
    body = bytes(range(256)) * 200
    async with rt.open("tcp:127.0.0.1:0") as server, rt.open() as client:
        target = Target(Transport.TCP, server.listeners[0].address)
        for number in range(5):
            client.send(sip.request("MESSAGE", branch=str(number), body=body), target)
        for _ in range(5):
            received = await rt.message(server)
            assert received.message.body == body


async def test_garbage_is_answered_and_closed(rt):
    """Our FIN comes behind the answer, so no RST can overtake it."""
    async with rt.open("tcp:127.0.0.1:0") as pool:
        peer = rt.dial(pool.listeners[0].address)
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        assert await rt.read(peer, 1) == b""
        peer.close()
        closed = await rt.event(pool, ConnectionClosed)
        assert closed.reason is CloseReason.FRAMING_ERROR


@pytest.mark.parametrize("kind", [str, Address.parse, Restriction.parse])
async def test_a_restricted_pool_talks_to_one_place_only(rt, sip, kind):
    friend, stranger = rt.udp(), rt.udp()
    restriction = kind(f"127.0.0.1:{friend.getsockname()[1]}")
    async with rt.open("udp:127.0.0.1:0", restrict_to=restriction) as pool:
        address = pool.listeners[0].address
        stranger.sendto(sip.request(via="UDP"), (address.host, address.port))
        dropped = await rt.event(pool, InputDropped)
        assert dropped.reason is DropReason.NOT_ALLOWED

        friend.sendto(sip.request("INFO", via="UDP"), (address.host, address.port))
        assert (await rt.message(pool)).message.method == "INFO"
        pool.send(sip.request(via="UDP"), f"udp:127.0.0.1:{stranger.getsockname()[1]}")
        assert (await rt.datagram(friend)).startswith(b"OPTIONS ")


async def test_messages_come_while_many_connections_are_ready(rt, sip):
    """More than a step takes at once: everybody gets a turn."""
    async with rt.open("tcp:127.0.0.1:0") as pool:
        peers = [rt.dial(pool.listeners[0].address) for _ in range(40)]
        for number, peer in enumerate(peers):
            peer.send(sip.request(branch=f"peer{number}"))
        for _ in peers:
            received = await rt.message(pool)
            pool.reply(received, sip.answer(received.message))
        for number, peer in enumerate(peers):
            answer = await rt.read_message(peer)
            assert re.search(rf"z9hG4bKpeer{number};", sip.header(answer, "Via"))


async def test_native_words(rt, sip):
    """`receive` and waiting for an outcome, as an application does it."""
    async with rt.open("udp:127.0.0.1:0") as pool:
        address = pool.listeners[0].address
        peer = rt.udp()
        peer.sendto(sip.request(via="UDP"), (address.host, address.port))
        received = await rt.receive(pool)
        completed = await rt.outcome(pool.reply(received, sip.answer(received.message)))
        assert completed.flow.peer.port == peer.getsockname()[1]
        assert (await rt.datagram(peer)).startswith(b"SIP/2.0 200 ")


@pytest.mark.parametrize("word", ["message", "receive"])
async def test_an_application_that_takes_nothing_makes_peers_wait(rt, sip, word):
    """No message is lost, and no peer is punished for our slowness."""
    config = PoolConfig().replace(max_events=8, message_seconds=0.05)
    async with rt.open("tcp:127.0.0.1:0", config=config) as pool:
        peers = [rt.dial(pool.listeners[0].address) for _ in range(3)]
        burst = b"".join(sip.request(branch=str(number)) for number in range(40))
        for peer in peers:
            peer.send(burst)
        await rt.until(lambda: pool.stats.events_waiting >= 8)
        late = rt.dial(pool.listeners[0].address)
        late.send(sip.request("INFO"))
        for _ in range(50):
            await rt.turn()
        assert pool.stats.events_waiting <= 8 + 3
        methods = [(await getattr(rt, word)(pool)).message.method for _ in range(121)]
        assert methods.count("INFO") == 1
