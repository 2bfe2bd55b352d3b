"""The driver below the core: accepting, closing, and an application that raises."""

from sippool_core import CloseConnection
from sippool_core.accepting import Accepting
from sippool_sync import listeners
from sippool_sync.driver import Driver
from sippool_sync.listeners import Acceptor
from sippool_sync.stream import Stream

from .registry import bug


@bug("N1")
def asks_who_has_gone(patch):
    """A connection that was reset before it was accepted ends the loop"""
    accepted = Acceptor._accepted

    def ask(self, sock, peer, local):
        sock.getpeername()
        accepted(self, sock, peer, local)

    patch.setattr(Acceptor, "_accepted", ask)


@bug("N6")
def accepts_again_at_once(patch):
    """Without descriptors the listener is ready, and fails, for ever"""

    def failed(self, listener, code):
        self._state.stats.accept_failures += 1

    patch.setattr(Accepting, "failed", failed)


@bug("A2")
def a_failed_accept_ends_the_loop(patch):
    """An error of `accept` is raised into the loop"""

    def raise_it(self, error):
        raise error

    patch.setattr(Acceptor, "_failed", raise_it)


@bug("N13")
def a_handler_ends_the_loop(patch):
    """What a handler raises is raised into the loop"""

    def handle(self, handler):
        for _ in range(256):
            event = self.next_event()
            if event is None:
                return
            handler(event)

    patch.setattr(Driver, "_handle_events", handle)


@bug("descriptor forgotten")
def a_close_forgets_the_descriptor(patch):
    """A connection is closed in the books, and its socket stays open"""
    perform = Driver._perform

    def forget(self, effect):
        if isinstance(effect, CloseConnection) and effect.connection_id in self._streams:
            self._streams.pop(effect.connection_id).want(0)
        else:
            perform(self, effect)

    patch.setattr(Driver, "_perform", forget)


@bug("descriptor forgotten")
def a_refused_peer_keeps_its_descriptor(patch):
    """Who is refused is forgotten, not closed"""
    patch.setattr(listeners, "reset", lambda sock: None)


@bug("stream cut")
def a_partial_write_is_a_whole_one(patch):
    """What the kernel did not take is not sent"""

    def write(self):
        try:
            self.sock.send(self._unsent, 0)
        except BlockingIOError:
            self._update()
            return
        except OSError as error:
            self._lost(error)
            return
        count, self._unsent = len(self._unsent), self._unsent[:0]
        self._update()
        self._driver.core.handle_written(self._id, count, now=self._driver.now)

    patch.setattr(Stream, "_write", write)


@bug("lost wake-up")
def a_blocked_write_is_not_resumed(patch):
    """Nobody asks the selector when the kernel had no room"""

    def update(self):
        from sippool_sync.watch import READ

        self.want(READ if self._reading else 0)

    patch.setattr(Stream, "_update", update)


@bug("errno forgotten")
def a_broken_write_is_not_told(patch):
    """An error of `send` is taken for success"""

    def write(self):
        try:
            count = self.sock.send(self._unsent, 0)
        except BlockingIOError:
            self._update()
            return
        except OSError:
            count = len(self._unsent)
        self._unsent = self._unsent[count:]
        self._update()
        self._driver.core.handle_written(self._id, count, now=self._driver.now)

    patch.setattr(Stream, "_write", write)
