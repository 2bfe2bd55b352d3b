"""Which connection is idle, since when, and when it expires.

1. The more connections, the shorter their idle time: `min + (max - min) / connections`, the seed's formula.
2. A connection that owes or awaits an answer is held: it is not idle before 64*T1 have passed, or more than
   Timer C where an INVITE is ringing (RFC 3261 sections 18 and 16.6). Its idle time has run meanwhile; where
   it is over by then the connection expires with its hold, else it begins anew.
3. A connection that is due is handed out once and then not watched: whoever takes it closes it, or touches it.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from .deadlines import DeadlineQueue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .config import Timeouts


class Hold(enum.IntEnum):
    """How firmly open requests hold a connection."""

    NONE = 0
    OPEN = 1
    RINGING = 2


class Expiry:
    """The last activity of every open connection of a pool, and who is due; everything O(1)."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._min = timeouts.min_idle_seconds
        self._spread = timeouts.max_idle_seconds - timeouts.min_idle_seconds
        self._queues = (
            DeadlineQueue(timeouts.max_idle_seconds),
            DeadlineQueue(timeouts.transaction_seconds),
            DeadlineQueue(timeouts.ringing_seconds),
        )
        self._hold: dict[int, Hold] = {}

    @property
    def idle_seconds(self) -> float:
        """The idle time that every connection has at this moment."""
        return self._queues[Hold.NONE].span

    def add(self, connection_id: int, now: float) -> None:
        """A connection has opened."""
        self._hold[connection_id] = Hold.NONE
        self._queues[Hold.NONE].start(connection_id, now)
        self._tighten()

    def remove(self, connection_id: int) -> None:
        """A connection has gone."""
        hold = self._hold.pop(connection_id, None)
        if hold is not None:
            self._queues[hold].stop(connection_id)
            self._tighten()

    def touch(self, connection_id: int, hold: Hold, now: float) -> None:
        """There was life on the connection, and open requests now hold it like this."""
        before = self._hold.get(connection_id)
        if before is None:
            return
        if before is not hold:
            self._queues[before].stop(connection_id)
            self._hold[connection_id] = hold
        self._queues[hold].start(connection_id, now)

    def idle(self) -> Iterable[int]:
        """The connections that nothing holds, the one that is idle longest in front."""
        return self._queues[Hold.NONE].keys()

    def next_at(self) -> float | None:
        """The instant of the next deadline, of a hold or of idleness."""
        instants = [at for at in (queue.next_at() for queue in self._queues) if at is not None]
        return min(instants, default=None)

    def pop_due(self, now: float) -> int | None:
        """One connection whose idle time is over; `None` if there is none (left)."""
        idle = self._queues[Hold.NONE]
        for hold in (Hold.OPEN, Hold.RINGING):
            queue = self._queues[hold]
            while (connection_id := queue.pop_due(now)) is not None:
                self._hold[connection_id] = Hold.NONE
                if idle.span <= queue.span:
                    return connection_id
                idle.start(connection_id, now)
        return idle.pop_due(now)

    def _tighten(self) -> None:
        self._queues[Hold.NONE].span = self._min + self._spread / max(1, len(self._hold))
