"""Which connection a message takes, and what becomes of it: RFC 3261 section 18 over TCP."""

import errno

import pytest

from sippool_core import (
    Address,
    AmbiguousTransaction,
    CloseReason,
    ConfigurationError,
    ConnectionClosed,
    ConnectionOpened,
    InputDropped,
    InvalidMessage,
    MessageReceived,
    NoRoute,
    PoolConfig,
    Restriction,
    SendCancelled,
    SendCompleted,
    SendFailure,
    Target,
    TlsSettings,
    Transport,
)
from tests.core.rig import OURS, PEER, Rig, request, response

OTHER = Address("192.0.2.10", 40002)
TARGET = "tcp:192.0.2.50:5070"


def serve(rig, *messages, peer=PEER):
    """A listener, an accepted connection, and what it received."""
    listener = rig.listen()
    connection = rig.accept(listener, peer)
    for message in messages:
        rig.data(connection, message)
    return connection, rig.take(MessageReceived)


def test_a_request_is_delivered_with_its_flow_and_answered_on_its_connection():
    rig = Rig()
    connection, [received] = serve(rig, request(branch="z9hG4bKx", via=";rport"))
    assert rig.take(ConnectionOpened)[0].flow == received.flow
    assert received.flow.id == connection
    assert (received.flow.transport, received.flow.peer) == (Transport.TCP, PEER)
    assert received.flow.family == 4
    assert b";received=192.0.2.9" in received.message.raw
    assert b"rport=40001" in received.message.raw

    answer = response(received.message)
    send_id = rig.reply(received, answer)

    assert rig.wires[connection].written == answer
    assert rig.outcomes[send_id] == SendCompleted(send_id, received.flow, True)
    assert rig.pool.stats.messages_received == 1


def test_two_peers_with_the_same_call_id_and_cseq_get_their_own_answers():
    rig = Rig()
    listener = rig.listen()
    first, second = rig.accept(listener), rig.accept(listener, OTHER)
    for connection, branch in ((first, "z9hG4bK1"), (second, "z9hG4bK2")):
        rig.data(connection, request(branch=branch, call_id="same"))
    one, two = rig.take(MessageReceived)

    # Without a flow the transaction key decides, not Call-ID and CSeq.
    rig.send(response(two.message, 202))
    rig.send(response(one.message, 201))

    assert rig.wires[first].written.startswith(b"SIP/2.0 201")
    assert rig.wires[second].written.startswith(b"SIP/2.0 202")


def test_the_same_transaction_key_on_two_flows_is_refused_without_a_flow():
    rig = Rig()
    listener = rig.listen()
    victim, attacker = rig.accept(listener), rig.accept(listener, OTHER)
    rig.data(victim, request(branch="z9hG4bKguess"))
    rig.data(attacker, request(branch="z9hG4bKguess"))
    [asked, stolen] = rig.take(MessageReceived)

    with pytest.raises(AmbiguousTransaction):
        rig.send(response(asked.message))
    assert rig.wires[victim].written == rig.wires[attacker].written == b""

    # Its own flow is never ambiguous; nor is the key once the other connection has gone.
    rig.reply(asked, response(asked.message, 183))
    rig.eof(attacker)
    rig.lost(attacker)
    rig.send(response(asked.message, 200))
    assert rig.wires[attacker].written == b""
    assert rig.wires[victim].written.count(b" OK\r\n") == 2
    assert stolen.flow.id == attacker


def test_a_closing_connection_takes_only_its_own_memory_with_it():
    rig = Rig()
    listener = rig.listen()
    first, second = rig.accept(listener), rig.accept(listener, OTHER)
    rig.data(first, request(branch="z9hG4bKone"))
    rig.data(second, request(branch="z9hG4bKone"))
    [received, _] = rig.take(MessageReceived)
    rig.lost(second)
    send_id = rig.send(response(received.message))
    assert rig.outcomes[send_id].flow.id == first


def test_the_thirty_first_open_request_pushes_out_the_oldest_of_that_connection():
    rig = Rig()
    listener = rig.listen()
    crowded, other = rig.accept(listener), rig.accept(listener, OTHER)
    rig.data(other, request(branch="z9hG4bKother"))
    for number in range(31):
        rig.data(crowded, request(branch=f"z9hG4bK{number}"))
        rig.data(crowded, request(branch="z9hG4bK30"))  # a retransmission takes no second place
    messages = [event.message for event in rig.take(MessageReceived)]
    by_branch = {message.via.branch: message for message in messages}

    lost = rig.send(response(by_branch[b"z9hG4bK0"]))
    kept = [rig.send(response(by_branch[b"z9hG4bK%d" % number])) for number in (1, 2, 30)]
    others = rig.send(response(by_branch[b"z9hG4bKother"]))

    assert rig.outcomes[lost].reason is SendFailure.FLOW_FAILED
    assert [rig.outcomes[send_id].flow.id for send_id in kept] == [crowded] * 3
    assert rig.outcomes[others].flow.id == other


def test_a_repeated_final_answer_goes_to_nobody_else():
    rig = Rig()
    listener = rig.listen()
    victim, attacker = rig.accept(listener), rig.accept(listener, OTHER)
    rig.data(victim, request("INVITE", branch="z9hG4bKguess"))
    [asked] = rig.take(MessageReceived)
    rig.send(response(asked.message))
    rig.send(response(asked.message))  # a 2xx is repeated until its ACK comes
    assert rig.wires[victim].written.count(b" 200 OK") == 2
    rig.data(attacker, request("INVITE", branch="z9hG4bKguess"))
    with pytest.raises(AmbiguousTransaction):
        rig.send(response(asked.message))
    assert rig.wires[attacker].written == b""


def test_answered_requests_make_room_before_open_ones():
    rig = Rig()
    connection, [first] = serve(rig, request(branch="z9hG4bKopen"))
    for number in range(60):
        rig.data(connection, request(branch=f"z9hG4bK{number}"))
        [event] = rig.take(MessageReceived)
        rig.send(response(event.message))
    assert rig.outcomes[rig.send(response(first.message))].flow.id == connection


def test_a_request_that_comes_again_after_its_answer_is_owed_one_again():
    rig = Rig()
    connection, [first, again] = serve(rig, request(), request())
    rig.send(response(first.message))
    rig.data(connection, request())
    assert rig.pool.owes_answers
    rig.send(response(again.message))
    assert not rig.pool.owes_answers


def test_a_cancelled_request_may_have_been_pushed_out_of_memory():
    rig = Rig(PoolConfig().replace(max_open_requests=1))
    rig.send(request(branch="z9hG4bK0"), TARGET)
    first = rig.send(request(branch="z9hG4bK1"), TARGET)
    rig.send(request(branch="z9hG4bK2"), TARGET)
    rig.cancel(first)
    rig.connected(rig.opened[0])
    assert b"z9hG4bK1" not in rig.wires[rig.opened[0]].written


def test_the_only_memory_of_a_flow_may_be_pushed_out():
    rig = Rig(PoolConfig().replace(max_open_requests=1))
    connection, [first, second] = serve(rig, request(branch="z9hG4bK1"), request(branch="z9hG4bK2"))
    assert rig.outcomes[rig.send(response(first.message))].reason is SendFailure.FLOW_FAILED
    assert rig.outcomes[rig.send(response(second.message))].flow.id == connection
    rig.data(connection, request(branch="z9hG4bK3"))
    assert rig.pool.owes_answers


def test_reply_answers_this_request_and_nothing_else():
    rig = Rig()
    _, [received, ack] = serve(rig, request(branch="z9hG4bKa"), request("ACK", branch="z9hG4bKb"))
    with pytest.raises(InvalidMessage, match="not a response"):
        rig.reply(received, request())
    with pytest.raises(InvalidMessage, match="not a response"):
        rig.reply(received, response(request(branch="z9hG4bKother")))
    with pytest.raises(InvalidMessage, match="no request"):
        rig.reply(ack, response(ack.message))
    with pytest.raises(InvalidMessage):
        rig.reply(received, response(received.message) * 2)
    assert not rig.outcomes


def test_a_request_opens_a_connection_and_later_ones_reuse_it():
    rig = Rig()
    listener = rig.listen("tcp:192.0.2.1:5060")
    sends = [rig.send(request(branch=f"z9hG4bK{n}"), TARGET) for n in range(3)]
    [connection] = rig.opened  # one connect is shared, and keeps the order
    assert rig.wires[connection].local == Address("192.0.2.1", 0)  # from the listener's address
    assert not rig.outcomes
    rig.connected(connection)
    assert [rig.wires[connection].written.find(b"z9hG4bK%d" % n) for n in range(3)] == sorted(
        rig.wires[connection].written.find(b"z9hG4bK%d" % n) for n in range(3)
    )
    assert [rig.outcomes[send_id].reused for send_id in sends] == [False] * 3
    [opened] = rig.take(ConnectionOpened)
    assert opened.flow.outbound and opened.flow.local.port == 33333
    assert opened.flow.listener_id == listener

    again = rig.send(request(branch="z9hG4bK9"), TARGET)
    assert rig.opened == [connection] and rig.outcomes[again].reused
    assert rig.pool.stats.connections_opened == 1


def test_a_response_comes_back_over_our_own_connection_as_a_message():
    rig = Rig()
    rig.send(request(branch="z9hG4bKours"), TARGET)
    rig.connected(rig.opened[0])
    rig.data(rig.opened[0], response(request(branch="z9hG4bKours")))
    [received] = rig.take(MessageReceived)
    assert received.message.status == 200
    assert b"received" not in received.message.raw


def test_an_accepted_connection_is_reused_for_exactly_its_address():
    rig = Rig()
    connection, _ = serve(rig)
    rig.send(request(), Target(Transport.TCP, PEER))
    assert rig.wires[connection].written and not rig.opened
    rig.send(request(branch="z9hG4bKb"), Target(Transport.TCP, PEER._replace(port=5060)))
    assert len(rig.opened) == 1


def test_both_sides_dialling_at_once_leaves_both_usable():
    rig = Rig()
    listener = rig.listen()
    rig.send(request(branch="z9hG4bKout"), Target(Transport.TCP, PEER))
    ours = rig.opened[0]
    theirs = rig.accept(listener)
    rig.connected(ours)
    rig.data(theirs, request(branch="z9hG4bKin"))
    [received] = rig.take(MessageReceived)
    rig.reply(received, response(received.message))
    assert b"200 OK" in rig.wires[theirs].written
    rig.send(request(branch="z9hG4bKnext"), Target(Transport.TCP, PEER))
    assert b"z9hG4bKnext" in rig.wires[ours].written
    rig.eof(theirs)
    rig.send(request(branch="z9hG4bKafter"), Target(Transport.TCP, PEER))
    assert b"z9hG4bKafter" in rig.wires[ours].written


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ECONNREFUSED, SendFailure.CONNECTION_REFUSED),
        (errno.ETIMEDOUT, SendFailure.CONNECT_TIMEOUT),
        (errno.ENETUNREACH, SendFailure.UNREACHABLE),
        (errno.EMFILE, SendFailure.NO_RESOURCES),
        (errno.ECONNRESET, SendFailure.CONNECTION_LOST),
        (errno.EIO, SendFailure.SYSTEM_ERROR),
    ],
)
def test_a_refused_connect_fails_every_send_that_waited_for_it_once(code, reason):
    rig = Rig()
    sends = [rig.send(request(branch=f"z9hG4bK{n}"), TARGET) for n in range(4)]
    rig.lost(rig.opened[0], code)
    for send_id in sends:
        failed = rig.outcomes[send_id]
        assert (failed.reason, failed.bytes_may_be_out) == (reason, False)
        assert failed.detail == errno.errorcode[code]
    [closed] = rig.take(ConnectionClosed)
    assert closed.reason is CloseReason.CONNECT_FAILED
    assert rig.wires[rig.opened[0]].closed
    # Late reports about it are ignored.
    rig.connected(rig.opened[0])
    rig.data(rig.opened[0], request())
    rig.eof(rig.opened[0])
    rig.lost(rig.opened[0])
    rig.pool.handle_written(rig.opened[0], 5, now=rig.now)
    assert not rig.take(object)


def test_a_connection_to_itself_is_a_refused_one():
    rig = Rig()
    send_id = rig.send(request(), Target(Transport.TCP, OURS))
    rig.connected(rig.opened[0])
    assert rig.outcomes[send_id].reason is SendFailure.CONNECTION_REFUSED
    assert rig.wires[rig.opened[0]].closed and not rig.take(ConnectionOpened)


def test_a_reused_connection_that_proves_dead_costs_one_silent_new_try():
    rig = Rig(writes_complete=False)
    rig.send(request(branch="z9hG4bK1"), TARGET)
    first = rig.opened[0]
    rig.connected(first)
    rig.accept_write(first)
    send_id = rig.send(request(branch="z9hG4bK2"), TARGET)
    rig.lost(first, errno.EPIPE)  # before any byte went out

    second = rig.opened[1]
    assert send_id not in rig.outcomes and rig.pool.stats.sends_retried == 1
    rig.connected(second)
    rig.accept_write(second)
    assert rig.outcomes[send_id] == SendCompleted(send_id, rig.outcomes[send_id].flow, False)

    # Once only, and never when bytes may be out.
    third = rig.send(request(branch="z9hG4bK3"), TARGET)
    rig.accept_write(second, 10)
    rig.lost(second, errno.ECONNRESET)
    assert rig.outcomes[third].bytes_may_be_out
    assert rig.outcomes[third].reason is SendFailure.CONNECTION_LOST


def test_the_second_death_is_reported():
    rig = Rig(writes_complete=False)
    rig.send(request(branch="z9hG4bK1"), TARGET)
    rig.connected(rig.opened[0])
    rig.accept_write(rig.opened[0])
    send_id = rig.send(request(branch="z9hG4bK2"), TARGET)
    rig.lost(rig.opened[0])
    rig.lost(rig.opened[1], errno.ECONNREFUSED)
    assert rig.outcomes[send_id].reason is SendFailure.CONNECTION_REFUSED
    assert len(rig.opened) == 2


def test_messages_queued_behind_a_write_go_out_as_one_and_complete_in_order():
    rig = Rig(writes_complete=False)
    connection, received = serve(rig, *[request(branch=f"z9hG4bK{n}") for n in range(3)])
    answers = [response(event.message, 200 + n) for n, event in enumerate(received)]
    sends = [rig.reply(event, answer) for event, answer in zip(received, answers, strict=True)]
    wire = rig.wires[connection]
    assert wire.pending == answers[0]
    rig.accept_write(connection)
    assert wire.pending == answers[1] + answers[2]
    rig.accept_write(connection, len(answers[1]) - 1)
    assert sends[1] not in rig.outcomes
    rig.accept_write(connection, 1)
    assert isinstance(rig.outcomes[sends[1]], SendCompleted) and sends[2] not in rig.outcomes
    rig.accept_write(connection)
    assert wire.written == b"".join(answers)
    assert list(rig.outcomes) == sends


def test_a_lost_connection_fails_what_is_unsent_and_says_what_may_be_out():
    rig = Rig(writes_complete=False)
    connection, received = serve(rig, *[request(branch=f"z9hG4bK{n}") for n in range(4)])
    first = rig.reply(received[0], response(received[0].message))
    rig.accept_write(connection)
    sends = [rig.reply(event, response(event.message)) for event in received[1:]]
    rig.accept_write(connection, 3)
    rig.lost(connection, errno.ECONNRESET)
    assert isinstance(rig.outcomes[first], SendCompleted)
    assert [rig.outcomes[send_id].bytes_may_be_out for send_id in sends] == [True, False, False]
    [closed] = rig.take(ConnectionClosed)
    assert (closed.reason, closed.detail) == (CloseReason.RESET, "ECONNRESET")
    assert rig.pool.stats.queued_bytes == 0


def test_a_cancelled_send_is_taken_back_or_let_go_and_the_stream_stays_whole():
    rig = Rig(writes_complete=False)
    connection, received = serve(rig, *[request(branch=f"z9hG4bK{n}") for n in range(3)])
    answers = [response(event.message, 200 + n) for n, event in enumerate(received)]
    on_its_way, queued, last = (
        rig.reply(event, answer) for event, answer in zip(received, answers, strict=True)
    )
    rig.accept_write(connection, 5)
    rig.cancel(on_its_way)
    rig.cancel(queued)
    rig.cancel(queued)  # a second time finds nothing
    assert rig.outcomes[on_its_way] == SendCancelled(on_its_way, True)
    assert rig.outcomes[queued] == SendCancelled(queued, False)
    rig.accept_write(connection)
    rig.accept_write(connection)
    assert rig.wires[connection].written == answers[0] + answers[2]
    assert isinstance(rig.outcomes[last], SendCompleted)
    assert rig.pool.stats.sends_cancelled == 2


def test_a_cancelled_request_no_longer_holds_its_connection():
    rig = Rig()
    send_id = rig.send(request(), TARGET)
    rig.cancel(send_id)
    rig.connected(rig.opened[0])
    assert rig.wires[rig.opened[0]].written == b""
    rig.advance(119)
    assert not rig.wires[rig.opened[0]].closed
    rig.advance(2)
    assert rig.take(ConnectionClosed)[0].reason is CloseReason.EXPIRED


def test_a_send_whose_flow_is_gone_fails_and_opens_nothing():
    rig = Rig()
    connection, [received] = serve(rig, request())
    rig.lost(connection)
    for send_id in (
        rig.reply(received, response(received.message)),
        rig.send(response(received.message)),
        rig.send(request(), flow=received.flow),
    ):
        assert rig.outcomes[send_id].reason is SendFailure.FLOW_FAILED
    assert not rig.opened


def test_a_response_nobody_asked_for_goes_to_its_target():
    rig = Rig()
    connection, _ = serve(rig)
    unknown = response(request(branch="z9hG4bKunknown"))
    rig.send(unknown, Target(Transport.TCP, PEER))  # a connection whose peer it is
    assert rig.wires[connection].written == unknown
    rig.send(unknown, TARGET)  # or a new one
    rig.connected(rig.opened[0])
    assert rig.wires[rig.opened[0]].written == unknown


def test_a_known_request_wins_over_the_target_of_its_response():
    rig = Rig()
    connection, [received] = serve(rig, request())
    rig.send(response(received.message), TARGET)
    assert rig.wires[connection].written and not rig.opened


def test_a_request_goes_out_on_a_given_flow():
    rig = Rig()
    connection, [received] = serve(rig, request())
    rig.send(request(branch="z9hG4bKback"), flow=received.flow)
    assert b"z9hG4bKback" in rig.wires[connection].written


def test_what_cannot_be_sent_is_refused_with_nothing_queued():
    rig = Rig()
    with pytest.raises(NoRoute, match="needs a target"):
        rig.send(request())
    with pytest.raises(NoRoute, match="no UDP socket"):
        rig.send(request(), "udp:192.0.2.50:5060")
    with pytest.raises(NoRoute, match="nothing can be sent"):
        rig.send(request(), Target(Transport.TCP, Address("192.0.2.50", 0)))
    with pytest.raises(ValueError, match="resolved before"):
        rig.send(request(), "sip:example.com")
    with pytest.raises(InvalidMessage):
        rig.send(b"OPTIONS", TARGET)
    assert not rig.opened and not rig.outcomes


def test_a_restricted_pool_sends_there_and_hears_nobody_else():
    place = Address("192.0.2.9", 5070)
    rig = Rig(PoolConfig(restrict_to=Restriction.to(place)))
    listener = rig.listen()
    assert rig.accept(listener, OTHER) is None
    [dropped] = rig.take(InputDropped)
    assert dropped.reason.value == "not_allowed" and dropped.flow.peer == OTHER
    assert rig.accept(listener, PEER) is not None  # an ephemeral port of the right host
    rig.send(request(), TARGET)
    assert rig.wires[rig.opened[0]].peer == place

    anywhere = Rig(PoolConfig(restrict_to=Restriction.parse("192.0.2.9")))
    anywhere.send(request(), TARGET)
    assert anywhere.wires[anywhere.opened[0]].peer == Address("192.0.2.9", 5070)


def test_a_stream_listener_cannot_be_connected_nor_tls_be_without_a_certificate():
    rig = Rig()
    with pytest.raises(ConfigurationError, match="only a UDP socket"):
        rig.listen(connected_to=PEER)
    with pytest.raises(ConfigurationError, match="needs a certificate"):
        rig.listen("tls:192.0.2.1:5061")
    with_settings = Rig(PoolConfig(tls=TlsSettings()))
    with pytest.raises(ConfigurationError, match="needs a certificate"):
        with_settings.listen("tls:192.0.2.1:5061")


def test_a_connection_without_a_listener_is_bound_by_the_system():
    rig = Rig()
    rig.send(request(), TARGET)
    assert rig.wires[rig.opened[0]].local is None
    rig.listen("tcp:0.0.0.0:5060")
    rig.send(request(branch="z9hG4bKb"), TARGET)
    assert rig.wires[rig.opened[1]].local is None  # another listener, another connection
