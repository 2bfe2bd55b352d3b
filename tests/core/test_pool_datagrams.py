"""UDP: what is delivered, dropped and answered where, and what a send can come to."""

import errno

import pytest

from sippool_core import (
    Address,
    CloseReason,
    DropReason,
    InputDropped,
    MalformedReceived,
    MessageReceived,
    PeerUnreachable,
    PoolConfig,
    QueueFull,
    Restriction,
    SendCancelled,
    SendCompleted,
    SendFailure,
    Target,
    Transport,
)
from tests.core.rig import LOCAL, PEER, Rig, request, response

TARGET = "sip:192.0.2.50:5070"


def serve(rig, *datagrams, source=PEER, **kwargs):
    listener = rig.listen("udp:192.0.2.1:5060", **kwargs)
    for data in datagrams:
        rig.datagram(listener, data, source)
    return listener, rig.take(MessageReceived)


def udp_request(*args, **kwargs):
    return request(*args, transport="UDP", **kwargs)


def test_a_datagram_is_delivered_with_its_flow():
    rig = Rig()
    listener, [received] = serve(rig, udp_request())
    assert (received.flow.id, received.flow.listener_id) == (listener, listener)
    assert (received.flow.peer, received.flow.local) == (PEER, LOCAL)
    assert received.flow.tls is None and not received.flow.outbound


@pytest.mark.parametrize(
    ("sent_by", "via", "goes_to"),
    [
        ("192.0.2.9:5060", "", Address("192.0.2.9", 5060)),
        ("192.0.2.9:5060", ";rport", PEER),
        ("192.0.2.9", "", Address("192.0.2.9", 5060)),
        ("client.example.com:5077", "", Address("192.0.2.9", 5077)),
        # What the peer wrote itself counts for nothing.
        ("client.example.com:5077", ";received=198.51.100.1", Address("192.0.2.9", 5077)),
        ("client.example.com:5077", ";maddr=198.51.100.1", Address("192.0.2.9", 5077)),
        ("client.example.com:5077", ";rport=9;received=198.51.100.1", PEER),
    ],
)
def test_an_answer_goes_where_the_rfcs_say(sent_by, via, goes_to):
    rig = Rig()
    listener, [received] = serve(rig, udp_request(sent_by=sent_by, via=via))
    answer = response(received.message)
    send_id = rig.reply(received, answer)
    assert rig.datagrams == [(listener, answer, goes_to)]
    assert isinstance(rig.outcomes[send_id], SendCompleted)
    # The stamp alone is enough to find the way without the flow.
    rig.send(answer)
    assert rig.datagrams[1] == (listener, answer, goes_to)


def test_a_response_whose_way_is_unknown_fails():
    rig = Rig()
    serve(rig)
    nowhere = rig.send(response(udp_request(sent_by="client.example.com")))
    assert rig.outcomes[nowhere].reason is SendFailure.FLOW_FAILED
    rig.send(response(udp_request(sent_by="client.example.com")), TARGET)
    assert rig.datagrams[0][2] == Address("192.0.2.50", 5070)


def test_requests_go_to_their_target_or_flow():
    rig = Rig()
    listener, [received] = serve(rig, udp_request())
    rig.send(udp_request(), TARGET)
    rig.send(udp_request(), flow=received.flow)
    rig.send(response(udp_request(via=";rport")), flow=received.flow)
    assert [peer for _, _, peer in rig.datagrams] == [Address("192.0.2.50", 5070), PEER, PEER]
    rig.pool.remove_listener(listener, now=rig.now)
    rig.drain()
    gone = rig.send(udp_request(), flow=received.flow)
    assert rig.outcomes[gone].reason is SendFailure.FLOW_FAILED


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.EMSGSIZE, SendFailure.TOO_LARGE),
        (errno.ECONNREFUSED, SendFailure.CONNECTION_REFUSED),
        (errno.EAFNOSUPPORT, SendFailure.UNREACHABLE),
        (errno.ENOBUFS, SendFailure.NO_RESOURCES),
    ],
)
def test_a_refused_datagram_is_a_failed_send(code, reason):
    rig = Rig(datagram_error=code)
    serve(rig)
    failed = rig.outcomes[rig.send(udp_request(), TARGET)]
    assert (failed.reason, failed.bytes_may_be_out) == (reason, False)
    assert failed.detail == errno.errorcode[code]


def test_an_icmp_error_is_an_event_about_the_peer_and_no_second_outcome():
    rig = Rig()
    listener, _ = serve(rig)
    rig.send(udp_request(), TARGET)
    rig.pool.handle_unreachable(listener, errno.ECONNREFUSED, PEER, now=rig.now)
    rig.drain()
    [event] = rig.take(PeerUnreachable)
    assert (event.flow.peer, event.detail) == (PEER, "ECONNREFUSED")
    assert len(rig.outcomes) == 1
    rig.pool.handle_unreachable(listener, errno.ECONNREFUSED, None, now=rig.now)
    rig.drain()
    assert rig.take(PeerUnreachable)[0].flow.peer == LOCAL  # not known
    assert rig.pool.stats.unreachable == 2


def test_a_connected_socket_has_one_peer():
    rig = Rig()
    place = Address("192.0.2.99", 5060)
    listener, received = serve(rig, udp_request(), connected_to=place)
    assert not received and rig.take(InputDropped)[0].reason is DropReason.NOT_ALLOWED
    rig.datagram(listener, udp_request(), place)
    [received] = rig.take(MessageReceived)
    rig.send(udp_request(), TARGET)
    rig.reply(received, response(received.message))
    assert [peer for _, _, peer in rig.datagrams] == [place, place]
    rig.pool.handle_unreachable(listener, errno.ECONNREFUSED, None, now=rig.now)
    rig.drain()
    assert rig.take(PeerUnreachable)[0].flow.peer == place


def test_the_socket_connected_to_the_target_is_preferred():
    rig = Rig()
    rig.listen("udp:192.0.2.1:5060")
    connected = rig.listen("udp:192.0.2.1:5061", connected_to=Address("192.0.2.50", 5070))
    rig.send(udp_request(), TARGET)
    assert rig.datagrams[0][0] == connected


@pytest.mark.parametrize(
    ("restriction", "source", "passes"),
    [
        ("192.0.2.9:40001", PEER, True),
        ("192.0.2.9", PEER, True),
        ("192.0.2.9:5060", PEER, False),
        ("192.0.2.10", PEER, False),
        ("[::ffff:192.0.2.9]:40001", PEER, True),
        ("[2001:db8:0:0:0::1]:5060", Address("2001:db8::1", 5060), True),
        ("[fe80::1%2]", Address("fe80::1", 5060, 2), True),
        ("[fe80::1%2]", Address("fe80::1", 5060, 3), False),
    ],
)
def test_a_restriction_is_checked_before_parsing_in_normal_form(restriction, source, passes):
    rig = Rig(PoolConfig(restrict_to=Restriction.parse(restriction)))
    listener = rig.listen("udp:[::]:5060")
    rig.datagram(listener, b"no sip at all, and long enough", source)
    [dropped] = rig.take(InputDropped)
    assert dropped.reason is (DropReason.NOT_SIP if passes else DropReason.NOT_ALLOWED)


def test_a_restriction_is_forced_on_every_send():
    rig = Rig(PoolConfig(restrict_to=Restriction.parse("192.0.2.9:5099")))
    listener, _ = serve(rig)
    rig.datagram(listener, udp_request(sent_by="192.0.2.66:5060"), Address("192.0.2.9", 5099))
    [received] = rig.take(MessageReceived)
    rig.send(udp_request(), TARGET)
    rig.reply(received, response(received.message))
    assert {peer for _, _, peer in rig.datagrams} == {Address("192.0.2.9", 5099)}


@pytest.mark.parametrize(
    "source",
    [
        Address("192.0.2.9", 0),
        LOCAL,
        Address("224.0.0.1", 5060),
        Address("255.255.255.255", 5060),
        Address("0.0.0.0", 5060),
        Address("ff02::1", 5060),
    ],
)
def test_impossible_sources_are_dropped(source):
    rig = Rig()
    _, received = serve(rig, udp_request(), source=source)
    assert not received and rig.take(InputDropped)[0].reason is DropReason.BAD_SOURCE


def test_drops_are_counted_by_reason():
    rig = Rig()
    listener, _ = serve(
        rig, b"\r\n\r\n", b"x" * 50, response(udp_request()).replace(b" 200 ", b" 999 ")
    )
    rig.datagram(listener, udp_request()[:-10], truncated=True)
    reasons = [event.reason for event in rig.take(InputDropped)]
    assert reasons == [
        DropReason.KEEPALIVE,
        DropReason.NOT_SIP,
        DropReason.MALFORMED_RESPONSE,
        DropReason.TRUNCATED_DATAGRAM,
    ]
    assert rig.pool.stats.dropped == dict.fromkeys(reasons, 1)


def test_a_malformed_request_can_be_answered_and_extra_bytes_are_cut():
    rig = Rig()
    _, [received] = serve(
        rig,
        udp_request(body=b"12345").replace(b"Content-Length: 5", b"Content-Length: 9"),
        udp_request(body=b"12345") + b"extra",
        b"OPTIONS sip:a SIP/2.0\r\nVia: nonsense\r\n\r\n",
    )
    short, hopeless = rig.take(MalformedReceived)
    assert (short.defect.value, short.status_code) == ("short_body", 400)
    rig.reply(short, response(short.message, 400))
    assert rig.datagrams[0][2] == Address("192.0.2.9", 5060)
    assert not hopeless.can_reply
    assert received.message.body == b"12345" and rig.pool.stats.datagrams_cut == 1


def test_a_full_inbox_drops_datagrams_and_counts_them():
    rig = Rig(PoolConfig().replace(max_events=4), take_events=False)
    serve(rig, *[udp_request(branch=f"z9hG4bK{n}") for n in range(6)])
    assert rig.pool.stats.dropped[DropReason.OVERLOAD] == 2
    assert rig.pool.stats.events_discarded == 2
    assert rig.pool.stats.events_waiting == 4


def test_datagrams_that_wait_for_the_socket_are_bounded_and_end_with_the_pool():
    rig = Rig(PoolConfig().replace(max_queued_messages=2), hold_datagrams=True)
    listener, _ = serve(rig)
    first, second = rig.send(udp_request(), TARGET), rig.send(udp_request(), TARGET)
    with pytest.raises(QueueFull, match="2 datagrams"):
        rig.send(udp_request(), TARGET)
    rig.pool.handle_datagram_sent(first, now=rig.now)
    rig.pool.handle_datagram_sent(first, now=rig.now)  # once only
    rig.pool.handle_datagram_failed(first, errno.EIO, now=rig.now)
    rig.cancel(second)
    third = rig.send(udp_request(), TARGET)
    rig.close()
    assert isinstance(rig.outcomes[first], SendCompleted)
    assert rig.outcomes[second] == SendCancelled(second, True)
    assert rig.outcomes[third].reason is SendFailure.POOL_CLOSED
    assert rig.outcomes[third].bytes_may_be_out
    assert rig.closed_listeners == [listener] and rig.pool.is_closed


def test_an_answer_and_a_close_in_one_breath():
    rig = Rig()
    _, [received] = serve(rig, udp_request())
    send_id = rig.pool.reply(received, response(received.message), now=rig.now)
    rig.pool.close(now=rig.now)
    assert not rig.pool.is_closed
    rig.drain()
    assert rig.datagrams and isinstance(rig.outcomes[send_id], SendCompleted)
    assert rig.pool.is_closed


def test_a_listener_that_goes_takes_only_its_own_datagrams_with_it():
    rig = Rig(hold_datagrams=True)
    first = rig.listen("udp:192.0.2.1:5060")
    rig.listen("udp:[2001:db8::1]:5060")
    lost = rig.send(udp_request(), TARGET)
    kept = rig.send(udp_request(), Target(Transport.UDP, Address("2001:db8::5", 5060)))
    rig.pool.remove_listener(first, now=rig.now)
    rig.drain()
    assert rig.outcomes[lost].reason is SendFailure.POOL_CLOSED and kept not in rig.outcomes


def test_a_flow_of_a_datagram_cannot_be_closed():
    rig = Rig()
    _, [received] = serve(rig, udp_request())
    rig.pool.close_flow(received.flow, now=rig.now)
    assert rig.pool.next_effect() is None
    assert CloseReason.CLOSED_LOCALLY not in rig.pool.stats.connections_closed
