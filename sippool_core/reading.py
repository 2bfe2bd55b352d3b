"""From the bytes of a connection to events: what is delivered, refused, answered with a pong, or waits.

1. While the inbox is full no byte is parsed: the connection that has more is paused, and its read deadlines
   stand still, for it is not to blame. They go on, in turn, when the application has taken events.
2. A message has a deadline from its first byte, and all unfinished messages together have a bound.
3. Nothing here closes a connection: a reason to close is returned.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from .effects import PauseReading, ResumeReading
from .events import FramingFailed, MalformedReceived, MessageReceived, PingReceived
from .framing import Broken, Malformed, Ping
from .message import Message, stamp
from .reasons import CloseReason

if TYPE_CHECKING:
    from .activity import Activity
    from .admission import Admission
    from .connection import Connection
    from .deadlines import Timers
    from .state import PoolState


class Timer(enum.IntEnum):
    """What a deadline in `Timers` is for."""

    CONNECT = 0
    HANDSHAKE = 1
    FIRST_MESSAGE = 2
    MESSAGE = 3
    HALF_CLOSED = 4
    CLOSE = 5
    ACCEPT_AGAIN = 6


_READ_TIMERS = (Timer.FIRST_MESSAGE, Timer.MESSAGE)


class Reader:
    """Reads for all connections of a pool."""

    def __init__(
        self,
        state: PoolState,
        activity: Activity,
        admission: Admission,
        timers: Timers[tuple[Timer, int]],
    ) -> None:
        self._state = state
        self._activity = activity
        self._admission = admission
        self._timers = timers
        self._stalled: dict[int, Connection] = {}

    def pump(self, connection: Connection) -> CloseReason | None:
        """Turn what the framer holds into events, as far as the inbox has room."""
        framer = connection.framer
        # First of all, so that what is read now ends the deadlines it ends.
        self._thaw_timers(connection)
        while not self._state.inbox.is_full:
            event = framer.next_event()
            if event is None:
                self._resume(connection)
                self._watch_message(connection)
                return None
            if isinstance(event, Message):
                self._message(connection, event)
            elif isinstance(event, Ping):
                self._ping(connection)
            elif isinstance(event, Malformed):
                if self._malformed(connection, event):
                    return CloseReason.TOO_MANY_MALFORMED
            else:
                self._broken(connection, event)
                return CloseReason.FRAMING_ERROR
        self._stall(connection)
        return None

    @property
    def has_stalled(self) -> bool:
        """Whether a connection waits for the application to take events."""
        return bool(self._stalled)

    def next_stalled(self) -> Connection | None:
        """A connection that waited for room, first come first, if there is room again."""
        if not self._stalled or self._state.inbox.is_full:
            return None
        return self._stalled.pop(next(iter(self._stalled)))

    def watch_first_message(self, connection: Connection) -> None:
        """An accepted connection must say something whole in time."""
        at = self._state.now + self._state.timeouts.first_message_seconds
        self._timers.set((Timer.FIRST_MESSAGE, connection.id), at)

    def forget(self, connection: Connection) -> None:
        """The connection delivers nothing more."""
        self._stalled.pop(connection.id, None)
        connection.frozen_timers.clear()
        self._hold_partial(connection, 0)
        for timer in _READ_TIMERS:
            self._timers.clear((timer, connection.id))

    def _message(self, connection: Connection, message: Message) -> None:
        message = stamp(message, connection.peer)
        stats = self._state.stats
        stats.messages_received += 1
        stats.message_bytes_received += len(message.raw)
        if not connection.spoke:
            connection.spoke = True
            self._admission.spoke(connection.id)
            self._timers.clear((Timer.FIRST_MESSAGE, connection.id))
        self._message_ended(connection)
        self._activity.received(connection.id, message)
        self._state.inbox.put(MessageReceived(message, connection.flow), len(message.raw))

    def _malformed(self, connection: Connection, malformed: Malformed) -> bool:
        """Deliver it as what it is; true if there were too many."""
        message = stamp(malformed.message, connection.peer)
        if message.can_be_answered:
            self._activity.received(connection.id, message)
        self._message_ended(connection)
        self._state.stats.malformed[malformed.defect] += 1
        event = MalformedReceived(malformed.defect, message, connection.flow)
        self._state.inbox.put(event, len(message.raw))
        if (
            self._state.now - connection.malformed_window_at
            > self._state.timeouts.malformed_window_seconds
        ):
            connection.malformed_window_at = self._state.now
            connection.malformed_count = 0
        connection.malformed_count += 1
        return connection.malformed_count > self._state.limits.max_malformed

    def _broken(self, connection: Connection, broken: Broken) -> None:
        message = broken.message and stamp(broken.message, connection.peer)
        if message is not None and message.can_be_answered:
            self._activity.received(connection.id, message)
        self._state.stats.framing_failed[broken.defect] += 1
        size = 0 if message is None else len(message.raw)
        self._state.inbox.put(FramingFailed(broken.defect, message, connection.flow), size)

    def _ping(self, connection: Connection) -> None:
        self._state.stats.pings_received += 1
        if (
            self._state.now - connection.keepalive_window_at
            > self._state.timeouts.keepalive_window_seconds
        ):
            connection.keepalive_window_at = self._state.now
            connection.framer.forgive_keepalives()
        connection.enqueue_pong()
        # A peer that never said anything whole cannot live on line ends (slowloris).
        if connection.spoke:
            self._activity.touch(connection.id)
        self._state.inbox.offer(PingReceived(connection.flow))

    def _message_ended(self, connection: Connection) -> None:
        if connection.message_since is not None:
            connection.message_since = None
            self._timers.clear((Timer.MESSAGE, connection.id))

    def _watch_message(self, connection: Connection) -> None:
        """Keep the deadline of a message that has begun, and the count of bytes it makes us hold."""
        if connection.framer.in_message and connection.message_since is None:
            connection.message_since = self._state.now
            at = self._state.now + self._state.timeouts.message_seconds
            self._timers.set((Timer.MESSAGE, connection.id), at)
        self._hold_partial(connection, connection.framer.buffered_bytes)

    def _hold_partial(self, connection: Connection, count: int) -> None:
        self._state.stats.partial_bytes += count - connection.held_partial_bytes
        connection.held_partial_bytes = count

    def _stall(self, connection: Connection) -> None:
        """Wait for the application: the rest stays in the framer, at most one read of it."""
        self._hold_partial(connection, 0)
        self._stalled[connection.id] = connection
        for timer in _READ_TIMERS:
            at = self._timers.clear((timer, connection.id))
            if at is not None:
                connection.frozen_timers.append((timer, at - self._state.now))
        if not connection.paused:
            connection.paused = True
            self._state.effects.append(PauseReading(connection.id))

    def _resume(self, connection: Connection) -> None:
        if connection.paused:
            connection.paused = False
            self._state.effects.append(ResumeReading(connection.id))

    def _thaw_timers(self, connection: Connection) -> None:
        for timer, seconds in connection.frozen_timers:
            self._timers.set((Timer(timer), connection.id), self._state.now + seconds)
        connection.frozen_timers.clear()
