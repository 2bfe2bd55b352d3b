"""What is read, when it may be read, and what goes out before it may."""

from sippool_core.closing import Closer
from sippool_core.connection import Connection, Phase
from sippool_core.reading import Reader
from sippool_core.streams import Streams

from .registry import bug


@bug("lost wake-up")
def stalled_streams_sleep_on(patch):
    """Connections that waited for room in the inbox are not read again"""
    patch.setattr(Reader, "has_stalled", False)
    patch.setattr(Reader, "next_stalled", lambda self: None)


@bug("lost wake-up", needs_tls=True)
def waiting_handshakes_sleep_on(patch):
    """A place for a handshake that becomes free is not given to who waits"""
    patch.setattr(Streams, "_start_waiting_handshakes", lambda self: None)


@bug("plain bytes before the handshake", needs_tls=True)
def plain_before_the_handshake(patch):
    """What is queued while a handshake is under way goes out as it is"""
    next_write = Connection.next_write

    def hasty(self):
        if self.phase is not Phase.HANDSHAKING or self._write_total:
            return next_write(self)
        tls, self.tls, self.phase = self.tls, None, Phase.OPEN
        try:
            return next_write(self)
        finally:
            self.tls, self.phase = tls, Phase.HANDSHAKING

    patch.setattr(Connection, "next_write", hasty)


@bug("A3", needs_tls=True)
def waits_for_close_notify(patch):
    """A TLS connection is not closed before the peer's close_notify, however long that takes"""
    advance = Closer._advance
    give_up = Closer.give_up_waiting

    def wait(self, connection):
        if connection.tls is None or not connection.goodbye_said or connection.eof:
            advance(self, connection)

    def wait_on(self, connection):
        if connection.tls is None or connection.is_writing:
            give_up(self, connection)

    patch.setattr(Closer, "_advance", wait)
    patch.setattr(Closer, "give_up_waiting", wait_on)


@bug("N13", is_rare=True)
def delivers_what_comes_too_late(patch):
    """After the stream is broken, what follows is parsed on"""
    from sippool_core.framing import StreamFramer

    broken = Reader._broken

    def go_on(self, connection, event):
        broken(self, connection, event)
        connection.framer = StreamFramer(self._state.limits)

    pump = Reader.pump

    def never_mind(self, connection):
        while (reason := pump(self, connection)) is not None:
            if reason.value != "framing_error":
                return reason
        return None

    patch.setattr(Reader, "_broken", go_on)
    patch.setattr(Reader, "pump", never_mind)


@bug("lost input")
def a_pause_loses_what_was_read(patch):
    """What is in the framer when the inbox is full is thrown away"""
    stall = Reader._stall

    def throw_away(self, connection):
        connection.framer._buffer = b""
        connection.framer._start = connection.framer._scanned = 0
        connection.framer._message = None
        stall(self, connection)

    patch.setattr(Reader, "_stall", throw_away)


@bug("delivered twice")
def a_message_is_told_twice(patch):
    """A message that ends a deadline is put into the inbox twice"""
    deliver = Reader._message

    def twice(self, connection, message):
        began = connection.message_since is not None
        deliver(self, connection, message)
        if began:
            deliver(self, connection, message)

    patch.setattr(Reader, "_message", twice)


@bug("closed without a word")
def an_early_end_is_not_told(patch):
    """A connection that never opened ends without its event"""
    finish = Closer.finish

    def silent(self, connection, reason, detail="", **options):
        opened = connection.phase not in (Phase.CONNECTING, Phase.WAITING)
        finish(self, connection, reason, detail, **options)
        if not opened:
            self._state.inbox._events.pop()

    patch.setattr(Closer, "finish", silent)
