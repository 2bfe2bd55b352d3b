"""When something is due: two kinds of collections of deadlines, and nothing about what they mean.

1. `DeadlineQueue` is for one constant span: first started, first due, every operation O(1).
2. `Timers` is for anything else: a heap whose dead entries are skipped, and swept when they are many.
3. "Due" is decided by comparing `now` with the very number that `next_at` gives, so a call made at the
   deadline always makes progress.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

K = TypeVar("K")


class DeadlineQueue:
    """Deadlines `span` seconds after their start, kept in the order of their starts.

    `now` never goes backwards from call to call. The span may be changed at any time.
    """

    __slots__ = ("_started_at", "span")

    def __init__(self, span: float) -> None:
        self.span = span
        self._started_at: OrderedDict[int, float] = OrderedDict()

    def start(self, key: int, now: float) -> None:
        """Start or restart the deadline of `key`."""
        self._started_at[key] = now
        self._started_at.move_to_end(key)

    def stop(self, key: int) -> None:
        """Forget `key`, if it is here."""
        self._started_at.pop(key, None)

    def keys(self) -> Iterable[int]:
        """All keys, the one that is due first in front."""
        return self._started_at.keys()

    def next_at(self) -> float | None:
        """The instant of the earliest deadline."""
        for started_at in self._started_at.values():
            return started_at + self.span
        return None

    def pop_due(self, now: float) -> int | None:
        """Remove and return the key that has been due longest, if any is due."""
        at = self.next_at()
        if at is None or at > now:
            return None
        return self._started_at.popitem(last=False)[0]


class Timers(Generic[K]):
    """Deadlines at any instant, one for each key."""

    __slots__ = ("_at", "_heap", "_serial")

    def __init__(self) -> None:
        self._at: dict[K, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._serial = 0

    def set(self, key: K, at: float) -> None:
        """Set the deadline of `key`, instead of any it had."""
        # The serial number keeps equal instants in the order they were set, and keys uncompared.
        self._serial += 1
        self._at[key] = (at, self._serial)
        heapq.heappush(self._heap, (at, self._serial, key))
        if len(self._heap) > 2 * len(self._at) + 64:
            self._heap = [(at, serial, key) for key, (at, serial) in self._at.items()]
            heapq.heapify(self._heap)

    def clear(self, key: K) -> float | None:
        """Forget `key`; returns the instant it had, if it had one."""
        entry = self._at.pop(key, None)
        return None if entry is None else entry[0]

    def next_at(self) -> float | None:
        """The instant of the earliest deadline."""
        while self._heap:
            at, serial, key = self._heap[0]
            if self._at.get(key) == (at, serial):
                return at
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now: float) -> K | None:
        """Remove and return the key that has been due longest, if any is due."""
        at = self.next_at()
        if at is None or at > now:
            return None
        key = heapq.heappop(self._heap)[2]
        del self._at[key]
        return key
