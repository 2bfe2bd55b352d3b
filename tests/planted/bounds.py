"""Every bound taken away, and some that are off by one."""

from sippool_core.admission import Admission, Handshakes, source_of
from sippool_core.connection import PONG, Connection
from sippool_core.datagrams import Datagrams
from sippool_core.errors import QueueFull
from sippool_core.expiry import Hold
from sippool_core.framing import StreamFramer
from sippool_core.inbox import Inbox
from sippool_core.reading import Reader
from sippool_core.sender import Sender
from sippool_core.sends import PendingSend
from sippool_core.streams import Streams
from sippool_core.transactions import Requests, _FlowRequests

from .registry import bug


@bug("bound removed")
def no_bound_on_connections(patch):
    """The pool is never full"""
    patch.setattr(Admission, "is_full", False)


@bug("off by one")
def one_connection_too_many(patch):
    """The pool is full one connection late"""
    patch.setattr(
        Admission,
        "is_full",
        property(lambda self: len(self._sources) > self._limits.max_connections),
    )


@bug("bound removed")
def no_bound_on_a_source(patch):
    """One address may have all connections"""
    patch.setattr(Admission, "is_greedy", lambda self, peer: False)


def enter_handshake(places):
    def enter(self, connection_id, peer, now):
        self._source[connection_id] = source_of(peer)
        if len(self._progress_at) < places(self):
            self._progress_at[connection_id] = now
            return True
        self._waiting[connection_id] = None
        return False

    return enter


@bug("bound removed", needs_tls=True)
def no_bound_on_handshakes(patch):
    """Every handshake begins at once"""
    patch.setattr(Handshakes, "enter", enter_handshake(lambda self: 2**30))


@bug("off by one", needs_tls=True)
def one_handshake_too_many(patch):
    """One handshake more than there are places"""
    patch.setattr(Handshakes, "enter", enter_handshake(lambda self: self._places + 1))


@bug("N5")
def no_bound_on_a_queue(patch):
    """A peer that does not read may be sent any number of messages"""

    def check_room(self, message, connection):
        limits = self._state.limits
        if self._state.stats.queued_bytes + len(message.raw) > limits.max_queued_bytes_total:
            raise QueueFull("full")

    patch.setattr(Sender, "_check_room", check_room)


@bug("off by one")
def one_message_too_many(patch):
    """A queue is full one message late"""
    check = Sender._check_room

    def check_room(self, message, connection):
        if (
            connection is None
            or connection.queued_messages != self._state.limits.max_queued_messages
        ):
            check(self, message, connection)

    patch.setattr(Sender, "_check_room", check_room)


@bug("bound removed")
def no_bound_on_all_queues(patch):
    """Only the queue of one connection is bounded, not their sum"""

    def check_room(self, message, connection):
        limits = self._state.limits
        if connection is not None and (
            connection.queued_messages >= limits.max_queued_messages
            or connection.queued_bytes + len(message.raw) > limits.max_queued_bytes
        ):
            raise QueueFull("full")

    patch.setattr(Sender, "_check_room", check_room)


@bug("bound removed")
def no_bound_on_datagrams(patch):
    """Any number of datagrams waits for the UDP socket"""
    patch.setattr(Datagrams, "check_room", lambda self, listener, size: None)


@bug("A1")
def no_back_pressure(patch):
    """Peers are read however slow the application is"""
    patch.setattr(Inbox, "is_full", False)


@bug("bound removed")
def no_bound_on_event_bytes(patch):
    """Events are counted, their bytes are not"""
    patch.setattr(Inbox, "is_full", property(lambda self: len(self._events) >= self._max_events))


@bug("bound removed")
def no_bound_on_spare_events(patch):
    """Pings and drops are kept like messages"""
    patch.setattr(Inbox, "offer", lambda self, event: self._events.append((event, 0)))


@bug("bound removed")
def no_bound_on_partial_bytes(patch):
    """Half messages of all connections are not counted together"""
    patch.setattr(Streams, "_bound_partial_bytes", lambda self: None)


@bug("bound forgotten")
def partial_bytes_stay_counted(patch):
    """The bytes of a half message stay counted when its connection goes"""
    forget = Reader.forget

    def forget_but_count(self, connection):
        before = self._state.stats.partial_bytes
        forget(self, connection)
        self._state.stats.partial_bytes = before

    patch.setattr(Reader, "forget", forget_but_count)


@bug("bound removed", is_rare=True)
def no_bound_on_malformed(patch):
    """A connection may be malformed for ever"""
    malformed = Reader._malformed

    def deliver(self, connection, event):
        malformed(self, connection, event)
        return False

    patch.setattr(Reader, "_malformed", deliver)


@bug("bound removed", finder="framer")
def no_bound_on_keepalives(patch):
    """Line ends between messages are not counted"""
    between = StreamFramer._between_messages

    def uncounted(self):
        self._keepalive_bytes = 0
        return between(self)

    patch.setattr(StreamFramer, "_between_messages", uncounted)


@bug("bound removed")
def no_bound_on_open_requests(patch):
    """Every request of a connection is remembered"""

    def remember(self, flow_id, key):
        requests = self._by_flow.setdefault(flow_id, _FlowRequests())
        hold = requests.holds.get(key)
        if hold is None:
            self._flows[key] = (*self._flows.get(key, ()), flow_id)
        if not hold:
            requests.change(key, Hold.OPEN)

    patch.setattr(Requests, "remember", remember)


@bug("off by one")
def one_open_request_too_many(patch):
    """The memory of a connection is full one request late"""
    begin = Requests.__init__

    def one_more(self, max_per_flow, *, keep_answered):
        begin(self, max_per_flow + 1, keep_answered=keep_answered)

    patch.setattr(Requests, "__init__", one_more)


@bug("bound removed", is_rare=True)
def a_pong_for_each_ping(patch):
    """Pongs pile up for a peer that only sends pings"""

    def enqueue_pong(self):
        self.pong_pending = True
        self.enqueue(PendingSend(0, PONG, None, None))

    patch.setattr(Connection, "enqueue_pong", enqueue_pong)


@bug("off by one", finder="framer")
def one_header_byte_too_many(patch):
    """A header may be one byte longer than the limit"""
    header = StreamFramer._header

    class OneMore:
        def __init__(self, limits):
            self._limits = limits

        def __getattr__(self, name):
            return getattr(self._limits, name) + (name == "max_header_bytes")

    def longer(self):
        limits = self._limits
        self._limits = OneMore(limits)
        try:
            return header(self)
        finally:
            self._limits = limits

    patch.setattr(StreamFramer, "_header", longer)
