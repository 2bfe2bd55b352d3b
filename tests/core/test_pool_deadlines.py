"""Every deadline: when it strikes, to the instant, and what puts it off."""

import pytest

from sippool_core import (
    CloseReason,
    ConnectionClosed,
    MessageReceived,
    PingReceived,
    PoolConfig,
    SendFailure,
)
from tests.core.rig import Rig, request, response

TARGET = "tcp:192.0.2.50:5070"


def serve(rig, *messages):
    connection = rig.accept(rig.listen())
    for message in messages:
        rig.data(connection, message)
    return connection, rig.take(MessageReceived)


def assert_closes_at(rig, connection, seconds, reason):
    """Not a moment before, and not a moment after."""
    rig.advance(seconds - 0.001)
    assert not rig.take(ConnectionClosed)
    rig.advance(0.002)
    [closed] = rig.take(ConnectionClosed)
    assert (closed.flow.id, closed.reason) == (connection, reason)


def test_connect():
    rig = Rig()
    sends = [rig.send(request(branch=f"z9hG4bK{n}"), TARGET) for n in range(2)]
    assert_closes_at(rig, rig.opened[0], 10, CloseReason.CONNECT_TIMEOUT)
    assert [rig.outcomes[send_id].reason for send_id in sends] == [SendFailure.CONNECT_TIMEOUT] * 2
    assert rig.wires[rig.opened[0]].closed


def test_first_message_counts_no_keepalives():
    rig = Rig()
    connection, _ = serve(rig)
    for _ in range(19):
        rig.advance(1)
        rig.data(connection, b"\r\n\r\n")
    assert rig.take(PingReceived)
    assert_closes_at(rig, connection, 1, CloseReason.FIRST_MESSAGE_TIMEOUT)


def test_one_message_from_its_first_byte():
    rig = Rig()
    connection, _ = serve(rig, request())
    rig.advance(5)
    message = request(branch="z9hG4bKslow", body=bytes(100))
    for at in range(19):
        rig.data(connection, message[at : at + 1])
        rig.advance(1)
    assert_closes_at(rig, connection, 1, CloseReason.MESSAGE_TIMEOUT)


def test_a_message_that_ends_in_time_ends_its_deadline():
    rig = Rig()
    connection, _ = serve(rig, request())
    message = request(branch="z9hG4bKb")
    rig.data(connection, message[:50])
    rig.advance(19)
    rig.data(connection, message[50:] + message[:50])
    rig.advance(19)
    rig.data(connection, message[50:])
    rig.advance(10)
    assert not rig.take(ConnectionClosed)


def test_a_write_without_progress():
    rig = Rig(writes_complete=False)
    connection, [received] = serve(rig, request(body=bytes(100)))
    send_id = rig.reply(received, response(received.message, body=bytes(1000)))
    for _ in range(5):
        rig.advance(9)
        rig.accept_write(connection, 10)
    assert_closes_at(rig, connection, 10, CloseReason.WRITE_TIMEOUT)
    assert rig.outcomes[send_id].reason is SendFailure.WRITE_TIMEOUT
    assert rig.outcomes[send_id].bytes_may_be_out
    assert rig.wires[connection].aborted


def test_closing():
    rig = Rig(writes_complete=False)
    connection, [received] = serve(rig, request())
    rig.reply(received, response(received.message))
    rig.pool.close_flow(received.flow, now=rig.now)
    rig.drain()
    assert_closes_at(rig, connection, 1, CloseReason.CLOSED_LOCALLY)
    assert rig.wires[connection].aborted


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_idle_time_tightens_as_connections_grow(count):
    rig = Rig()
    listener = rig.listen()
    connections = [rig.accept(listener) for _ in range(count)]
    for connection in connections:
        rig.data(connection, request("ACK"))
    expected = 15 + 105 / count
    assert rig.pool.stats.idle_seconds == expected
    rig.advance(expected - 0.001)
    assert not rig.take(ConnectionClosed)
    rig.advance(0.002)
    # All are equally old: the first goes, and so the others may stay a little longer, one after another.
    closed = [event.flow.id for event in rig.take(ConnectionClosed)]
    assert closed and closed == connections[: len(closed)]


def test_the_longest_idle_goes_first():
    rig = Rig(PoolConfig().replace(min_idle_seconds=3.0, max_idle_seconds=3.0))
    listener = rig.listen()
    connections = []
    for _ in range(4):
        connections.append(rig.accept(listener))
        rig.data(connections[-1], request("ACK"))
        rig.advance(0.5)
    rig.data(connections[0], request("ACK", branch="z9hG4bKagain"))
    order = []
    for _ in range(40):
        rig.advance(0.1)
        order += [event.flow.id for event in rig.take(ConnectionClosed)]
    assert order == [*connections[1:], connections[0]]


def test_whole_messages_and_completed_writes_are_life_and_half_messages_are_not():
    config = PoolConfig().replace(min_idle_seconds=3.0, max_idle_seconds=3.0, message_seconds=60.0)
    rig = Rig(config)
    connection, [received] = serve(rig, request("MESSAGE"))
    rig.reply(received, response(received.message))
    for number in range(5):
        rig.advance(2)
        rig.data(connection, request("ACK", branch=f"z9hG4bK{number}"))
    for number in range(5):
        rig.advance(2)
        rig.send(request("ACK", branch=f"z9hG4bKout{number}"), flow=received.flow)
    for _ in range(5):
        rig.advance(2)
        rig.data(connection, b"\r\n\r\n")
    assert not rig.take(ConnectionClosed)
    # Half a message puts nothing off; it has a deadline of its own, which ends in life or death.
    rig.advance(2)
    rig.data(connection, b"OPTIONS")
    rig.advance(30)
    assert not rig.take(ConnectionClosed)
    rig.advance(30)
    assert rig.take(ConnectionClosed)[0].reason is CloseReason.MESSAGE_TIMEOUT


def test_idle_expiry_to_the_instant():
    rig = Rig(PoolConfig().replace(min_idle_seconds=3.0, max_idle_seconds=3.0))
    connection, _ = serve(rig, request("ACK"))
    assert_closes_at(rig, connection, 3, CloseReason.EXPIRED)
    assert not rig.wires[connection].aborted


@pytest.mark.parametrize(
    ("method", "provisional", "seconds"),
    [
        ("OPTIONS", None, 32),
        ("INVITE", None, 32),
        ("INVITE", 100, 32),
        ("INVITE", 180, 181),
        ("OPTIONS", 183, 32),
    ],
)
def test_a_connection_that_owes_an_answer_is_held(method, provisional, seconds):
    rig = Rig(PoolConfig().replace(min_idle_seconds=2.0, max_idle_seconds=2.0))
    connection, [received] = serve(rig, request(method))
    if provisional:
        rig.reply(received, response(received.message, provisional))
    assert rig.pool.owes_answers
    assert_closes_at(rig, connection, seconds, CloseReason.EXPIRED)


def test_each_provisional_answer_begins_timer_c_anew_and_the_final_one_ends_it():
    rig = Rig(PoolConfig().replace(min_idle_seconds=2.0, max_idle_seconds=2.0))
    connection, [received] = serve(rig, request("INVITE"))
    for _ in range(3):
        rig.reply(received, response(received.message, 180))
        rig.advance(180)
    rig.reply(received, response(received.message, 100))
    rig.advance(180)
    rig.reply(received, response(received.message, 200))
    assert not rig.pool.owes_answers
    assert_closes_at(rig, connection, 2, CloseReason.EXPIRED)


def test_a_connection_that_awaits_an_answer_is_held_likewise():
    rig = Rig(PoolConfig().replace(min_idle_seconds=2.0, max_idle_seconds=2.0))
    rig.send(request("INVITE"), TARGET)
    connection = rig.opened[0]
    rig.connected(connection)
    rig.advance(31)
    rig.data(connection, response(request("INVITE"), 180))
    rig.advance(180)
    assert not rig.take(ConnectionClosed)
    rig.data(connection, response(request("INVITE"), 486))
    assert_closes_at(rig, connection, 2, CloseReason.EXPIRED)


def test_a_hold_that_ends_unanswered_leaves_a_patient_pool_time():
    rig = Rig()
    connection, _ = serve(rig, request())
    # Alone in the pool it may be idle for 120 s, begun anew when its hold of 32 s is over.
    assert_closes_at(rig, connection, 152, CloseReason.EXPIRED)


def test_an_unfinished_write_is_not_idle():
    config = PoolConfig().replace(min_idle_seconds=2.0, max_idle_seconds=2.0)
    rig = Rig(config, writes_complete=False)
    connection, [received] = serve(rig, request())
    rig.reply(received, response(received.message))
    for _ in range(4):
        rig.advance(9)
        rig.accept_write(connection, 1)
    assert not rig.take(ConnectionClosed)


def test_a_connection_that_is_busy_when_it_would_expire_expires_later():
    config = PoolConfig().replace(min_idle_seconds=2.0, max_idle_seconds=2.0)
    rig = Rig(config, writes_complete=False)
    connection, _ = serve(rig, request("ACK"))
    rig.advance(1.9)
    rig.data(connection, b"\r\n\r\n")
    rig.advance(2.1)
    assert not rig.take(ConnectionClosed)  # the pong is not out
    rig.accept_write(connection)
    rig.advance(2.1)
    assert rig.take(ConnectionClosed)[0].reason is CloseReason.EXPIRED


def test_a_connection_that_waits_for_the_application_expires_later():
    config = PoolConfig().replace(min_idle_seconds=2.0, max_idle_seconds=2.0, max_events=2)
    rig = Rig(config, take_events=False)
    connection, _ = serve(rig, request("ACK"))
    rig.data(connection, b"\r\n")  # the inbox is full: not even this is looked at
    assert rig.wires[connection].paused
    rig.advance(30)
    assert not rig.wires[connection].closed
    rig.take_events = True
    rig.collect()
    rig.advance(4.1)
    assert rig.take(ConnectionClosed)[0].reason is CloseReason.EXPIRED


def test_a_clock_that_steps_back_costs_no_deadline_and_one_that_leaps_expires_once():
    rig = Rig()
    connection, _ = serve(rig, request("ACK"))
    rig.now -= 3600
    rig.pool.handle_timer(now=rig.now)
    rig.data(connection, request("ACK", branch="z9hG4bKb"))
    assert rig.pool.next_deadline() == rig.now + 120  # it goes on from there
    rig.advance(119)
    assert not rig.take(ConnectionClosed)
    rig.now += 86400
    rig.pool.handle_timer(now=rig.now)
    rig.drain()
    assert [event.reason for event in rig.take(ConnectionClosed)] == [CloseReason.EXPIRED]


def test_the_deadline_of_a_clock_that_stepped_back_is_never_a_hair_early():
    for number in range(1, 100):
        rig = Rig(now=1000.0 + number / 7)
        connection, _ = serve(rig, request("ACK"))
        rig.now -= number / 3
        rig.pool.handle_timer(now=rig.now)
        rig.now = rig.pool.next_deadline()
        rig.pool.handle_timer(now=rig.now)
        rig.drain()
        assert rig.wires[connection].closed


def test_nothing_is_due_early():
    rig = Rig()
    assert rig.pool.next_deadline() is None
    serve(rig, request())
    rig.pool.handle_timer(now=rig.now)
    assert rig.pool.next_effect() is None
    assert rig.pool.next_deadline() > rig.now


def test_many_restarted_deadlines_leave_the_right_one():
    rig = Rig(PoolConfig().replace(message_seconds=50.0))
    connection, _ = serve(rig, request("ACK"))
    for number in range(500):
        rig.data(connection, request("ACK", branch=f"z9hG4bK{number}")[:30])
        rig.advance(0.01)
        rig.data(connection, request("ACK", branch=f"z9hG4bK{number}")[30:])
    assert rig.pool.next_deadline() == pytest.approx(rig.now + 120)


def test_many_restarted_deadlines_behind_an_earlier_one():
    rig = Rig(PoolConfig().replace(message_seconds=500.0))
    connection, _ = serve(rig, request("ACK"))
    silent = rig.accept(rig.listen())
    for number in range(200):
        message = request("ACK", branch=f"z9hG4bK{number}")
        rig.data(connection, message[:30])
        rig.data(connection, message[30:])
    assert_closes_at(rig, silent, 20, CloseReason.FIRST_MESSAGE_TIMEOUT)
