"""A pool's own books, counted again: each table by walking what it speaks of (I10, I17).

The books of a pool are many for the sake of speed, and say the same in other words. Whoever forgets one of them in one
place leaks, or finds a connection that has gone.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

from sippool_core import (
    InputDropped,
    MalformedReceived,
    MessageReceived,
    PeerUnreachable,
    PingReceived,
    SendUnawaited,
)

from .oracle import require

if TYPE_CHECKING:
    from sippool_core import PoolConfig, WriteData
    from sippool_core.connection import Connection
    from sippool_core.pool import Pool
    from sippool_core.transactions import Requests

_HANDSHAKING = ("waiting", "handshaking")
_PONG_BYTES = 2
_DISPENSABLE = (InputDropped, PeerUnreachable, PingReceived, SendUnawaited)


class Recount:
    """Call it to count the books of one pool again; raises `LawBroken` where two of them differ."""

    def __init__(self, core: Pool, config: PoolConfig) -> None:
        self._core = core
        self._config = config
        self._found: set[int] = set()

    def __call__(self) -> None:
        """A table names what has gone, misses what lives, or a sum is no sum?"""
        core, config = self._core, self._config
        connections = core._streams.connections
        _recount_bytes(core, config)
        _recount_inbox(core, config)
        _recount_admission(core, config)
        self._check_reuse()
        activity = core._streams.activity
        for requests in (activity._served, activity._awaited):
            _check_requests(requests, connections, config.limits.max_open_requests)
        watched = {number for number, one in connections.items() if one.phase.value == "open"}
        require("I10", set(activity.expiry._hold) == watched, "idleness is watched of others")
        queues = list(chain.from_iterable(queue.keys() for queue in activity.expiry._queues))
        require("I10", sorted(queues) == sorted(watched), "a connection is in no queue, or in two")
        owners = {owner for _, owner in core._timers._at}
        living = connections.keys() | core._router.listeners.keys()
        require("I10", owners <= living, "a deadline of somebody who has gone")

    def look_at_write(self, effect: WriteData) -> None:
        """What is written together has waited together."""
        connection = self._core._streams.connections.get(effect.connection_id)
        if connection is not None:
            _count_pongs(connection)

    def _check_reuse(self) -> None:
        """Each key leads to a connection that has it; who was found once is found as long as it carries requests."""
        streams = self._core._streams
        ids = streams._registry._reuse._ids
        for key, number in ids.items():
            owner = streams.connections.get(number)
            require("I10", owner is not None and owner.reuse_key == key, f"{key} leads nowhere")
            self._found.add(number)
        for connection in streams.connections.values():
            if connection.id in self._found and _carries_requests(connection):
                found = ids.get(connection.reuse_key) == connection.id
                require("I10", found, f"{connection.reuse_key} is not found any more")


def _recount_bytes(core: Pool, config: PoolConfig) -> None:
    stats, limits = core._state.stats, config.limits
    queued = partial = 0
    for connection in core._streams.connections.values():
        queued += connection.queued_bytes
        partial += connection.held_partial_bytes
        messages = connection.queued_messages - _count_pongs(connection)
        require("I17", messages <= limits.max_queued_messages, f"{messages} messages wait")
        if connection.tls is None:
            most = limits.max_queued_bytes + _PONG_BYTES
            require("I17", connection.queued_bytes <= most, f"{connection.queued_bytes} bytes wait")
        if connection.held_partial_bytes:
            held = connection.framer.buffered_bytes
            require("I17", connection.held_partial_bytes == held, "a partial message is miscounted")
        require("I17", connection.id == connection.flow.id, "a connection has another's number")
    require("I17", queued == stats.queued_bytes, f"{queued} bytes wait, not {stats.queued_bytes}")
    require("I17", partial == stats.partial_bytes, "the sum of partial messages is wrong")
    listed = len(core._streams.connections)
    require("I17", listed == stats.connections, f"{listed} connections, not {stats.connections}")


def _count_pongs(connection: Connection) -> int:
    pongs = sum(1 for send in connection._queue if not send.send_id)
    pongs += sum(1 for item in connection._in_flight if not item.send.send_id)
    require("I17", pongs <= 1, f"{pongs} pongs wait for {connection.peer}")
    return pongs


def _recount_inbox(core: Pool, config: PoolConfig) -> None:
    """Messages stop at the limit, and dispensable events at half of it; facts that must not be lost come on top."""
    limits, inbox = config.limits, core._state.inbox
    sizes = [
        size
        for event, size in inbox._events
        if isinstance(event, (MessageReceived, MalformedReceived))
    ]
    require("I29", len(sizes) <= limits.max_events, f"{len(sizes)} messages wait")
    spare = sum(1 for event, _ in inbox._events if isinstance(event, _DISPENSABLE))
    require("I29", spare <= limits.max_events // 2 + 1, f"{spare} dispensable events wait")
    total = sum(size for _, size in inbox._events)
    require("I29", total == inbox._bytes, "the bytes of waiting events are miscounted")
    last = sizes[-1] if sizes else 0
    require("I29", sum(sizes) - last < limits.max_event_bytes, f"{total} bytes of events wait")


def _recount_admission(core: Pool, config: PoolConfig) -> None:
    limits, streams = config.limits, core._streams
    connections = streams.connections
    accepted = Counter(one.peer.host for one in connections.values() if not one.outbound)
    most = max(accepted.values(), default=0)
    require("I17", most <= limits.max_connections_per_source, f"{most} connections of one source")
    admission = streams.admission
    require("I10", admission._sources.keys() == connections.keys(), "admission counts others")
    require("I10", admission._per_source == accepted, "admission counts sources wrongly")
    silent = {number for numbers in admission._silent.values() for number in numbers}
    unheard = {one.id for one in connections.values() if not (one.outbound or one.spoke)}
    require("I10", silent == unheard, "admission calls others silent")
    shaking = Counter(one.phase.value for one in connections.values() if not one.outbound)
    require(
        "I17",
        shaking["handshaking"] <= limits.max_handshakes,
        f"{shaking['handshaking']} handshakes under way",
    )
    table = streams._registry.handshakes._source
    places = {
        one.id
        for one in connections.values()
        if not one.outbound and one.phase.value in _HANDSHAKING
    }
    require("I10", table.keys() == places, "a place for a handshake is not given back")


def _carries_requests(connection: Connection) -> bool:
    return connection.phase.value != "closing" and connection.half_closed_for is None


def _check_requests(requests: Requests, connections: dict[int, Connection], most: int) -> None:
    pairs = {(key, number) for number, flow in requests._by_flow.items() for key in flow.holds}
    mirror = {(key, number) for key, numbers in requests._flows.items() for number in numbers}
    require("I10", pairs == mirror, "the keys of requests and their flows differ")
    for number, flow in requests._by_flow.items():
        require("I10", number in connections, "a request of a connection that has gone")
        require("I17", len(flow.holds) <= most, f"{len(flow.holds)} requests of one flow")
        counts = Counter(hold.value for hold in flow.holds.values())
        require("I10", (flow.open, flow.ringing) == (counts[1], counts[2]), "holds are miscounted")
