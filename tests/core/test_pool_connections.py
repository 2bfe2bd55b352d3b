"""The life of a TCP connection: half-closes, framing errors, malformed messages, pings, and every close."""

import errno

import pytest

from sippool_core import (
    Address,
    CloseReason,
    ConnectionClosed,
    ConnectionOpened,
    FramingFailed,
    InvalidMessage,
    MalformedReceived,
    MessageReceived,
    PeerFinished,
    PingReceived,
    PoolClosed,
    PoolConfig,
    QueueFull,
    SendFailed,
    SendFailure,
    SendUnawaited,
)
from tests.core.rig import PEER, Rig, request, response

OTHER = Address("192.0.2.10", 40002)
TARGET = "tcp:192.0.2.50:5070"


def test_a_half_closed_peer_still_gets_its_answer():
    rig = Rig()
    connection, [received] = rig.serve(request())
    rig.eof(connection)
    rig.eof(connection)
    assert rig.take(PeerFinished)[0].flow == received.flow
    assert not rig.wires[connection].closed
    # It reads nothing more, so a request of ours cannot be answered over it.
    failed = rig.send(request(branch="z9hG4bKours"), flow=received.flow)
    assert rig.outcomes[failed].reason is SendFailure.FLOW_FAILED
    answer = response(received.message)
    rig.reply(received, answer)
    assert rig.wires[connection].written == answer
    assert rig.wires[connection].closed and not rig.wires[connection].aborted
    assert rig.take(ConnectionClosed)[0].reason is CloseReason.CLOSED_BY_PEER


def test_a_half_closed_peer_is_not_waited_for_for_ever():
    rig = Rig()
    connection, _ = rig.serve(request())
    rig.eof(connection)
    rig.advance(31.9)
    assert not rig.wires[connection].closed
    rig.advance(0.2)
    assert rig.take(ConnectionClosed)[0].reason is CloseReason.HALF_CLOSED_TIMEOUT


def test_an_end_inside_a_message_is_reported_as_truncated():
    rig = Rig()
    connection, received = rig.serve(request(body=b"12345")[:-1])
    rig.eof(connection)
    assert not received
    assert rig.take(ConnectionClosed)[0].reason is CloseReason.TRUNCATED


def test_a_framing_error_delivers_what_came_before_and_allows_the_owed_answers():
    rig = Rig()
    good = request(branch="z9hG4bKgood")
    bad = request(branch="z9hG4bKbad").replace(b"Content-Length: 0", b"Content-Length: 1\r\nl: 2")
    connection, [received] = rig.serve(good + bad + request(branch="z9hG4bKnever"))
    [failed] = rig.take(FramingFailed)
    assert failed.defect.value == "conflicting_content_length"
    assert (failed.can_reply, failed.status_code) == (True, 400)
    wire = rig.wires[connection]
    assert not wire.shut and not wire.closed
    rig.reply(received, response(received.message))
    rig.reply(failed, response(failed.message, 400))
    assert wire.written.count(b"SIP/2.0 ") >= 2
    assert wire.shut and not wire.closed  # FIN first, so that no RST destroys the answers
    rig.data(connection, request(branch="z9hG4bKlate"))
    assert not rig.take(MessageReceived)
    gone = rig.send(request(), flow=received.flow)
    assert rig.outcomes[gone].reason is SendFailure.FLOW_FAILED
    rig.eof(connection)
    assert wire.closed
    assert rig.take(ConnectionClosed)[0].reason is CloseReason.FRAMING_ERROR


def test_a_framing_error_with_nobody_to_answer_is_over_within_a_second():
    rig = Rig()
    connection, _ = rig.serve(b"\x16\x03\x01garbage")
    [failed] = rig.take(FramingFailed)
    assert failed.message is None and not failed.can_reply
    with pytest.raises(InvalidMessage):
        rig.reply(failed, response(request()))
    wire = rig.wires[connection]
    assert wire.shut and not wire.closed
    rig.advance(1.0)
    assert wire.closed and not wire.aborted


def test_a_reset_while_closing_keeps_the_reason_of_the_close():
    rig = Rig()
    connection, _ = rig.serve(b"GET / HTTP/1.1\r\n")
    rig.lost(connection)
    assert rig.take(ConnectionClosed)[0].reason is CloseReason.FRAMING_ERROR


def test_a_malformed_message_keeps_the_connection_and_may_be_answered():
    rig = Rig()
    bad = request().replace(b"SIP/2.0\r\n", b"SIP/7.0\r\n", 1)
    connection, received = rig.serve(bad, request(branch="z9hG4bKnext"))
    [malformed] = rig.take(MalformedReceived)
    assert (malformed.status_code, malformed.can_reply) == (505, True)
    rig.reply(malformed, response(malformed.message, 505))
    assert rig.wires[connection].written.startswith(b"SIP/2.0 505")
    assert len(received) == 1


def test_a_malformed_message_that_nobody_could_answer():
    rig = Rig()
    _, received = rig.serve(request().replace(b"Via", b"Vio"), request(branch="z9hG4bKnext"))
    [malformed] = rig.take(MalformedReceived)
    assert not malformed.can_reply and len(received) == 1


def test_a_connect_is_reported_once_and_may_end_before():
    rig = Rig()
    rig.send(request(), TARGET)
    rig.connected(rig.opened[0])
    rig.connected(rig.opened[0])
    assert len(rig.take(ConnectionOpened)) == 1


def test_a_provisional_answer_after_the_final_one_means_nothing():
    rig = Rig(PoolConfig().replace(min_idle_seconds=2.0, max_idle_seconds=2.0))
    connection, [received] = rig.serve(request("INVITE"))
    rig.reply(received, response(received.message, 200))
    rig.reply(received, response(received.message, 180))
    assert not rig.pool.owes_answers
    rig.advance(2)
    assert rig.wires[connection].closed


def test_too_many_malformed_messages_in_a_while_close_the_connection():
    rig = Rig()
    bad = request().replace(b"SIP/2.0\r\n", b"SIP/7.0\r\n", 1)
    connection, _ = rig.serve(request(branch="z9hG4bKgood"), bad * 8)
    rig.advance(33)
    rig.data(connection, bad * 8)
    assert not rig.take(ConnectionClosed)
    rig.data(connection, bad * 2)
    malformed = rig.take(MalformedReceived)
    assert len(malformed) == 17
    assert not rig.wires[connection].shut  # the answers are owed still
    rig.advance(1)
    assert rig.take(ConnectionClosed)[0].reason is CloseReason.TOO_MANY_MALFORMED


def test_a_ping_is_answered_and_only_one_pong_is_ever_pending():
    rig = Rig(writes_complete=False)
    connection, _ = rig.serve(request())
    rig.data(connection, b"\r\n\r")
    assert rig.wires[connection].pending == b""
    rig.data(connection, b"\n" + b"\r\n\r\n" * 5)
    assert rig.wires[connection].pending == b"\r\n"
    assert len(rig.take(PingReceived)) == 6
    rig.accept_write(connection)
    assert rig.wires[connection].pending == b""
    rig.data(connection, b"\r\n\r\n")
    assert rig.wires[connection].pending == b"\r\n"
    rig.lost(connection)  # a lost pong is nobody's outcome
    assert not rig.outcomes


def test_keepalives_are_bounded_in_a_while():
    rig = Rig()
    connection, _ = rig.serve(request())
    rig.data(connection, b"\r\n\r\n" * 16000)
    rig.advance(21)
    rig.data(connection, b"\r\n\r\n" * 16000)
    assert not rig.take(FramingFailed)
    rig.data(connection, b"\r\n\r\n" * 16000)
    assert rig.take(FramingFailed)[0].defect.value == "keepalive_flood"


def test_closing_a_flow_sends_what_is_queued_first():
    rig = Rig(writes_complete=False)
    connection, [received] = rig.serve(request())
    answer = response(received.message)
    rig.reply(received, answer)
    rig.pool.close_flow(received.flow, now=rig.now)
    rig.pool.close_flow(received.flow, now=rig.now)
    rig.drain()
    late = rig.send(request(), flow=received.flow)
    assert rig.outcomes[late].reason is SendFailure.FLOW_FAILED
    assert not rig.wires[connection].closed
    rig.accept_write(connection)
    assert rig.wires[connection].written == answer and rig.wires[connection].closed
    assert rig.take(ConnectionClosed)[0].reason is CloseReason.CLOSED_LOCALLY
    rig.pool.close_flow(received.flow, now=rig.now)


def test_closing_the_pool_ends_every_send_once():
    rig = Rig(writes_complete=False)
    connection, [received] = rig.serve(request())
    stuck = rig.reply(received, response(received.message))
    waiting = rig.send(request(), TARGET)
    rig.close()
    assert rig.closed_listeners and not rig.pool.is_closed
    assert rig.outcomes[waiting].reason is SendFailure.POOL_CLOSED
    for call in (
        lambda: rig.send(request(), TARGET),
        lambda: rig.reply(received, response(received.message)),
        rig.listen,
    ):
        with pytest.raises(PoolClosed):
            call()
    assert rig.pool.handle_accepted(1, PEER, PEER, now=rig.now) is None
    rig.advance(1)
    assert rig.pool.is_closed and rig.wires[connection].aborted
    failed = rig.outcomes[stuck]
    assert isinstance(failed, SendFailed) and failed.reason is SendFailure.POOL_CLOSED
    rig.close()
    assert rig.pool.next_deadline() is None


def test_reports_about_unknown_listeners_are_ignored():
    rig = Rig()
    assert rig.accept(99) is None
    rig.pool.handle_accept_failed(99, errno.EMFILE, now=rig.now)
    rig.pool.handle_datagram(99, request(), PEER, now=rig.now)
    rig.pool.handle_unreachable(99, errno.ECONNREFUSED, None, now=rig.now)
    rig.pool.remove_listener(99, now=rig.now)
    rig.pool.cancel_send(99, now=rig.now)
    assert rig.pool.next_effect() is None and rig.pool.next_event() is None


def test_a_failure_that_nobody_awaits_becomes_an_event():
    rig = Rig()
    send_id = rig.send(request(), TARGET)
    rig.lost(rig.opened[0])
    rig.pool.note_unawaited(rig.outcomes[send_id])
    rig.drain()
    assert rig.take(SendUnawaited)[0].failed is rig.outcomes[send_id]


def test_a_full_queue_is_refused_before_anything_is_queued():
    config = PoolConfig().replace(max_queued_messages=2)
    rig = Rig(config, writes_complete=False)
    _, received = rig.serve(*[request(branch=f"z9hG4bK{n}") for n in range(3)])
    for event in received[:2]:
        rig.reply(event, response(event.message))
    with pytest.raises(QueueFull, match="2 messages"):
        rig.reply(received[2], response(received[2].message))
    with pytest.raises(BlockingIOError):
        rig.reply(received[2], response(received[2].message))

    big = Rig(PoolConfig().replace(max_queued_bytes_total=70_000), writes_complete=False)
    _, [received] = big.serve(request())
    big.send(request(body=bytes(60_000)), TARGET)
    with pytest.raises(QueueFull, match="together"):
        big.reply(received, response(received.message, body=bytes(20_000)))
