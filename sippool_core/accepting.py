"""Whether listeners accept: not while the system is out of descriptors, not while the inbox is full.

1. Trying again at once after EMFILE would spin, so a listener pauses, each time twice as long, up to a bound.
2. A listener accepts when no reason against it is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .effects import PauseAccepting, ResumeAccepting
from .reading import Timer
from .reasons import is_out_of_resources

if TYPE_CHECKING:
    from .deadlines import Timers
    from .routing import Listener
    from .state import PoolState


class Accepting:
    """Pauses and resumes the stream listeners of a pool."""

    def __init__(self, state: PoolState, timers: Timers[tuple[Timer, int]]) -> None:
        self._state = state
        self._timers = timers
        self._starved: dict[int, Listener] = {}
        self._inbox_waits: dict[int, Listener] = {}

    @property
    def may_go_on(self) -> bool:
        """Whether a listener waits for room in the inbox, and there is some."""
        return bool(self._inbox_waits) and self._state.inbox.has_room_again

    def succeeded(self, listener: Listener) -> None:
        """The next failure pauses briefly again."""
        listener.retry_seconds = 0.0

    def failed(self, listener: Listener, code: int) -> None:
        """The system refused to accept; the peer may have gone meanwhile, or descriptors have run out."""
        self._state.stats.accept_failures += 1
        if not is_out_of_resources(code) or listener.id in self._starved:
            return
        timeouts = self._state.timeouts
        seconds = listener.retry_seconds * 2 or timeouts.accept_retry_seconds
        listener.retry_seconds = min(seconds, timeouts.accept_retry_max_seconds)
        self._timers.set(
            (Timer.ACCEPT_AGAIN, listener.id), self._state.now + listener.retry_seconds
        )
        if listener.id not in self._inbox_waits:
            self._state.effects.append(PauseAccepting(listener.id))
        self._starved[listener.id] = listener

    def retry(self, listener_id: int) -> None:
        """The pause for want of descriptors is over."""
        del self._starved[listener_id]
        if listener_id not in self._inbox_waits:
            self._state.effects.append(ResumeAccepting(listener_id))

    def wait_for_room(self, listener: Listener) -> None:
        """The inbox is full: nobody new is let in to fill it further."""
        if listener.id not in self._inbox_waits:
            if listener.id not in self._starved:
                self._state.effects.append(PauseAccepting(listener.id))
            self._inbox_waits[listener.id] = listener

    def go_on(self) -> None:
        """The application has taken events."""
        for listener_id in self._inbox_waits:
            if listener_id not in self._starved:
                self._state.effects.append(ResumeAccepting(listener_id))
        self._inbox_waits.clear()

    def forget(self, listener: Listener) -> None:
        """The listener is gone."""
        self._starved.pop(listener.id, None)
        self._inbox_waits.pop(listener.id, None)
        self._timers.clear((Timer.ACCEPT_AGAIN, listener.id))
