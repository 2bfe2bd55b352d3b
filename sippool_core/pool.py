"""`Pool`: the whole SIP transport layer (RFC 3261 section 18) without a socket.

1. Plain verbs are the application's, `handle_*` are an adapter's reports, `next_*` are the outputs.
2. After any call: take `next_effect` until it is `None`, performing each; then look at `next_deadline`; then
   wait. `next_event` is for the application, whenever it has room.
3. Every input takes `now`, in seconds of any clock; one that steps back costs nobody a deadline.
4. Reports about numbers that are dead are ignored: adapters race by nature.
5. Peers never make it raise; only the caller's misuse does, and then nothing has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsBytes

from .accepting import Accepting
from .address import Transport
from .config import PoolConfig
from .datagrams import Datagrams
from .deadlines import Timers
from .effects import CloseListener, WriteData
from .errors import ConfigurationError, PoolClosed
from .events import Flow, InputDropped, SendUnawaited
from .reading import Timer
from .reasons import CloseReason, DropReason, errno_name
from .routing import Listener, Router
from .sender import Sender
from .sends import Ledger
from .state import PoolState
from .streams import Streams

if TYPE_CHECKING:
    from .address import Address, Target
    from .connection import Connection
    from .effects import Effect, SendFailed
    from .events import Event, FramingFailed, MalformedReceived, MessageReceived
    from .state import Stats


class Pool:
    """Listeners and connections of one SIP transport layer; see the module's rules for how to drive it."""

    def __init__(self, config: PoolConfig | None = None, *, now: float) -> None:
        """Raises `ConfigurationError` for TLS settings that cannot work."""
        config = config or PoolConfig()
        self._state = PoolState(config, now)
        self._ledger = Ledger(self._state)
        self._router = Router(config.restrict_to)
        self._timers: Timers[tuple[Timer, int]] = Timers()
        self._accepting = Accepting(self._state, self._timers)
        self._datagrams = Datagrams(self._state, self._ledger, self._router)
        self._streams = Streams(self._state, self._ledger, self._router, self._timers)
        self._closing = False
        self._sender = Sender(
            self._state, self._ledger, self._router, self._streams, self._datagrams
        )
        if config.tls is not None:
            self._streams.load_tls(config.tls)

    # What the application does.

    def add_listener(
        self,
        transport: Transport,
        local: Address,
        *,
        connected_to: Address | None = None,
        now: float,
    ) -> int:
        """A socket is bound there; returns the listener's number.

        `connected_to` is the one peer of a connected UDP socket. Raises `ConfigurationError` for TLS without a
        certificate, and `PoolClosed`.
        """
        self._require_open(now)
        if connected_to is not None and transport.is_stream:
            raise ConfigurationError("only a UDP socket can be connected and still serve a pool")
        if transport is Transport.TLS:
            contexts = self._streams.tls_contexts
            if contexts is None or contexts.server is None:
                raise ConfigurationError(
                    "a TLS listener needs a certificate: PoolConfig(tls=TlsSettings(certificate=..., key=...))"
                )
        listener = Listener(self._state.new_id(), transport, local, connected_to)
        self._router.listeners[listener.id] = listener
        return listener.id

    def remove_listener(self, listener_id: int, *, now: float) -> None:
        """Receive and accept nothing more there; connections that were accepted live on."""
        self._state.tick(now)
        listener = self._router.listeners.pop(listener_id, None)
        if listener is not None:
            self._accepting.forget(listener)
            self._state.effects.append(CloseListener(listener_id))

    def send(
        self,
        message: bytes | SupportsBytes,
        target: Target | str | None = None,
        *,
        flow: Flow | None = None,
        now: float,
    ) -> int:
        """Queue a message; returns the number under which its one outcome will come.

        It takes, in this order: the `flow`, if one is given; for a response the flow of its request; a
        connection that leads to `target`; a new one. Raises, with nothing queued: `InvalidMessage`, `NoRoute`,
        `AmbiguousTransaction`, `QueueFull`, `PoolClosed`, and `ValueError` for a target that cannot be read.
        """
        self._require_open(now)
        send_id = self._sender.send(bytes(message), target, flow)
        self._settle()
        return send_id

    def reply(
        self,
        received: MessageReceived | MalformedReceived | FramingFailed,
        response: bytes | SupportsBytes,
        *,
        now: float,
    ) -> int:
        """Queue the answer to a received request, on the flow it came by and no other.

        Over UDP it goes where RFC 3261 section 18.2.2 and RFC 3581 section 4 say. Raises like `send`, and
        `InvalidMessage` where `response` does not answer this request.
        """
        self._require_open(now)
        send_id = self._sender.reply(received.flow, received.message, bytes(response))
        self._settle()
        return send_id

    def cancel_send(self, send_id: int, *, now: float) -> None:
        """Nobody waits for this send any more: it is taken back, or, where it is on its way, let go."""
        self._state.tick(now)
        send = self._ledger.get(send_id)
        if send is not None:
            self._streams.cancel(send)

    def close_flow(self, flow: Flow, *, now: float) -> None:
        """Close a connection in order: what is queued for it goes out first, within `close_seconds`."""
        self._state.tick(now)
        connection = self._streams.connections.get(flow.id)
        if connection is not None:
            self._streams.close(connection, CloseReason.CLOSED_LOCALLY)
            self._settle()

    def close(self, *, now: float) -> None:
        """Close everything in order, within `close_seconds`; `is_closed` tells when it is done."""
        self._state.tick(now)
        self._closing = True
        for listener_id in tuple(self._router.listeners):
            self.remove_listener(listener_id, now=now)
        for connection in tuple(self._streams.connections.values()):
            self._streams.close(connection, CloseReason.POOL_CLOSED)
        self._settle()

    def note_unawaited(self, failed: SendFailed) -> None:
        """An adapter says that nobody holds the outcome of this send: it becomes an event."""
        self._state.inbox.offer(SendUnawaited(failed))

    # What an adapter reports.

    def handle_accepted(
        self, listener_id: int, peer: Address, local: Address, *, now: float
    ) -> int | None:
        """A connection has been accepted; its number, or `None`: refused, close it with RST."""
        self._state.tick(now)
        listener = self._router.listeners.get(listener_id)
        if listener is None:
            return None
        self._accepting.succeeded(listener)
        reason = self._refusal(peer)
        if reason is not None:
            self._state.stats.dropped[reason] += 1
            flow = Flow(listener_id, listener.transport, peer, local, listener_id)
            self._state.inbox.offer(InputDropped(reason, flow, 0))
            return None
        connection_id = self._streams.accepted(listener, peer, local)
        self._settle()
        return connection_id

    def handle_accept_failed(self, listener_id: int, code: int, *, now: float) -> None:
        """Accepting failed with this errno."""
        self._state.tick(now)
        listener = self._router.listeners.get(listener_id)
        if listener is not None:
            self._accepting.failed(listener, code)

    def handle_connected(self, connection_id: int, local: Address, *, now: float) -> None:
        """The connection of an `OpenConnection` stands."""
        connection = self._connection(connection_id, now)
        if connection is not None:
            self._streams.connected(connection, local)
            self._settle()

    def handle_data(self, connection_id: int, data: bytes, *, now: float) -> None:
        """Bytes have been read."""
        connection = self._connection(connection_id, now)
        if connection is not None:
            self._streams.received(connection, data)
            self._settle()

    def handle_eof(self, connection_id: int, *, now: float) -> None:
        """The peer has closed its side."""
        connection = self._connection(connection_id, now)
        if connection is not None:
            self._streams.ended(connection)
            self._settle()

    def handle_written(self, connection_id: int, count: int, *, now: float) -> None:
        """The kernel took `count` bytes more of the outstanding `WriteData`."""
        connection = self._connection(connection_id, now)
        if connection is not None:
            self._streams.written(connection, count)
            self._settle()

    def handle_lost(self, connection_id: int, code: int, *, now: float) -> None:
        """Connecting, reading or writing failed with this errno (0: unknown)."""
        connection = self._connection(connection_id, now)
        if connection is not None:
            self._streams.lost(connection, code, errno_name(code))
            self._settle()

    def handle_datagram(
        self,
        listener_id: int,
        data: bytes,
        source: Address,
        *,
        now: float,
        truncated: bool = False,
    ) -> None:
        """A datagram has been read; `truncated`: the kernel gave only a part of it."""
        self._state.tick(now)
        listener = self._router.listeners.get(listener_id)
        if listener is not None:
            self._datagrams.received(listener, data, source, truncated=truncated)
            self._settle()

    def handle_datagram_sent(self, send_id: int, *, now: float) -> None:
        """The kernel took the datagram of a `SendDatagram`."""
        self._state.tick(now)
        self._datagrams.sent(send_id)

    def handle_datagram_failed(self, send_id: int, code: int, *, now: float) -> None:
        """The kernel refused the datagram of a `SendDatagram` with this errno."""
        self._state.tick(now)
        self._datagrams.failed(send_id, code)

    def handle_unreachable(
        self, listener_id: int, code: int, peer: Address | None, *, now: float
    ) -> None:
        """A UDP socket had a pending error: about something sent before, to `peer` if that is known."""
        self._state.tick(now)
        listener = self._router.listeners.get(listener_id)
        if listener is not None:
            self._datagrams.unreachable(listener, code, peer or listener.connected_to)

    def handle_timer(self, *, now: float) -> None:
        """Time has passed. May be called at any time; nothing happens before it is due."""
        self._state.tick(now)
        while (due := self._timers.pop_due(self._state.now)) is not None:
            timer, owner = due
            if timer is Timer.ACCEPT_AGAIN:
                self._accepting.retry(owner)
            else:
                self._streams.timed_out(timer, owner)
        self._streams.run_due()
        if self._accepting.may_go_on:
            self._accepting.go_on()
        self._settle()

    # What comes out.

    def next_effect(self) -> Effect | None:
        """The next command or outcome, or `None` when all are taken."""
        effects = self._state.effects
        while effects:
            effect = effects.popleft()
            if isinstance(effect, WriteData):
                # The connection may have ended before anybody has performed this: its sends were told that no byte
                # is out, and so none must go out.
                if effect.connection_id not in self._streams.connections:
                    continue
            elif isinstance(effect, CloseListener):
                # All datagrams before it have been performed; what the adapter still holds goes with the socket.
                self._datagrams.give_up(effect.listener_id)
            return effect
        return None

    def next_event(self) -> Event | None:
        """The oldest event that was not taken, or `None`. Look at `next_deadline` again afterwards."""
        return self._state.inbox.take()

    def next_deadline(self) -> float | None:
        """The instant at which `handle_timer` wants to be called, or `None`; it may have passed already."""
        if self._accepting.may_go_on:
            return self._state.by_callers_clock(self._state.now)
        instants = [
            at for at in (self._timers.next_at(), self._streams.next_at()) if at is not None
        ]
        return self._state.by_callers_clock(min(instants)) if instants else None

    @property
    def stats(self) -> Stats:
        """A snapshot of the counters."""
        stats = self._state.snapshot()
        stats.idle_seconds = self._streams.activity.expiry.idle_seconds
        return stats

    @property
    def owes_answers(self) -> bool:
        """Whether a request of a peer, over TCP or TLS, waits for its final answer."""
        return any(map(self._streams.activity.owes_answer, self._streams.connections))

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called and everything has ended."""
        return self._closing and not (self._streams.connections or self._datagrams.has_outstanding)

    # Inside.

    def _refusal(self, peer: Address) -> DropReason | None:
        restriction = self._router.restriction
        if restriction is not None and not restriction.allows_connection_from(peer):
            return DropReason.NOT_ALLOWED
        if self._streams.admission.is_greedy(peer):
            return DropReason.TOO_MANY_FROM_SOURCE
        return None if self._streams.make_room(peer) else DropReason.TOO_MANY_CONNECTIONS

    def _connection(self, connection_id: int, now: float) -> Connection | None:
        self._state.tick(now)
        return self._streams.connections.get(connection_id)

    def _require_open(self, now: float) -> None:
        self._state.tick(now)
        if self._closing:
            raise PoolClosed("the pool is closed")

    def _settle(self) -> None:
        """Finish what an input began."""
        self._streams.settle()
        if self._state.inbox.is_full:
            for listener in self._router.listeners.values():
                if listener.transport.is_stream:
                    self._accepting.wait_for_room(listener)
