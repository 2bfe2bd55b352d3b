"""Everything a peer can grow has a bound, and reaching it costs nobody else."""

import errno

import pytest

from sippool_core import (
    Address,
    CloseReason,
    ConnectionClosed,
    ConnectionOpened,
    DropReason,
    InputDropped,
    MessageReceived,
    PoolConfig,
    SendFailure,
)
from tests.core.rig import PEER, Rig, request, response

TARGET = "tcp:192.0.2.50:5070"


def test_connections_in_all():
    rig = Rig(PoolConfig().replace(max_connections=2))
    listener = rig.listen()
    first = rig.accept(listener)
    rig.data(first, request())
    rig.send(request(), TARGET)
    assert rig.accept(listener) is None
    assert rig.take(InputDropped)[0].reason is DropReason.TOO_MANY_CONNECTIONS
    failed = rig.outcomes[rig.send(request(), "tcp:192.0.2.51:5070")]
    assert failed.reason is SendFailure.TOO_MANY_CONNECTIONS
    rig.lost(first)
    assert rig.accept(listener) is not None
    assert rig.pool.stats.connections == 2


def crowd(rig, listener, source, count, *, says=b""):
    """Connections from one address, which have said this."""
    connections = [rig.accept(listener, Address(source, 1000 + number)) for number in range(count)]
    for number, connection in enumerate(connections):
        if says:
            rig.data(connection, request(says, branch=f"z9hG4bK{source}{number}"))
    return connections


def evicted(rig):
    """Who had to go since this was asked last."""
    events = rig.take(ConnectionClosed)
    assert {event.reason for event in events} <= {CloseReason.EVICTED}
    return [event.flow.id for event in events]


def test_the_silent_ones_of_the_greediest_source_make_room_oldest_first():
    rig = Rig(PoolConfig().replace(max_connections=7))
    listener = rig.listen()
    honest = crowd(rig, listener, "192.0.2.1", 1)
    talking = crowd(rig, listener, "192.0.2.66", 2, says="ACK")
    greedy = crowd(rig, listener, "192.0.2.66", 2)
    others = crowd(rig, listener, "192.0.2.7", 2)
    for expected in (greedy[0], others[0], honest[0]):
        # Two each of the greedy one and another: the older pair is the greedier; then all have one.
        assert rig.accept(listener, Address(f"198.51.100.{expected}", 1)) is not None
        assert evicted(rig) == [expected]
    assert not any(rig.wires[connection].closed for connection in talking)
    assert rig.pool.stats.connections == 7


def test_idle_talkers_of_a_greedier_source_make_room_and_open_requests_stay():
    rig = Rig(PoolConfig().replace(max_connections=4))
    listener = rig.listen()
    owed = crowd(rig, listener, "192.0.2.66", 1, says="INVITE")
    idle = crowd(rig, listener, "192.0.2.66", 2, says="ACK")
    crowd(rig, listener, "192.0.2.1", 1, says="ACK")
    newcomer = rig.accept(listener, PEER)
    assert evicted(rig) == [idle[0]]
    rig.data(newcomer, request("ACK"))
    # Two, and the newcomer would have two as well: nobody has a better claim.
    assert rig.accept(listener, PEER) is None
    # Whoever opens a connection itself is nobody's source.
    rig.send(request(branch="z9hG4bKours"), TARGET)
    assert evicted(rig) == [idle[1]]
    assert not rig.wires[owed[0]].closed


def test_unsent_answers_are_no_idleness():
    rig = Rig(PoolConfig().replace(max_connections=2), writes_complete=False)
    listener = rig.listen()
    busy = crowd(rig, listener, "192.0.2.66", 2, says="OPTIONS")
    for event in rig.take(MessageReceived):
        rig.reply(event, response(event.message))
    assert rig.accept(listener) is None
    assert not any(rig.wires[connection].closed for connection in busy)


def test_connections_that_we_opened_make_room_for_nobody():
    rig = Rig(PoolConfig().replace(max_connections=1))
    rig.send(request(), TARGET)
    assert rig.accept(rig.listen()) is None
    failed = rig.outcomes[rig.send(request(), "tcp:192.0.2.51:5070")]
    assert failed.reason is SendFailure.TOO_MANY_CONNECTIONS


@pytest.mark.parametrize(
    ("same", "other"),
    [
        (Address("192.0.2.9", 2), Address("192.0.2.10", 1)),
        (Address("2001:db8::2", 1), Address("2001:db8:0:1::2", 1)),
        (Address("fe80::2", 1, 1), Address("fe80::2", 1, 2)),
    ],
)
def test_connections_from_one_source(same, other):
    rig = Rig(PoolConfig().replace(max_connections_per_source=2))
    listener = rig.listen()
    first = rig.accept(listener, same)
    rig.accept(listener, same._replace(port=77))
    assert rig.accept(listener, same._replace(port=78)) is None
    assert rig.take(InputDropped)[0].reason is DropReason.TOO_MANY_FROM_SOURCE
    assert rig.accept(listener, other) is not None
    rig.lost(first)
    assert rig.accept(listener, same) is not None


def test_connections_we_open_count_for_no_source():
    rig = Rig(PoolConfig().replace(max_connections_per_source=1))
    rig.send(request(), f"tcp:{PEER}")
    rig.connected(rig.opened[0])
    assert rig.accept(rig.listen()) is not None


def test_untaken_events_stop_the_reading_of_streams_and_no_byte_is_lost():
    rig = Rig(PoolConfig().replace(max_events=8), take_events=False)
    listener = rig.listen()
    first, second = rig.accept(listener), rig.accept(listener)
    sent = [request("ACK", branch=f"z9hG4bK{n}", call_id=f"c{n}") for n in range(20)]
    rig.data(first, b"".join(sent))
    rig.data(second, request("ACK", call_id="other"))
    assert rig.wires[first].paused and rig.wires[second].paused
    assert not rig.accepting[listener]
    assert rig.pool.stats.events_waiting == 8
    rig.drain()

    seen = []
    while not rig.wires[first].closed and len(seen) < 21:
        for _ in range(4):
            event = rig.pool.next_event()
            if isinstance(event, MessageReceived):
                seen.append(event.message)
        # Room again is something to do at once, by the one door for time.
        deadline = rig.pool.next_deadline()
        assert deadline is not None
        if deadline <= rig.now:
            rig.pool.handle_timer(now=rig.now)
            rig.drain()
        assert rig.pool.stats.events_waiting <= 8
    assert [message.call_id for message in seen if message.call_id != b"other"] == [
        b"c%d" % n for n in range(20)
    ]
    assert not rig.wires[first].paused and not rig.wires[second].paused
    assert rig.accepting[listener]


def test_event_bytes_are_bounded():
    rig = Rig(PoolConfig().replace(max_event_bytes=100_000), take_events=False)
    connection = rig.accept(rig.listen())
    for number in range(4):
        if not rig.wires[connection].paused:
            rig.data(connection, request("ACK", branch=f"z9hG4bK{number}", body=bytes(40_000)))
    assert rig.wires[connection].paused
    rig.collect()
    assert len(rig.take(MessageReceived)) == 3


def test_while_we_do_not_read_the_peers_deadlines_stand_still():
    rig = Rig(PoolConfig().replace(max_events=2), take_events=False)
    listener = rig.listen()
    connection = rig.accept(listener)
    rig.advance(5)
    rig.accept(listener)  # the inbox is full now
    rig.data(connection, request("ACK")[:50])
    assert rig.wires[connection].paused
    rig.advance(300)
    assert not rig.wires[connection].closed
    rig.collect()
    rig.pool.handle_timer(now=rig.now)
    rig.drain()
    assert not rig.wires[connection].paused
    rig.take_events = True
    rig.take(object)
    rig.advance(14.9)  # of the first message's 20 s, 5 were over before the pause
    assert not rig.wires[connection].closed
    rig.advance(0.2)
    assert rig.wires[connection].closed
    assert rig.take(ConnectionClosed)[-1].reason is CloseReason.FIRST_MESSAGE_TIMEOUT


def test_room_again_is_something_to_do_at_once_also_without_a_listener():
    rig = Rig(PoolConfig().replace(max_events=2), take_events=False)
    rig.send(request(), TARGET)
    rig.connected(rig.opened[0])
    rig.data(rig.opened[0], request("ACK") * 3)
    assert rig.wires[rig.opened[0]].paused and rig.pool.next_deadline() > rig.now
    rig.collect()
    assert rig.pool.next_deadline() == rig.now
    rig.pool.handle_timer(now=rig.now)
    rig.drain()
    assert rig.pool.stats.events_waiting == 2


@pytest.mark.parametrize("spoke", [False, True])
def test_a_message_that_ends_after_a_pause_ends_its_deadline(spoke):
    rig = Rig(PoolConfig().replace(max_events=2), take_events=False)
    listener = rig.listen()
    connection = rig.accept(listener)
    if spoke:
        rig.data(connection, request("ACK"))
        rig.collect()
    message = request("ACK", branch="z9hG4bKb")
    rig.data(connection, message[:50])
    rig.collect()
    rig.accept(listener)
    rig.accept(listener)  # the inbox is full now
    rig.data(connection, message[50:])
    assert rig.wires[connection].paused
    rig.take_events = True
    rig.collect()
    rig.advance(100)  # far beyond both deadlines of reading
    assert not rig.wires[connection].paused and not rig.wires[connection].closed


def test_a_paused_connection_can_be_lost():
    rig = Rig(PoolConfig().replace(max_events=2), take_events=False)
    connection = rig.accept(rig.listen())
    rig.data(connection, request("ACK") * 3)
    assert rig.wires[connection].paused
    rig.lost(connection)
    rig.collect()
    rig.pool.handle_timer(now=rig.now)
    rig.drain()
    assert rig.wires[connection].paused and rig.wires[connection].closed


def test_an_end_that_came_while_paused_is_acted_on_when_all_is_delivered():
    rig = Rig(PoolConfig().replace(max_events=2), take_events=False)
    connection = rig.accept(rig.listen())
    rig.data(connection, request("ACK") * 4)
    rig.eof(connection)
    assert not rig.wires[connection].closed
    for _ in range(4):
        rig.collect()
        rig.pool.handle_timer(now=rig.now)
        rig.drain()
    rig.collect()
    assert len(rig.take(MessageReceived)) == 4
    assert rig.take(ConnectionClosed)[0].reason is CloseReason.CLOSED_BY_PEER


def test_unfinished_messages_in_all_evict_the_one_begun_first():
    rig = Rig(PoolConfig().replace(max_partial_bytes=100_000))
    listener = rig.listen()
    connections = [rig.accept(listener) for _ in range(3)]
    for connection in connections:
        rig.data(connection, request(body=bytes(60_000))[:45_000])
        rig.advance(0.1)
    assert [rig.wires[connection].closed for connection in connections] == [True, False, False]
    assert rig.take(ConnectionClosed)[0].reason is CloseReason.RECEIVE_OVERLOAD
    assert rig.pool.stats.partial_bytes == 90_000
    for connection in connections:
        rig.lost(connection)
    assert rig.pool.stats.partial_bytes == 0


def test_the_one_that_exceeds_may_be_the_oldest_itself():
    rig = Rig(PoolConfig().replace(max_partial_bytes=10_000))
    connection = rig.accept(rig.listen())
    rig.data(connection, request(body=bytes(60_000))[:20_000])
    assert rig.wires[connection].closed


def test_want_of_descriptors_pauses_accepting_longer_each_time():
    rig = Rig()
    listener = rig.listen()
    pauses = []
    for _ in range(6):
        rig.pool.handle_accept_failed(listener, errno.EMFILE, now=rig.now)
        rig.pool.handle_accept_failed(listener, errno.EMFILE, now=rig.now)
        rig.drain()
        assert not rig.accepting[listener]
        pauses.append(round(rig.pool.next_deadline() - rig.now, 3))
        rig.advance(pauses[-1])
        assert rig.accepting[listener]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    rig.accept(listener)
    rig.pool.handle_accept_failed(listener, errno.ENFILE, now=rig.now)
    rig.drain()
    assert rig.pool.next_deadline() == pytest.approx(rig.now + 0.1)
    rig.pool.remove_listener(listener, now=rig.now)
    rig.drain()
    rig.advance(1)
    assert rig.pool.stats.accept_failures == 13


def test_an_accept_that_failed_because_the_peer_left_pauses_nothing():
    rig = Rig()
    listener = rig.listen()
    rig.pool.handle_accept_failed(listener, errno.ECONNABORTED, now=rig.now)
    rig.drain()
    assert rig.accepting[listener]


def test_two_reasons_not_to_accept_are_both_waited_for():
    rig = Rig(PoolConfig().replace(max_events=2), take_events=False)
    first, second = rig.listen(), rig.listen("tcp:[2001:db8::1]:5060")
    rig.pool.handle_accept_failed(first, errno.EMFILE, now=rig.now)
    rig.drain()
    rig.accept(second)
    rig.accept(second)
    assert rig.accepting == {first: False, second: False}
    rig.pool.handle_accept_failed(second, errno.EMFILE, now=rig.now)
    rig.drain()
    rig.now += 1
    rig.pool.handle_timer(now=rig.now)  # descriptors are back, but the inbox is full
    rig.drain()
    assert rig.accepting == {first: False, second: False}
    rig.pool.handle_accept_failed(first, errno.EMFILE, now=rig.now)
    rig.collect()
    rig.pool.handle_timer(now=rig.now)
    rig.drain()
    assert rig.accepting == {first: False, second: True}
    rig.advance(1)
    assert rig.accepting == {first: True, second: True}
    assert len(rig.take(ConnectionOpened)) == 2


def test_queued_bytes_of_one_connection_and_of_all():
    rig = Rig(writes_complete=False)
    connection = rig.accept(rig.listen())
    rig.data(connection, request())
    [received] = rig.take(MessageReceived)
    rig.reply(received, response(received.message, 183, body=bytes(60_000)))
    rig.accept_write(connection, 50_000)
    assert 10_000 < rig.pool.stats.queued_bytes < 11_000
    rig.accept_write(connection)
    assert rig.pool.stats.queued_bytes == 0
