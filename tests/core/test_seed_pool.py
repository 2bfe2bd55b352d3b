"""What Net::SIP::SocketPool decides wrongly, decided right by the core: one test id for each probe.

The ids are those of the table in docs/from-net-sip.md.
"""

import errno
import socket
import sys

import pytest

from sippool_core import (
    Address,
    AmbiguousTransaction,
    ClientVerification,
    CloseReason,
    ConfigurationError,
    ConnectionClosed,
    MessageReceived,
    NoRoute,
    PoolConfig,
    QueueFull,
    Restriction,
    SendCompleted,
    SendFailure,
    Target,
    TlsSettings,
    Transport,
)
from tests.core.rig import PEER, Rig, request, response

OTHER = Address("192.0.2.10", 40002)
TARGET = "tcp:192.0.2.50:5070"
IDLE_2_S = PoolConfig().replace(min_idle_seconds=2.0, max_idle_seconds=2.0)


def serve(rig, *messages, peer=PEER):
    connection = rig.accept(rig.listen(), peer)
    for message in messages:
        rig.data(connection, message)
    return connection, rig.take(MessageReceived)


def branches(count):
    return [request(branch=f"z9hG4bK{number}", cseq=number + 1) for number in range(count)]


# Wrong delivery.


@pytest.mark.parametrize("first_to_answer", [pytest.param(n, id=f"R01-{n}") for n in (0, 1)])
def test_nobody_takes_an_answer_by_repeating_call_id_and_cseq(first_to_answer):
    rig = Rig()
    listener = rig.listen()
    connections = [rig.accept(listener), rig.accept(listener, OTHER)]
    for connection in connections:
        rig.data(connection, request())  # not even the branch differs
    received = rig.take(MessageReceived)
    for event in received:
        with pytest.raises(AmbiguousTransaction):
            rig.send(response(event.message), Target(Transport.TCP, event.flow.peer))
    for at in (first_to_answer, 1 - first_to_answer):
        rig.reply(received[at], response(received[at].message, 201 + at))
    assert [rig.wires[c].written[:11] for c in connections] == [b"SIP/2.0 201", b"SIP/2.0 202"]


@pytest.mark.parametrize(
    "end", [pytest.param("lost", id="R02-reset"), pytest.param("eof", id="R02-fin")]
)
def test_a_hijacker_that_leaves_takes_nothing_with_it(end):
    rig = Rig()
    listener = rig.listen()
    victim, hijacker = rig.accept(listener), rig.accept(listener, OTHER)
    rig.data(victim, request())
    rig.data(hijacker, request())
    asked, stolen = rig.take(MessageReceived)
    if end == "lost":
        rig.lost(hijacker)
    else:
        rig.reply(stolen, response(stolen.message))
        rig.eof(hijacker)
    rig.send(response(asked.message, 204))
    assert rig.wires[victim].written.startswith(b"SIP/2.0 204") and not rig.opened


@pytest.mark.parametrize("count", [pytest.param(35, id="R03")])
def test_many_pending_requests_are_all_answered_where_they_came_from(count):
    rig = Rig()
    connection, received = serve(rig, *branches(count))
    for event in received:
        assert isinstance(rig.outcomes[rig.reply(event, response(event.message))], SendCompleted)
    assert rig.wires[connection].written.count(b"SIP/2.0 200") == count and not rig.opened


@pytest.mark.parametrize("count", [pytest.param(30, id="R04")])
def test_a_retransmission_does_not_cost_the_request_its_place(count):
    rig = Rig()
    messages = branches(count)
    connection, received = serve(rig, messages[0], *messages)
    for message in (received[-2].message, received[0].message):
        assert rig.outcomes[rig.send(response(message))].flow.id == connection


@pytest.mark.parametrize(
    "way", [pytest.param("reply", id="R05-reply"), pytest.param("send", id="R05-send")]
)
def test_an_answer_never_goes_to_whoever_owns_the_port_now(way):
    rig = Rig()
    listener = rig.listen()
    connection = rig.accept(listener)
    rig.data(connection, request())
    [received] = rig.take(MessageReceived)
    rig.lost(connection)
    stranger = rig.accept(listener, PEER)  # the same address and port
    answer = response(received.message)
    send_id = rig.reply(received, answer) if way == "reply" else rig.send(answer)
    assert rig.outcomes[send_id].reason is SendFailure.FLOW_FAILED
    assert rig.wires[stranger].written == b"" and not rig.opened


@pytest.mark.parametrize(
    "pipelined", [pytest.param(False, id="R06"), pytest.param(True, id="R06b")]
)
def test_the_answers_of_a_half_closed_peer_still_go_out(pipelined):
    rig = Rig()
    connection, received = serve(rig, *branches(2 if pipelined else 1))
    rig.eof(connection)
    for event in received:
        rig.reply(event, response(event.message))
    wire = rig.wires[connection]
    assert wire.written.count(b"SIP/2.0 200") == len(received)
    assert wire.closed and not wire.aborted and not rig.opened


# Outcomes.


@pytest.mark.parametrize(
    "works",
    [pytest.param(True, id="R11"), pytest.param(False, id="R12")],
)
def test_ten_sends_that_share_a_connect_have_ten_outcomes(works):
    rig = Rig()
    messages = branches(10)
    sends = [rig.send(message, TARGET) for message in messages]
    [connection] = rig.opened
    if works:
        rig.connected(connection)
        assert rig.wires[connection].written == b"".join(messages)
        assert all(isinstance(rig.outcomes[send_id], SendCompleted) for send_id in sends)
    else:
        rig.lost(connection, errno.ECONNREFUSED)
        reasons = [rig.outcomes[send_id].reason for send_id in sends]
        assert reasons == [SendFailure.CONNECTION_REFUSED] * 10
    assert list(rig.outcomes) == sends


@pytest.mark.parametrize(
    ("source", "welcome"),
    [
        pytest.param(Address("192.0.2.10", 5060), False, id="R13-other-address"),
        pytest.param(Address("192.0.2.9", 40001), True, id="R13-ephemeral-port"),
        pytest.param(Address("192.0.2.9", 5060), True, id="R13-exact"),
    ],
)
def test_a_restricted_listener_takes_connections_of_its_peer_from_any_port(source, welcome):
    rig = Rig(PoolConfig(restrict_to=Restriction.parse("192.0.2.9:5060")))
    assert (rig.accept(rig.listen(), source) is not None) is welcome


@pytest.mark.parametrize("count", [pytest.param(20, id="R16")])
def test_a_reset_behind_pipelined_requests_leaves_nothing_behind(count):
    rig = Rig(writes_complete=False)
    listener = rig.listen()
    forgotten = []
    for _ in range(30):
        connection = rig.accept(listener)
        rig.data(connection, b"".join(branches(count)))
        received = rig.take(MessageReceived)
        forgotten += [rig.reply(event, response(event.message)) for event in received[:5]]
        rig.lost(connection, errno.EPIPE)
        rig.data(connection, request())  # the rest of what was read
        late = rig.reply(received[-1], response(received[-1].message))
        assert rig.outcomes[late].reason is SendFailure.FLOW_FAILED
    assert all(send_id in rig.outcomes for send_id in forgotten)
    stats = rig.pool.stats
    assert (stats.connections, stats.queued_bytes, stats.partial_bytes) == (0, 0, 0)
    assert not rig.pool.owes_answers and not rig.take(MessageReceived)
    assert rig.pool.next_deadline() is None
    assert all(wire.closed for wire in rig.wires.values())


@pytest.mark.parametrize(
    ("target", "error"),
    [
        pytest.param("tcp:localhost:5060", ValueError, id="R18-name"),
        pytest.param("udp:localhost:5060", ValueError, id="R18-name-udp"),
        pytest.param("udp:[2001:db8::1]:5060", NoRoute, id="R18-family"),
    ],
)
def test_a_target_that_cannot_be_reached_is_refused_and_leaves_nothing(target, error):
    rig = Rig()
    rig.listen("udp:192.0.2.1:5060")
    rig.listen()
    with pytest.raises(error):
        rig.send(request(), target)
    assert not rig.opened and not rig.outcomes and rig.pool.stats.connections == 0


@pytest.mark.parametrize("target", [pytest.param("tcp:[2001:db8::1]:5060", id="R18-family-tcp")])
def test_a_listener_of_the_other_family_is_not_bound_to(target):
    rig = Rig()
    rig.listen()
    rig.send(request(), target)
    assert rig.wires[rig.opened[0]].local is None


@pytest.mark.parametrize(
    "others",
    [pytest.param(0, id="C02"), pytest.param(130, id="C03")],
)
def test_a_connect_nobody_answers_ends_after_ten_seconds_however_many_there_are(others):
    rig = Rig()
    listener = rig.listen()
    for number in range(others):
        rig.data(rig.accept(listener), request("ACK", call_id=f"c{number}"))
    started = {}
    for number in range(8):
        started[rig.send(request(), f"tcp:192.0.2.{60 + number}:5060")] = rig.now
        rig.advance(1)
    for send_id, at in started.items():
        rig.advance(max(0.0, at + 9.999 - rig.now))
        assert send_id not in rig.outcomes
        rig.advance(at + 10 - rig.now)
        assert rig.outcomes[send_id].reason is SendFailure.CONNECT_TIMEOUT
        assert rig.outcomes[send_id].bytes_may_be_out is False


def stuck(rig, count=3):
    """A connection whose kernel takes nothing any more, and this many answers queued on it."""
    connection, received = serve(rig, *branches(count))
    rig.writes_complete = False
    return connection, [rig.reply(event, response(event.message)) for event in received]


@pytest.mark.parametrize("count", [pytest.param(57, id="C05")])
def test_every_send_behind_a_full_socket_is_told_when_it_drains(count):
    rig = Rig()
    connection, sends = stuck(rig, count)
    assert not rig.outcomes
    while rig.wires[connection].pending:
        rig.accept_write(connection, 100)
    assert list(rig.outcomes) == sends
    assert all(isinstance(outcome, SendCompleted) for outcome in rig.outcomes.values())


@pytest.mark.parametrize(
    "end",
    [pytest.param("reset", id="C06-reset"), pytest.param("half-close", id="C06-half-close")],
)
def test_queued_sends_are_told_when_the_peer_goes(end):
    rig = Rig()
    connection, sends = stuck(rig)
    if end == "reset":
        rig.lost(connection, errno.ECONNRESET)
        reasons = [rig.outcomes[send_id].reason for send_id in sends]
        assert reasons == [SendFailure.CONNECTION_LOST] * 3
    else:
        rig.eof(connection)  # it will send nothing more, but it may read on
        assert not rig.outcomes
        rig.accept_write(connection)
        rig.accept_write(connection)
        assert [type(rig.outcomes[send_id]) for send_id in sends] == [SendCompleted] * 3
    assert rig.wires[connection].closed


@pytest.mark.parametrize("idle", [pytest.param(IDLE_2_S, id="C07")])
def test_queued_sends_end_with_the_deadline_of_the_write_not_with_idleness(idle):
    rig = Rig(idle)
    connection, sends = stuck(rig)
    rig.advance(9.9)
    assert not rig.outcomes and not rig.wires[connection].closed
    rig.advance(0.2)
    assert [rig.outcomes[send_id].reason for send_id in sends] == [SendFailure.WRITE_TIMEOUT] * 3


@pytest.mark.parametrize("megabytes", [pytest.param(48, id="C08")])
def test_a_peer_that_never_reads_makes_the_pool_hold_little_and_not_for_long(megabytes):
    rig = Rig(writes_complete=False)
    connection, _ = serve(rig)
    message = request(body=bytes(60_000))
    refused = 0
    for _ in range(megabytes * 2**20 // len(message)):
        rig.data(connection, message + b"\r\n\r\n")
        [received] = rig.take(MessageReceived)
        try:
            rig.reply(received, response(received.message, body=received.message.body))
        except QueueFull:
            refused += 1
        assert rig.pool.stats.queued_bytes <= 2**18 + 2  # and one pong
    assert refused > 700
    rig.advance(10.1)
    assert rig.wires[connection].closed and rig.wires[connection].aborted
    assert rig.pool.stats.queued_bytes == 0


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        pytest.param("tcp:192.0.2.1:5060", TARGET, id="C09"),
        pytest.param("udp:192.0.2.1:5060", "udp:192.0.2.50:5070", id="U22"),
    ],
)
def test_text_is_no_message_and_spoils_nothing(endpoint, target):
    rig = Rig()
    rig.listen(endpoint)
    good = request(transport=endpoint[:3].upper())
    rig.send(good, target)
    if rig.opened:
        rig.connected(rig.opened[0])
    wide = good.decode().replace("OPTIONS", "\N{SNOWMAN}")
    with pytest.raises(TypeError):
        rig.send(wide, target)
    assert isinstance(rig.outcomes[rig.send(good, target)], SendCompleted)
    if rig.opened:
        assert rig.wires[rig.opened[0]].written == good * 2
    else:
        assert [data for _, data, _ in rig.datagrams] == [good] * 2


# Addresses.


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[::1]:5060", id="U18-short"),
        pytest.param("[0:0:0:0:0:0:0:1]:5060", id="U18-long"),
        pytest.param("[0::0001]:5060", id="U18-zeros"),
    ],
)
def test_a_restriction_is_an_address_not_its_spelling(text):
    rig = Rig(PoolConfig(restrict_to=Restriction.parse(text)))
    listener = rig.listen("udp:[::1]:5070")
    rig.datagram(listener, request(transport="UDP"), Address("::1", 5060))
    assert len(rig.take(MessageReceived)) == 1


PLACE = Address("192.0.2.9", 5060)


@pytest.mark.parametrize(
    "restriction",
    [
        pytest.param(Restriction.parse("192.0.2.9:5060"), id="U17-text"),
        pytest.param(Restriction.to(PLACE), id="U17-address"),
    ],
)
def test_a_restriction_as_documented_works_both_ways(restriction):
    rig = Rig(PoolConfig(restrict_to=restriction))
    listener = rig.listen("udp:192.0.2.1:5060")
    rig.datagram(listener, request(transport="UDP"), PLACE)
    assert len(rig.take(MessageReceived)) == 1
    rig.send(request(transport="UDP"), "udp:192.0.2.50:5070")
    assert rig.datagrams[0][2] == PLACE


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(("192.0.2.9", 5060, socket.AF_INET), id="U17-list"),
        pytest.param("192.0.2.9:5060", id="U17-bare-text"),
        pytest.param(PLACE, id="U17-bare-address"),
    ],
)
def test_a_restriction_of_another_kind_is_refused_at_once_and_not_by_the_first_datagram(wrong):
    with pytest.raises(ConfigurationError, match="restrict_to"):
        PoolConfig(restrict_to=wrong)


# Time.


@pytest.mark.parametrize(
    ("life", "stays"),
    [
        pytest.param(None, False, id="E04-nothing"),
        pytest.param(b"O", False, id="E04-partial-bytes"),
        pytest.param(b"\r\n\r\n", True, id="E04-pings"),
        pytest.param("message", True, id="E04-messages"),
        pytest.param("write", True, id="E04-writes"),
    ],
)
def test_what_refreshes_the_idle_timer(life, stays):
    config = PoolConfig().replace(min_idle_seconds=3.0, max_idle_seconds=3.0, message_seconds=4.0)
    rig = Rig(config)
    connection, [received] = serve(rig, request("ACK"))
    for number in range(24):
        rig.advance(0.5)
        if life == "message":
            rig.data(connection, request("ACK", branch=f"z9hG4bK{number}"))
        elif life == "write":
            rig.send(request("ACK", branch=f"z9hG4bK{number}"), flow=received.flow)
        elif life:
            rig.data(connection, life)
    assert rig.wires[connection].closed is not stays


@pytest.mark.parametrize("idle", [pytest.param(IDLE_2_S, id="E05")])
def test_the_application_may_think_about_an_invite_longer_than_idle_connections_live(idle):
    rig = Rig(idle)
    connection, [received] = serve(rig, request("INVITE"))
    rig.advance(30)
    rig.reply(received, response(received.message, 180))
    rig.advance(175)
    rig.reply(received, response(received.message, 200))
    assert rig.wires[connection].written.count(b"SIP/2.0 ") >= 2 and not rig.opened


def crowd(rig, listener, count):
    """Connections of one attacker, each of which has said something once."""
    for number in range(count):
        connection = rig.accept(listener, OTHER._replace(port=1024 + number))
        if connection is not None:
            rig.data(connection, request("ACK", call_id=f"c{number}"))
    rig.take(MessageReceived)


@pytest.mark.parametrize(
    "life",
    [
        pytest.param("owes an answer", id="E09-answer"),
        pytest.param("pings", id="E09-pings"),
    ],
)
def test_the_crowd_of_one_attacker_costs_a_peer_no_answer_and_no_flow_that_it_keeps_alive(life):
    rig = Rig()
    listener = rig.listen()
    good = rig.accept(listener)
    rig.data(good, request("INVITE" if life == "owes an answer" else "ACK"))
    crowd(rig, listener, 300)
    assert rig.pool.stats.connections == 1 + 256  # so many from one source
    assert rig.pool.stats.idle_seconds > 15
    for _ in range(3):
        rig.advance(10)
        if life == "pings":
            rig.data(good, b"\r\n\r\n")
    # Of the others so many are left as the formula lets live for 30 s.
    assert rig.pool.stats.connections <= 8 and not rig.wires[good].closed
    assert rig.pool.stats.idle_seconds >= 28


@pytest.mark.parametrize(
    "step",
    [pytest.param(3600.0, id="E10"), pytest.param(-3600.0, id="E11")],
)
def test_a_clock_that_leaps_closes_nobody_who_lives_and_keeps_nobody_for_ever(step):
    # The adapters' clock is the monotonic one; this is what the core makes of one that is not.
    rig = Rig(IDLE_2_S)
    connection, _ = serve(rig, request("ACK"))
    rig.now += step
    rig.data(connection, request("ACK", branch="z9hG4bKb"))
    assert not rig.wires[connection].closed
    later = max(rig.now, rig.now - step)
    rig.pool.handle_timer(now=later + 2.1)
    rig.drain()
    [closed] = rig.take(ConnectionClosed)
    assert closed.reason is CloseReason.EXPIRED


# TLS.


@pytest.mark.parametrize("pools", [pytest.param(2, id="T02")])
def test_settings_serve_as_many_pools_as_one_likes(pools, server_certificate, ca):
    tls = TlsSettings(
        server_certificate.certificate,
        server_certificate.key,
        ca.file,
        verify_client=ClientVerification.REQUIRED,
    )
    before = repr(tls)
    for _ in range(pools):
        server = Rig(PoolConfig(tls=tls))
        connection = server.accept(server.listen("tls:192.0.2.1:5061"))
        client = Rig(PoolConfig(tls=TlsSettings(ca=ca.file)))
        client.send(request(transport="TLS"), Target(Transport.TLS, PLACE, "server.test"))
        ours = client.opened[0]
        client.connected(ours)
        server.data(connection, client.wires[ours].written)
        hello = len(client.wires[ours].written)
        client.data(ours, server.wires[connection].written)
        server.data(connection, client.wires[ours].written[hello:])
        assert not server.take(MessageReceived)
        assert server.take(ConnectionClosed)[0].reason is CloseReason.HANDSHAKE_FAILED
    assert repr(tls) == before


# Cost.


def lines_of(work):
    """How many lines of Python it runs: a scan of all connections shows, whatever the machine."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("connections", [pytest.param(1000, id="M04")])
def test_a_request_and_its_answer_cost_the_same_however_many_connections_there_are(connections):
    costs = []
    for others in (1, connections):
        rig = Rig(PoolConfig().replace(max_connections_per_source=2000))
        listener = rig.listen()
        for number in range(others):
            rig.data(rig.accept(listener), request("ACK", call_id=f"c{number}"))
        connection = rig.accept(listener)
        rig.take(MessageReceived)

        def exchange(number, rig=rig, connection=connection):
            rig.advance(0.01)
            rig.data(connection, request(branch=f"z9hG4bK{number}"))
            [received] = rig.take(MessageReceived)
            rig.reply(received, response(received.message))

        rig.take(object)
        costs.append(sum(lines_of(lambda n=n: exchange(n)) for n in range(20)))
    assert 0 < costs[1] <= costs[0] * 1.2, costs
