"""Which way a response or a request takes: its flow, its transaction key, its target (RFC 3261 section 18.2.2)."""

import pytest

from sippool_core import (
    Address,
    AmbiguousTransaction,
    ConnectionOpened,
    InputDropped,
    InvalidMessage,
    MessageReceived,
    PoolConfig,
    Restriction,
    SendCompleted,
    SendFailure,
    Target,
    Transport,
)
from tests.core.rig import PEER, Rig, request, response

OTHER = Address("192.0.2.10", 40002)
TARGET = "tcp:192.0.2.50:5070"


def test_a_request_is_delivered_with_its_flow_and_answered_on_its_connection():
    rig = Rig()
    connection, [received] = rig.serve(request(branch="z9hG4bKx", via=";rport"))
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
    connection, [first] = rig.serve(request(branch="z9hG4bKopen"))
    for number in range(60):
        rig.data(connection, request(branch=f"z9hG4bK{number}"))
        [event] = rig.take(MessageReceived)
        rig.send(response(event.message))
    assert rig.outcomes[rig.send(response(first.message))].flow.id == connection


def test_a_request_that_comes_again_after_its_answer_is_owed_one_again():
    rig = Rig()
    connection, [first, again] = rig.serve(request(), request())
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
    connection, [first, second] = rig.serve(request(branch="z9hG4bK1"), request(branch="z9hG4bK2"))
    assert rig.outcomes[rig.send(response(first.message))].reason is SendFailure.FLOW_FAILED
    assert rig.outcomes[rig.send(response(second.message))].flow.id == connection
    rig.data(connection, request(branch="z9hG4bK3"))
    assert rig.pool.owes_answers


def test_reply_answers_this_request_and_nothing_else():
    rig = Rig()
    _, [received, ack] = rig.serve(request(branch="z9hG4bKa"), request("ACK", branch="z9hG4bKb"))
    with pytest.raises(InvalidMessage, match="not a response"):
        rig.reply(received, request())
    with pytest.raises(InvalidMessage, match="not a response"):
        rig.reply(received, response(request(branch="z9hG4bKother")))
    with pytest.raises(InvalidMessage, match="no request"):
        rig.reply(ack, response(ack.message))
    with pytest.raises(InvalidMessage):
        rig.reply(received, response(received.message) * 2)
    assert not rig.outcomes


def test_a_send_whose_flow_is_gone_fails_and_opens_nothing():
    rig = Rig()
    connection, [received] = rig.serve(request())
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
    connection, _ = rig.serve()
    unknown = response(request(branch="z9hG4bKunknown"))
    rig.send(unknown, Target(Transport.TCP, PEER))  # a connection whose peer it is
    assert rig.wires[connection].written == unknown
    rig.send(unknown, TARGET)  # or a new one
    rig.connected(rig.opened[0])
    assert rig.wires[rig.opened[0]].written == unknown


def test_a_known_request_wins_over_the_target_of_its_response():
    rig = Rig()
    connection, [received] = rig.serve(request())
    rig.send(response(received.message), TARGET)
    assert rig.wires[connection].written and not rig.opened


def test_a_request_goes_out_on_a_given_flow():
    rig = Rig()
    connection, [received] = rig.serve(request())
    rig.send(request(branch="z9hG4bKback"), flow=received.flow)
    assert b"z9hG4bKback" in rig.wires[connection].written


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
