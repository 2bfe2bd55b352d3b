"""Whom the pool lets in: connections in all and from one source, and TLS handshakes under way.

1. A source is an IPv4 address or an IPv6 /64, the smallest block that one host commands.
2. At the limit a connection that never sent a whole message makes room for a newcomer: the oldest of the source
   that holds most of them, so that no greedy address can shut out the others. After these, one of a source that
   holds more than the newcomer's, if nothing is open on it; who has open requests stays.
3. Handshakes cost 42 KiB each before anybody has proved anything, so only so many run at once; the next waits
   unread. One that makes no progress loses its place to one that waits, the greediest source's first, so a
   flood of silent handshakes delays an honest peer and cannot lock it out.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .address import Address
    from .config import Limits, Timeouts


def source_of(address: Address) -> str:
    """The block that is counted as one peer."""
    if address.family == 4:
        return address.host
    network = int(ipaddress.IPv6Address(address.host)) >> 64
    return f"{network:x}%{address.scope}"


class Admission:
    """Counts of living connections."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._sources: dict[int, str | None] = {}
        self._per_source: Counter[str] = Counter()
        # Of each source the accepted connections without a whole message yet, oldest first.
        self._silent: dict[str, dict[int, None]] = {}

    @property
    def is_full(self) -> bool:
        """Whether no connection may be added, accepted or opened."""
        return len(self._sources) >= self._limits.max_connections

    def is_greedy(self, peer: Address) -> bool:
        """Whether the source of `peer` has all the connections that one may have."""
        return self._per_source[source_of(peer)] >= self._limits.max_connections_per_source

    def silent_victim(self) -> int | None:
        """The connection without a whole message that goes first."""
        if not self._silent:
            return None
        # Between equals the one whose first silent connection is the oldest, for numbers grow with time.
        source = min(
            self._silent,
            key=lambda source: (-len(self._silent[source]), next(iter(self._silent[source]))),
        )
        return next(iter(self._silent[source]))

    def talking_victim(self, peer: Address | None, idle: Iterable[int]) -> int | None:
        """The first of `idle` connections that belongs to the source which holds most, if that is more than the
        newcomer's source would hold. `peer` is `None` where we are to open a connection."""
        if not self._per_source:
            return None
        greediest, most = self._per_source.most_common(1)[0]
        if most <= (1 if peer is None else self._per_source[source_of(peer)] + 1):
            return None
        return next((number for number in idle if self._sources[number] == greediest), None)

    def enter(self, connection_id: int, source: str | None) -> None:
        """A connection lives; `source` is `None` where we opened it."""
        self._sources[connection_id] = source
        if source is not None:
            self._per_source[source] += 1
            self._silent.setdefault(source, {})[connection_id] = None

    def spoke(self, connection_id: int) -> None:
        """A whole message has come."""
        source = self._sources[connection_id]
        silent = None if source is None else self._silent.get(source)
        if source is not None and silent is not None:
            silent.pop(connection_id, None)
            if not silent:
                del self._silent[source]

    def leave(self, connection_id: int) -> None:
        """A connection has gone."""
        self.spoke(connection_id)
        source = self._sources.pop(connection_id)
        if source is not None:
            self._per_source[source] -= 1
            if not self._per_source[source]:
                del self._per_source[source]


class Handshakes:
    """Places for accepted TLS handshakes, and who waits for one."""

    def __init__(self, limits: Limits, timeouts: Timeouts) -> None:
        self._places = limits.max_handshakes
        self._stall = timeouts.handshake_stall_seconds
        self._progress_at: OrderedDict[int, float] = OrderedDict()
        self._source: dict[int, str] = {}
        self._waiting: OrderedDict[int, None] = OrderedDict()

    def enter(self, connection_id: int, peer: Address, now: float) -> bool:
        """Take a place (true), or begin to wait for one."""
        self._source[connection_id] = source_of(peer)
        if len(self._progress_at) < self._places:
            self._progress_at[connection_id] = now
            return True
        self._waiting[connection_id] = None
        return False

    def progress(self, connection_id: int, now: float) -> None:
        """The handshake got a step further (a flight answered; dripped bytes are no progress)."""
        if connection_id in self._progress_at:
            self._progress_at[connection_id] = now
            self._progress_at.move_to_end(connection_id)

    def leave(self, connection_id: int) -> None:
        """The handshake is over, or given up, or waited in vain."""
        self._source.pop(connection_id, None)
        self._waiting.pop(connection_id, None)
        self._progress_at.pop(connection_id, None)

    def next_waiting(self, now: float) -> int | None:
        """The first that waited, if there is a place for it now; it has the place."""
        if not self._waiting or len(self._progress_at) >= self._places:
            return None
        connection_id = self._waiting.popitem(last=False)[0]
        self._progress_at[connection_id] = now
        return connection_id

    def next_at(self) -> float | None:
        """When the first handshake may be displaced, if one waits."""
        if not self._waiting:
            return None
        return next(iter(self._progress_at.values())) + self._stall

    def stalled(self, now: float) -> int | None:
        """The handshake to give up for one that waits; `None` if there is none (left)."""
        at = self.next_at()
        if at is None or at > now:
            return None
        under_way = Counter(self._source[connection_id] for connection_id in self._progress_at)
        candidates = []
        for connection_id, progress_at in self._progress_at.items():
            if progress_at + self._stall > now:
                break
            candidates.append(connection_id)
        return max(candidates, key=lambda connection_id: under_way[self._source[connection_id]])
