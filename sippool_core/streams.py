"""The TCP and TLS connections of a pool: opened, accepted, fed, written to, and timed.

1. Phases go one way: connecting or waiting, handshaking, open, closing, closed; each has its own deadline.
2. A connection's number is dead the moment its `CloseConnection` is queued; later reports are ignored.
3. Not one SIP byte leaves or is delivered over TLS before the handshake and the identity check are done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .address import Address, Transport
from .closing import Closer
from .config import TlsSettings
from .connection import Connection, Phase
from .effects import OpenConnection, PauseReading, ResumeReading
from .events import ConnectionOpened
from .reading import Timer
from .reasons import (
    CloseReason,
    SendFailure,
    close_reason_from_errno,
    send_failure_from_errno,
)
from .registry import Registry
from .routing import ReuseKey, reuse_key

if TYPE_CHECKING:
    from .address import Target
    from .deadlines import Timers
    from .routing import Listener, Router
    from .sends import Ledger, PendingSend
    from .state import PoolState
    from .tls import TlsContexts

_UNKNOWN = {4: Address("0.0.0.0", 0), 6: Address("::", 0)}
_TIMEOUT_REASON = {
    Timer.CONNECT: CloseReason.CONNECT_TIMEOUT,
    Timer.HANDSHAKE: CloseReason.HANDSHAKE_TIMEOUT,
    Timer.FIRST_MESSAGE: CloseReason.FIRST_MESSAGE_TIMEOUT,
    Timer.MESSAGE: CloseReason.MESSAGE_TIMEOUT,
    Timer.HALF_CLOSED: CloseReason.HALF_CLOSED_TIMEOUT,
}


class Streams:
    """All connections of a pool."""

    def __init__(
        self, state: PoolState, ledger: Ledger, router: Router, timers: Timers[tuple[Timer, int]]
    ) -> None:
        self._state = state
        self._ledger = ledger
        self._router = router
        self._registry = Registry(state, timers)
        self._closer = Closer(state, self._registry, ledger)
        self.activity = self._registry.activity
        self.admission = self._registry.admission
        self.connections = self._registry.connections
        self.tls_contexts: TlsContexts | None = None

    def load_tls(self, settings: TlsSettings | None = None) -> None:
        """Have contexts for TLS: by these settings, or, where there are none yet, by the system's CAs."""
        if settings is not None or self.tls_contexts is None:
            from .tls import TlsContexts  # ssl takes as long to load as all the rest

            self.tls_contexts = TlsContexts.build(settings or TlsSettings())

    # Sending.

    def reusable(self, target: Target, listener: Listener | None) -> Connection | None:
        """The connection that a message to this target would take, open or on its way to be."""
        return self._registry.reusable(reuse_key(target, listener))

    def usable(self, connection_id: int, *, for_answer: bool) -> Connection | None:
        """The connection of a flow, if it can carry a request or an answer still."""
        connection = self.connections.get(connection_id)
        if connection is None:
            return None
        if connection.phase is Phase.CLOSING:
            return connection if for_answer and connection.close_when_answered else None
        return connection if for_answer or not connection.eof else None

    def send_to(self, send: PendingSend, target: Target, listener: Listener | None) -> None:
        """Queue a send on the connection to the target, which is opened if there is none."""
        connection = self.reusable(target, listener)
        if connection is None:
            if not self.make_room(None):
                self._ledger.fail(send, SendFailure.TOO_MANY_CONNECTIONS, None)
                return
            connection = self._open(target, listener)
        elif connection.phase is Phase.OPEN:
            send.reused = True
        self.send_on(send, connection)

    def send_on(self, send: PendingSend, connection: Connection) -> None:
        """Queue a send on this connection."""
        assert send.message is not None, "a pong takes no way, it is enqueued"
        connection.enqueue(send)
        self.activity.sent(connection.id, send.message)
        self._closer.flush(connection)

    def cancel(self, send: PendingSend) -> None:
        """Take a send back if none of it has gone; else let it go, and forget it."""
        connection = self.connections.get(send.connection_id)
        withdrawn = connection is not None and connection.withdraw(send)
        if connection is not None and withdrawn and send.message is not None:
            self.activity.withdrawn(connection.id, send.message)
        self._ledger.cancel(send, bytes_may_be_out=not withdrawn)

    def close(self, connection: Connection, reason: CloseReason) -> None:
        """Close in order: what is queued goes out first, within `close_seconds`."""
        if connection.phase is Phase.OPEN:
            self._closer.begin(connection, reason)
        elif connection.phase is not Phase.CLOSING:
            self._closer.finish(connection, reason)

    def make_room(self, peer: Address | None) -> bool:
        """Whether one connection more may live: from `peer`, or to somewhere. Another one may have to go for it."""
        if not self.admission.is_full:
            return True
        victim = self.admission.silent_victim()
        if victim is None:
            idle = (
                number
                for number in self.activity.expiry.idle()
                if not self.connections[number].has_unsent
            )
            victim = self.admission.talking_victim(peer, idle)
        if victim is None:
            return False
        self._closer.finish(self.connections[victim], CloseReason.EVICTED, abort=True)
        return True

    # Reports.

    def accepted(self, listener: Listener, peer: Address, local: Address) -> int:
        """A connection has been accepted and let in."""
        key = ReuseKey(listener.transport, listener.id, peer, None)
        connection = Connection(self._state, key, Phase.WAITING, local, outbound=False)
        self._registry.add(connection)
        self._state.stats.connections_accepted += 1
        if listener.transport is Transport.TCP:
            self._registry.allow_reuse(connection)
            self._opened(connection)
        elif self._registry.handshakes.enter(connection.id, peer, self._state.now):
            self._start_handshake(connection)
        else:
            self._state.effects.append(PauseReading(connection.id))
        return connection.id

    def connected(self, connection: Connection, local: Address) -> None:
        """The TCP connection that was asked for is there."""
        if connection.phase is not Phase.CONNECTING:
            return
        self._registry.clear_timer(Timer.CONNECT, connection)
        if local == connection.peer:
            # TCP's simultaneous open with itself: nobody listens there, and we would answer our own requests.
            failure = SendFailure.CONNECTION_REFUSED
            self._closer.finish(
                connection, CloseReason.CONNECT_FAILED, "connected to itself", failure=failure
            )
            return
        connection.flow = connection.flow._replace(local=local)
        if connection.transport is Transport.TLS:
            self._start_handshake(connection)
        else:
            self._opened(connection)
            self._closer.flush(connection)

    def received(self, connection: Connection, data: bytes) -> None:
        """Bytes have come; those of a closing connection are thrown away."""
        if connection.eof or connection.phase not in (Phase.HANDSHAKING, Phase.OPEN):
            return
        if connection.tls is None:
            connection.framer.receive(data)
            self._read_on(connection)
        else:
            self._decrypt(connection, data)

    def ended(self, connection: Connection) -> None:
        """The peer has closed its side."""
        if connection.eof:
            return
        connection.eof = True
        if connection.phase is Phase.CLOSING:
            self._closer.flush(connection)
        elif connection.phase is Phase.OPEN:
            self._read_on(connection)
        elif connection.tls is not None:
            connection.tls.receive_eof()
            self._closer.flush(connection)
        else:
            self._closer.finish(connection, CloseReason.CLOSED_BY_PEER)

    def written(self, connection: Connection, count: int) -> None:
        """The kernel took bytes of the outstanding write."""
        carried_message = False
        for send in connection.written(count):
            if send.send_id:
                carried_message = True
                self._ledger.complete(send, connection.flow)
            else:
                connection.pong_pending = False
        if connection.is_writing:
            self._registry.writes.start(connection.id, self._state.now)
            return
        self._registry.writes.stop(connection.id)
        if carried_message:
            self.activity.touch(connection.id)
        self._closer.flush(connection)

    def lost(self, connection: Connection, code: int, detail: str) -> None:
        """The system reported an error: the connection is gone."""
        if connection.phase is Phase.CONNECTING:
            failure = send_failure_from_errno(code)
            self._closer.finish(connection, CloseReason.CONNECT_FAILED, detail, failure=failure)
        elif connection.phase is Phase.CLOSING:
            self._closer.finish(connection, connection.close_reason, connection.close_detail)
        else:
            self._closer.finish(connection, close_reason_from_errno(code), detail)

    # Time.

    def next_at(self) -> float | None:
        """The next deadline of any connection that is not in the pool's timers."""
        if self._registry.reader.has_stalled and self._state.inbox.has_room_again:
            return self._state.now
        sources = (self._registry.writes, self.activity.expiry, self._registry.handshakes)
        instants = [at for at in (source.next_at() for source in sources) if at is not None]
        return min(instants, default=None)

    def timed_out(self, timer: Timer, connection_id: int) -> None:
        """A deadline of one phase has passed."""
        connection = self.connections[connection_id]
        if timer is Timer.CLOSE:
            self._closer.give_up_waiting(connection)
        elif timer in (Timer.FIRST_MESSAGE, Timer.MESSAGE):
            self._closer.begin(connection, _TIMEOUT_REASON[timer])
        else:
            self._closer.finish(connection, _TIMEOUT_REASON[timer], abort=connection.is_writing)

    def run_due(self) -> None:
        """Do what has become due for whole groups of connections."""
        now = self._state.now
        while (connection_id := self._registry.writes.pop_due(now)) is not None:
            self._closer.finish(
                self.connections[connection_id], CloseReason.WRITE_TIMEOUT, abort=True
            )
        while (connection_id := self.activity.expiry.pop_due(now)) is not None:
            connection = self.connections[connection_id]
            # A half message and an unfinished write have deadlines of their own, and one that waits for the
            # application is not to blame: none of them is idle, so its idle time begins anew.
            if (
                connection.message_since is None
                and not connection.has_unsent
                and not connection.paused
            ):
                self._closer.begin(connection, CloseReason.EXPIRED)
            else:
                self.activity.touch(connection_id)
        while (connection_id := self._registry.handshakes.stalled(now)) is not None:
            connection = self.connections[connection_id]
            self._closer.finish(connection, CloseReason.HANDSHAKE_DISPLACED, abort=True)
            self._start_waiting_handshakes()
        if self._state.inbox.has_room_again:
            while (stalled := self._registry.reader.next_stalled()) is not None:
                self._read_on(stalled)

    def settle(self) -> None:
        """What an input left to do: new tries, and places for handshakes that became free."""
        self._start_waiting_handshakes()
        while self._closer.to_retry:
            send = self._closer.to_retry.pop(0)
            assert send.target is not None
            send.retried, send.reused = True, False
            self._state.stats.sends_retried += 1
            self.send_to(send, *self._router.way_to(send.target))

    # The steps of a life.

    def _open(self, target: Target, listener: Listener | None) -> Connection:
        bind = None
        if listener is not None and not listener.local.is_wildcard:
            bind = listener.local._replace(port=0)
        local = bind or _UNKNOWN[target.address.family]
        key = reuse_key(target, listener)
        connection = Connection(self._state, key, Phase.CONNECTING, local, outbound=True)
        self._registry.add(connection)
        self._registry.allow_reuse(connection)
        self._state.stats.connections_opened += 1
        self._registry.set_timer(Timer.CONNECT, connection, self._state.timeouts.connect_seconds)
        self._state.effects.append(OpenConnection(connection.id, target.address, bind))
        return connection

    def _start_waiting_handshakes(self) -> None:
        while (successor := self._registry.handshakes.next_waiting(self._state.now)) is not None:
            self._state.effects.append(ResumeReading(successor))
            self._start_handshake(self.connections[successor])

    def _start_handshake(self, connection: Connection) -> None:
        from .tls import TlsEngine  # ssl takes as long to load as all the rest

        assert self.tls_contexts is not None
        name = connection.reuse_key.server_name
        connection.tls = TlsEngine(
            self.tls_contexts,
            server_side=not connection.outbound,
            reference=name or connection.peer.host,
            server_name=name,
        )
        connection.phase = Phase.HANDSHAKING
        seconds = self._state.timeouts.handshake_seconds
        self._registry.set_timer(Timer.HANDSHAKE, connection, seconds)
        connection.tls.start()
        connection.take_tls_output()
        self._closer.flush(connection)

    def _opened(self, connection: Connection) -> None:
        connection.phase = Phase.OPEN
        self._registry.clear_timer(Timer.HANDSHAKE, connection)
        self._registry.handshakes.leave(connection.id)
        self.activity.expiry.add(connection.id, self._state.now)
        self.activity.touch(connection.id)
        if not connection.outbound:
            self._registry.reader.watch_first_message(connection)
        self._state.inbox.put(ConnectionOpened(connection.flow))

    def _decrypt(self, connection: Connection, data: bytes) -> None:
        """Pass ciphertext through the engine, and what comes out of it to the framer."""
        tls = connection.tls
        assert tls is not None
        for plaintext in tls.receive(data):
            connection.framer.receive(plaintext)
        connection.take_tls_output()
        # Not `is_open`: the handshake may end, a message come, and the connection fail in one read.
        if tls.facts is not None and connection.phase is Phase.HANDSHAKING:
            connection.flow = connection.flow._replace(tls=tls.facts)
            self._opened(connection)
        elif connection.queued_bytes:
            self._registry.handshakes.progress(connection.id, self._state.now)
        if connection.control_bytes > self._state.limits.max_queued_bytes:
            # A peer that makes the engine talk (KeyUpdate) and never reads what it says.
            self._closer.finish(connection, CloseReason.WRITE_TIMEOUT, abort=True)
            return
        connection.eof = tls.peer_closed
        self._read_on(connection)

    def _read_on(self, connection: Connection) -> None:
        """Deliver what can be delivered, and act on how it ended."""
        if connection.phase is Phase.OPEN:
            reason = self._registry.reader.pump(connection)
            if reason is not None:
                self._closer.begin(connection, reason)
            elif connection.eof and not connection.paused and connection.half_closed_for is None:
                self._closer.half_close(connection)
            self._bound_partial_bytes()
        self._closer.flush(connection)

    def _bound_partial_bytes(self) -> None:
        """Too much is held of unfinished messages: the one begun first has had its chance."""
        while self._state.stats.partial_bytes > self._state.limits.max_partial_bytes:
            unfinished = [
                (connection.message_since, connection.id)
                for connection in self.connections.values()
                if connection.message_since is not None and connection.held_partial_bytes
            ]
            oldest = self.connections[min(unfinished)[1]]
            self._closer.finish(oldest, CloseReason.RECEIVE_OVERLOAD, abort=True)
