"""The tables that every connection of a pool stands in, and the one place where it leaves them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .activity import Activity
from .admission import Admission, Handshakes, source_of
from .deadlines import DeadlineQueue
from .reading import Reader, Timer
from .routing import ReuseIndex

if TYPE_CHECKING:
    from .connection import Connection
    from .deadlines import Timers
    from .routing import ReuseKey
    from .state import PoolState


class Registry:
    """All connections of a pool, by number and by every other way to find them."""

    def __init__(self, state: PoolState, timers: Timers[tuple[Timer, int]]) -> None:
        self._state = state
        self._timers = timers
        self._reuse = ReuseIndex()
        self.connections: dict[int, Connection] = {}
        self.admission = Admission(state.limits)
        self.handshakes = Handshakes(state.limits, state.timeouts)
        self.activity = Activity(state)
        self.writes = DeadlineQueue(state.timeouts.write_seconds)
        self.reader = Reader(state, self.activity, self.admission, timers)

    def add(self, connection: Connection) -> None:
        """A connection begins."""
        self.connections[connection.id] = connection
        source = None if connection.outbound else source_of(connection.peer)
        self.admission.enter(connection.id, source)
        self._state.stats.connections = len(self.connections)

    def reusable(self, key: ReuseKey) -> Connection | None:
        """The connection that a message for this key would take, open or on its way to be."""
        connection_id = self._reuse.get(key)
        return None if connection_id is None else self.connections[connection_id]

    def allow_reuse(self, connection: Connection) -> None:
        """Messages for its key may take this connection."""
        self._reuse.add(connection.reuse_key, connection.id)

    def stop_reusing(self, connection: Connection) -> None:
        """It can carry no new request."""
        self._reuse.remove(connection.reuse_key, connection.id)

    def retire(self, connection: Connection) -> None:
        """It is closing: it is found by its number alone, and only the last deadline is left."""
        self.stop_reusing(connection)
        self.reader.forget(connection)
        self.activity.expiry.remove(connection.id)
        self.handshakes.leave(connection.id)
        for timer in (Timer.CONNECT, Timer.HANDSHAKE, Timer.HALF_CLOSED):
            self.clear_timer(timer, connection)

    def remove(self, connection: Connection) -> None:
        """It is gone."""
        self.retire(connection)
        self.clear_timer(Timer.CLOSE, connection)
        self.writes.stop(connection.id)
        self.activity.forget(connection.id)
        self.admission.leave(connection.id)
        del self.connections[connection.id]
        self._state.stats.connections = len(self.connections)

    def set_timer(self, timer: Timer, connection: Connection, seconds: float) -> None:
        """Start a deadline of one connection."""
        self._timers.set((timer, connection.id), self._state.now + seconds)

    def clear_timer(self, timer: Timer, connection: Connection) -> None:
        """The deadline no longer matters."""
        self._timers.clear((timer, connection.id))
