"""The one inbox: events that the application has not taken, bounded in number and bytes.

1. Nothing else in the library buffers events. When the inbox is full, streams stop being read and datagrams
   are dropped; that is the pool's doing, the inbox only says that it is full.
2. Facts that an application must not miss (`put`) always fit, for each has its own bound elsewhere: the
   messages of one read, an opened and a closed for each connection. The rest (`offer`) takes at most half the
   room, so that pings and drops never stop anybody's messages.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import Limits
    from .events import Event


class Inbox:
    """A queue of events with their sizes."""

    __slots__ = ("_bytes", "_events", "_max_bytes", "_max_events", "discarded")

    def __init__(self, limits: Limits) -> None:
        self._events: deque[tuple[Event, int]] = deque()
        self._bytes = 0
        self._max_events = limits.max_events
        self._max_bytes = limits.max_event_bytes
        self.discarded = 0

    @property
    def is_full(self) -> bool:
        """Whether no more input may be turned into events."""
        return len(self._events) >= self._max_events or self._bytes >= self._max_bytes

    @property
    def has_room_again(self) -> bool:
        """Whether so much has been taken that paused streams may go on (half: no flapping)."""
        return len(self._events) * 2 <= self._max_events and self._bytes * 2 <= self._max_bytes

    def put(self, event: Event, size: int = 0) -> None:
        """Keep an event; `size` is the bytes of its message."""
        self._events.append((event, size))
        self._bytes += size

    def offer(self, event: Event) -> None:
        """Keep a dispensable event if there is much room, else count it as discarded."""
        if self.has_room_again:
            self._events.append((event, 0))
        else:
            self.discarded += 1

    def take(self) -> Event | None:
        """The oldest event, or `None`."""
        if not self._events:
            return None
        event, size = self._events.popleft()
        self._bytes -= size
        return event

    def __len__(self) -> int:
        return len(self._events)
