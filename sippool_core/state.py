"""What all rooms of one pool share: its settings, its clock, its two queues, its counters.

The clock is an argument: `tick` is called with each input's `now`. Where the caller's clock steps back, the pool's
own time stands still for that moment and then goes on with it, so a step costs nobody a deadline.
"""

from __future__ import annotations

import copy
import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .inbox import Inbox

if TYPE_CHECKING:
    from .config import PoolConfig
    from .effects import Effect
    from .reasons import CloseReason, Defect, DropReason, SendFailure


@dataclass
class Stats:
    """Counters of a pool since it was made, and what it holds now; `Pool.stats` is a copy."""

    messages_received: int = 0
    message_bytes_received: int = 0
    sends_completed: int = 0
    sends_cancelled: int = 0
    sends_failed: Counter[SendFailure] = field(default_factory=Counter)
    sends_retried: int = 0
    """Sends begun anew because a reused connection turned out to be dead before any byte went out."""
    connections_accepted: int = 0
    connections_opened: int = 0
    connections_closed: Counter[CloseReason] = field(default_factory=Counter)
    accept_failures: int = 0
    pings_received: int = 0
    datagrams_cut: int = 0
    """Datagrams with bytes behind their message, which were thrown away (RFC 3261 section 18.3)."""
    dropped: Counter[DropReason] = field(default_factory=Counter)
    malformed: Counter[Defect] = field(default_factory=Counter)
    framing_failed: Counter[Defect] = field(default_factory=Counter)
    unreachable: int = 0
    events_discarded: int = 0
    """Dispensable events (pings, drops) that found the inbox full."""
    connections: int = 0
    """Living now."""
    queued_bytes: int = 0
    """Queued on all connections now."""
    partial_bytes: int = 0
    """Held of unfinished messages now."""
    events_waiting: int = 0
    """Not yet taken now."""
    idle_seconds: float = 0.0
    """The idle time that a connection has now."""


class PoolState:
    """The common ground of the rooms of one pool."""

    __slots__ = (
        "_ahead",
        "_serial",
        "config",
        "effects",
        "inbox",
        "limits",
        "now",
        "stats",
        "timeouts",
    )

    def __init__(self, config: PoolConfig, now: float) -> None:
        self.config = config
        self.limits = config.limits
        self.timeouts = config.timeouts
        self.now = now
        self.effects: deque[Effect] = deque()
        self.inbox = Inbox(config.limits)
        self.stats = Stats()
        self._serial = 0
        self._ahead = 0.0

    def tick(self, now: float) -> None:
        """Take the time of an input, by the caller's clock."""
        now += self._ahead
        if now < self.now:
            self._ahead += self.now - now
        else:
            self.now = now

    def by_callers_clock(self, instant: float) -> float:
        """When the caller's clock will show an instant of the pool's time."""
        at = instant - self._ahead
        # Rounding must not let the caller come a hair too early, and find nothing due.
        while at + self._ahead < instant:
            at = math.nextafter(at, math.inf)
        return at

    def new_id(self) -> int:
        """A number that no connection, listener or send of this pool has or had."""
        self._serial += 1
        return self._serial

    def snapshot(self) -> Stats:
        """A copy of the counters."""
        stats = copy.copy(self.stats)
        for name, value in vars(stats).items():
            if isinstance(value, Counter):
                setattr(stats, name, value.copy())
        stats.events_waiting = len(self.inbox)
        stats.events_discarded = self.inbox.discarded
        return stats
