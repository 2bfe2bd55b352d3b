"""Every deadline taken away, and some that strike too early."""

from sippool_core.accepting import Accepting
from sippool_core.activity import Activity
from sippool_core.admission import Handshakes
from sippool_core.deadlines import DeadlineQueue, Timers
from sippool_core.expiry import Expiry, Hold
from sippool_core.reading import Timer
from sippool_core.registry import Registry
from sippool_core.state import PoolState

from .registry import bug


def never(patch, timer):
    """No deadline of this kind is ever set."""
    set_timer = Timers.set

    def set_others(self, key, at):
        if key[0] is not timer:
            set_timer(self, key, at)

    patch.setattr(Timers, "set", set_others)


@bug("deadline removed")
def no_connect_deadline(patch):
    """A connect that nobody answers waits for ever"""
    never(patch, Timer.CONNECT)


@bug("deadline removed", needs_tls=True)
def no_handshake_deadline(patch):
    """A TLS handshake may take for ever"""
    never(patch, Timer.HANDSHAKE)


@bug("deadline removed")
def no_first_message_deadline(patch):
    """Who never says anything is only idle"""
    never(patch, Timer.FIRST_MESSAGE)


@bug("deadline removed")
def no_message_deadline(patch):
    """A message may drip for ever (slowloris)"""
    never(patch, Timer.MESSAGE)


@bug("deadline removed")
def no_half_closed_deadline(patch):
    """A peer that has finished is kept until somebody answers it"""
    never(patch, Timer.HALF_CLOSED)


@bug("deadline removed")
def no_close_deadline(patch):
    """A close waits for the last byte for ever"""
    never(patch, Timer.CLOSE)


@bug("deadline removed")
def no_write_deadline(patch):
    """Who never reads keeps its place"""

    class Never(DeadlineQueue):
        def start(self, key, now):
            pass

    original = Registry.__init__

    def begin(self, state, timers):
        original(self, state, timers)
        self.writes = Never(state.timeouts.write_seconds)

    patch.setattr(Registry, "__init__", begin)


@bug("deadline removed")
def no_idle_deadline(patch):
    """Connections never expire"""
    patch.setattr(Expiry, "pop_due", lambda self, now: None)
    patch.setattr(Expiry, "next_at", lambda self: None)


@bug("deadline removed", needs_tls=True)
def no_displaced_handshake(patch):
    """A silent handshake keeps its place while others wait"""
    patch.setattr(Handshakes, "next_at", lambda self: None)


@bug("lost wake-up")
def starved_listener_sleeps_on(patch):
    """After a want of descriptors a listener is not tried again"""
    never(patch, Timer.ACCEPT_AGAIN)


@bug("lost wake-up")
def listener_forgets_to_go_on(patch):
    """A listener that waited for room in the inbox is not opened again"""
    patch.setattr(Accepting, "go_on", lambda self: self._inbox_waits.clear())


@bug("N16")
def clock_goes_back(patch):
    """A clock that steps back by an hour puts every deadline off by an hour"""

    def tick(self, now):
        self.now = now

    patch.setattr(PoolState, "tick", tick)
    patch.setattr(PoolState, "by_callers_clock", lambda self, instant: instant)


@bug("the seed's expiry")
def expires_what_owes_an_answer(patch):
    """A connection with an open request counts as idle"""

    def touch(self, flow_id):
        self.expiry.touch(flow_id, Hold.NONE, self._state.now)

    patch.setattr(Activity, "touch", touch)


@bug("wrong deadline")
def idle_time_does_not_shrink(patch):
    """However crowded the pool is, idle connections stay as long as in an empty one"""
    patch.setattr(Expiry, "_tighten", lambda self: None)


@bug("wrong deadline", is_rare=True)
def half_message_starts_anew(patch):
    """Each byte of a message puts its deadline off"""
    from sippool_core.reading import Reader

    watch = Reader._watch_message

    def start_anew(self, connection):
        connection.message_since = None
        watch(self, connection)

    patch.setattr(Reader, "_watch_message", start_anew)
