"""Whom the pool lets in: connections in all and from one source, and TLS handshakes under way.

1. A source is an IPv4 address or an IPv6 /64, the smallest block that one host commands.
2. Handshakes cost 42 KiB each before anybody has proved anything, so only so many run at once; the next waits
   unread. One that makes no progress loses its place to one that waits, the greediest source's first, so a
   flood of silent handshakes delays an honest peer and cannot lock it out.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

from .reasons import DropReason

if TYPE_CHECKING:
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

    @property
    def is_full(self) -> bool:
        """Whether no connection may be added, accepted or opened."""
        return len(self._sources) >= self._limits.max_connections

    def refusal(self, peer: Address) -> DropReason | None:
        """Why a connection from `peer` may not be accepted now."""
        if self.is_full:
            return DropReason.TOO_MANY_CONNECTIONS
        if self._per_source[source_of(peer)] >= self._limits.max_connections_per_source:
            return DropReason.TOO_MANY_FROM_SOURCE
        return None

    def enter(self, connection_id: int, source: str | None) -> None:
        """A connection lives; `source` is `None` where we opened it."""
        self._sources[connection_id] = source
        if source is not None:
            self._per_source[source] += 1

    def leave(self, connection_id: int) -> None:
        """A connection has gone."""
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
