"""How a connection ends: what still goes out, in which order, and what becomes of the rest.

1. Queued messages and the last owed answers, then close_notify, then FIN, then the end; all of it within
   `close_seconds`, and without waiting for the peer's close_notify.
2. After a framing error our FIN goes first and input is thrown away until the peer's, for closing with unread
   bytes in the kernel sends RST, which destroys answers on their way.
3. A message of which no byte went out over a reused connection that proved dead is handed back for one new try.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .connection import Phase
from .effects import CloseConnection, ShutdownWriting, WriteData
from .events import ConnectionClosed, PeerFinished
from .reading import Timer
from .reasons import CloseReason, SendFailure, send_failure_from_close

if TYPE_CHECKING:
    from .connection import Connection
    from .registry import Registry
    from .sends import Ledger, PendingSend
    from .state import PoolState

# Ends for which the connection itself is to blame, so that another one may do better.
_STALE = {
    CloseReason.CLOSED_BY_PEER,
    CloseReason.TRUNCATED,
    CloseReason.UNCLEAN_TLS_CLOSE,
    CloseReason.RESET,
    CloseReason.SYSTEM_ERROR,
}
_LINGERING = {CloseReason.FRAMING_ERROR, CloseReason.TOO_MANY_MALFORMED}


class Closer:
    """Writes what may be written, and closes what is to be closed."""

    def __init__(self, state: PoolState, registry: Registry, ledger: Ledger) -> None:
        self._state = state
        self._registry = registry
        self._ledger = ledger
        self.to_retry: list[PendingSend] = []
        """Sends that deserve a new connection."""

    def flush(self, connection: Connection) -> None:
        """Hand the adapter what may be written; with nothing left, take the next step towards the end."""
        if connection.is_at_rest:
            return
        if connection.phase not in (Phase.HANDSHAKING, Phase.OPEN, Phase.CLOSING):
            return
        data = connection.next_write()
        if data:
            self._state.effects.append(WriteData(connection.id, data))
            self._registry.writes.start(connection.id, self._state.now)
        if connection.phase is not Phase.CLOSING and self._has_failed(connection):
            self._fail_tls(connection)
        elif not connection.is_writing:
            if connection.phase is Phase.CLOSING:
                self._advance(connection)
            elif connection.half_closed_for is not None:
                self._end_half_closed(connection, connection.half_closed_for)

    def half_close(self, connection: Connection) -> None:
        """The peer will say nothing more, but answers that we owe still go out (RFC 3261 section 18.2.2)."""
        if connection.framer.in_message:
            reason = CloseReason.TRUNCATED
        elif connection.tls is not None and not connection.tls.peer_closed:
            reason = CloseReason.UNCLEAN_TLS_CLOSE
        else:
            reason = CloseReason.CLOSED_BY_PEER
        connection.half_closed_for = reason
        self._registry.stop_reusing(connection)
        self._registry.reader.forget(connection)
        if connection.has_unsent or self._registry.activity.owes_answer(connection.id):
            self._registry.set_timer(
                Timer.HALF_CLOSED, connection, self._state.timeouts.transaction_seconds
            )
            self._state.inbox.put(PeerFinished(connection.flow))

    def begin(self, connection: Connection, reason: CloseReason, detail: str = "") -> None:
        """Deliver nothing more, and close as soon as what is left has gone out."""
        connection.phase = Phase.CLOSING
        connection.close_reason = reason
        connection.close_detail = detail
        connection.lingers = connection.close_when_answered = reason in _LINGERING
        self._registry.retire(connection)
        self._registry.set_timer(Timer.CLOSE, connection, self._state.timeouts.close_seconds)
        self.flush(connection)

    def give_up_waiting(self, connection: Connection) -> None:
        """`close_seconds` are over."""
        self.finish(
            connection,
            connection.close_reason,
            connection.close_detail,
            abort=connection.is_writing,
        )

    def finish(
        self,
        connection: Connection,
        reason: CloseReason,
        detail: str = "",
        *,
        failure: SendFailure | None = None,
        abort: bool = False,
    ) -> None:
        """The end: nothing about this connection comes later."""
        connection.phase = Phase.CLOSED
        self._registry.remove(connection)
        self._state.stats.connections_closed[reason] += 1
        self._state.effects.append(CloseConnection(connection.id, abort))
        self._state.inbox.put(ConnectionClosed(connection.flow, reason, detail))
        failure = failure or send_failure_from_close(reason)
        for send, out in connection.abandon():
            another_may_do = send.reused and send.target is not None and not send.retried
            if another_may_do and not out and reason in _STALE:
                self.to_retry.append(send)
            else:
                self._ledger.fail(
                    send, failure, connection.flow, bytes_may_be_out=out, detail=detail
                )

    @staticmethod
    def _has_failed(connection: Connection) -> bool:
        return connection.tls is not None and connection.tls.failure is not None

    def _fail_tls(self, connection: Connection) -> None:
        """The engine has failed: nothing that is queued can go out, but its alert can."""
        tls = connection.tls
        assert tls is not None and tls.failure is not None
        failure = send_failure_from_close(tls.failure)
        for send in connection.abandon_queue():
            self._ledger.fail(send, failure, connection.flow, detail=tls.failure_detail)
        self.begin(connection, tls.failure, tls.failure_detail)

    def _end_half_closed(self, connection: Connection, reason: CloseReason) -> None:
        if not self._registry.activity.owes_answer(connection.id):
            self.begin(connection, reason)

    def _advance(self, connection: Connection) -> None:
        """Nothing is left to write in a closing connection."""
        if connection.close_when_answered and self._registry.activity.owes_answer(connection.id):
            return
        connection.close_when_answered = False
        if connection.tls is not None and not connection.goodbye_said:
            connection.goodbye_said = True
            connection.tls.close()
            connection.take_tls_output()
            self.flush(connection)
        elif connection.lingers and not connection.eof:
            self._state.effects.append(ShutdownWriting(connection.id))
        else:
            self.finish(connection, connection.close_reason, connection.close_detail)
