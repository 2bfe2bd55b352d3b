"""Which connection a message takes, and what becomes of it: RFC 3261 section 18 over TCP."""

import errno

import pytest

from sippool_core import (
    Address,
    CloseReason,
    ConfigurationError,
    ConnectionClosed,
    ConnectionOpened,
    InvalidMessage,
    MessageReceived,
    NoRoute,
    PoolConfig,
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
    connection, _ = rig.serve()
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
    connection, received = rig.serve(*[request(branch=f"z9hG4bK{n}") for n in range(3)])
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
    connection, received = rig.serve(*[request(branch=f"z9hG4bK{n}") for n in range(4)])
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
    connection, received = rig.serve(*[request(branch=f"z9hG4bK{n}") for n in range(3)])
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
