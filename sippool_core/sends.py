"""The ledger of sends: each accepted one ends exactly once.

1. A send is entered when it is accepted, and struck out by the one outcome it gets; whatever is reported of
   it later finds nothing to strike out, and is silent.
2. The outcome goes to the effects at once, so a slow application never holds up somebody's outcome.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .effects import SendCancelled, SendCompleted, SendFailed

if TYPE_CHECKING:
    from .address import Target
    from .events import Flow
    from .message import Message
    from .reasons import SendFailure
    from .state import PoolState


class PendingSend:
    """One message on its way out. `send_id` 0 is the pool's own (a pong), which nobody waits for."""

    __slots__ = ("connection_id", "data", "message", "retried", "reused", "send_id", "target")

    def __init__(
        self, send_id: int, data: bytes, message: Message | None, target: Target | None
    ) -> None:
        self.send_id = send_id
        self.data = data
        self.message = message
        self.target = target
        """Where a new try would go; `None` if it is bound to its flow."""
        self.connection_id = 0
        """The connection it is queued on; 0 for a datagram."""
        self.reused = False
        self.retried = False


class Ledger:
    """The sends that have no outcome yet."""

    def __init__(self, state: PoolState) -> None:
        self._state = state
        self._open: dict[int, PendingSend] = {}

    def accept(self, message: Message, target: Target | None) -> PendingSend:
        """Enter a send."""
        send = PendingSend(self._state.new_id(), message.raw, message, target)
        self._open[send.send_id] = send
        return send

    def get(self, send_id: int) -> PendingSend | None:
        """The send, while it has no outcome."""
        return self._open.get(send_id)

    def complete(self, send: PendingSend, flow: Flow) -> None:
        """The kernel has all of it."""
        if self._open.pop(send.send_id, None) is not None:
            self._state.stats.sends_completed += 1
            self._state.effects.append(SendCompleted(send.send_id, flow, send.reused))

    def fail(
        self,
        send: PendingSend,
        reason: SendFailure,
        flow: Flow | None,
        *,
        bytes_may_be_out: bool = False,
        detail: str = "",
    ) -> None:
        """It will not be sent, or not wholly."""
        if self._open.pop(send.send_id, None) is not None:
            self._state.stats.sends_failed[reason] += 1
            failed = SendFailed(send.send_id, reason, bytes_may_be_out, flow, detail)
            self._state.effects.append(failed)

    def cancel(self, send: PendingSend, *, bytes_may_be_out: bool) -> None:
        """The application gave it up."""
        del self._open[send.send_id]
        self._state.stats.sends_cancelled += 1
        self._state.effects.append(SendCancelled(send.send_id, bytes_may_be_out))
