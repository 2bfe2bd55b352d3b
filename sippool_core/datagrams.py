"""UDP: one datagram in is at most one event, one message out is one datagram.

1. The source is judged before a byte is parsed.
2. A datagram is never answered by the pool itself, and no name in it is looked up.
3. "Sent" means that the kernel took it; what the network says later is `PeerUnreachable`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .effects import SendDatagram
from .errors import QueueFull
from .events import Flow, InputDropped, MalformedReceived, MessageReceived, PeerUnreachable
from .framing import Malformed, frame_datagram
from .message import Message, stamp
from .reasons import DropReason, SendFailure, errno_name, send_failure_from_errno
from .routing import is_impossible_source

if TYPE_CHECKING:
    from .address import Address
    from .routing import Listener, Router
    from .sends import Ledger, PendingSend
    from .state import PoolState


class Datagrams:
    """The UDP side of a pool."""

    def __init__(self, state: PoolState, ledger: Ledger, router: Router) -> None:
        self._state = state
        self._ledger = ledger
        self._router = router
        self._outstanding: dict[int, tuple[PendingSend, Listener, Flow]] = {}

    def received(
        self, listener: Listener, data: bytes, source: Address, *, truncated: bool
    ) -> None:
        """A datagram has come."""
        flow = Flow(listener.id, listener.transport, source, listener.local, listener.id)
        reason = self._refusal(listener, source, truncated=truncated)
        if reason is not None:
            self._drop(reason, flow, len(data))
            return
        framed = frame_datagram(data, self._state.limits)
        if isinstance(framed, DropReason):
            self._drop(framed, flow, len(data))
        elif isinstance(framed, Malformed):
            self._state.stats.malformed[framed.defect] += 1
            message = stamp(framed.message, source)
            event = MalformedReceived(framed.defect, message, flow)
            self._state.inbox.put(event, len(message.raw))
        else:
            self._deliver(framed, flow, len(data))

    def check_room(self, listener: Listener, size: int) -> None:
        """Raise `QueueFull` where too much waits for this socket already."""
        limits = self._state.limits
        if (
            listener.outstanding_datagrams >= limits.max_queued_messages
            or listener.outstanding_bytes + size > limits.max_queued_bytes
        ):
            raise QueueFull(f"{listener.outstanding_datagrams} datagrams wait for the UDP socket")

    def send(self, send: PendingSend, listener: Listener, peer: Address) -> None:
        """Hand a message to the adapter."""
        flow = Flow(listener.id, listener.transport, peer, listener.local, listener.id)
        self._outstanding[send.send_id] = (send, listener, flow)
        listener.outstanding_datagrams += 1
        listener.outstanding_bytes += len(send.data)
        self._state.effects.append(SendDatagram(listener.id, send.send_id, send.data, peer))

    def sent(self, send_id: int) -> None:
        """The kernel took it."""
        entry = self._settle(send_id)
        if entry is not None:
            send, flow = entry
            self._ledger.complete(send, flow)

    def failed(self, send_id: int, code: int) -> None:
        """The kernel refused it."""
        entry = self._settle(send_id)
        if entry is not None:
            send, flow = entry
            self._ledger.fail(send, send_failure_from_errno(code), flow, detail=errno_name(code))

    def unreachable(self, listener: Listener, code: int, peer: Address | None) -> None:
        """An ICMP error came back for something that was sent before."""
        self._state.stats.unreachable += 1
        flow = Flow(
            listener.id, listener.transport, peer or listener.local, listener.local, listener.id
        )
        self._state.inbox.offer(PeerUnreachable(flow, errno_name(code)))

    @property
    def has_outstanding(self) -> bool:
        """Whether the adapter holds a datagram, or has not been told to send it."""
        return bool(self._outstanding)

    def give_up(self, listener_id: int) -> None:
        """The listener goes: what the adapter still holds for it will not be reported any more."""
        for send, owner, flow in tuple(self._outstanding.values()):
            if owner.id == listener_id:
                self._settle(send.send_id)
                self._ledger.fail(send, SendFailure.POOL_CLOSED, flow, bytes_may_be_out=True)

    def _refusal(
        self, listener: Listener, source: Address, *, truncated: bool
    ) -> DropReason | None:
        restriction = self._router.restriction
        if restriction is not None and not restriction.allows_datagram_from(source):
            return DropReason.NOT_ALLOWED
        if listener.connected_to is not None and listener.connected_to != source:
            return DropReason.NOT_ALLOWED
        if is_impossible_source(source, listener.local):
            return DropReason.BAD_SOURCE
        if truncated:
            return DropReason.TRUNCATED_DATAGRAM
        return DropReason.OVERLOAD if self._state.inbox.is_full else None

    def _deliver(self, message: Message, flow: Flow, datagram_size: int) -> None:
        stats = self._state.stats
        stats.messages_received += 1
        stats.message_bytes_received += len(message.raw)
        if len(message.raw) < datagram_size:
            stats.datagrams_cut += 1
        message = stamp(message, flow.peer)
        self._state.inbox.put(MessageReceived(message, flow), len(message.raw))

    def _drop(self, reason: DropReason, flow: Flow, size: int) -> None:
        self._state.stats.dropped[reason] += 1
        self._state.inbox.offer(InputDropped(reason, flow, size))

    def _settle(self, send_id: int) -> tuple[PendingSend, Flow] | None:
        entry = self._outstanding.pop(send_id, None)
        if entry is None:
            return None
        send, listener, flow = entry
        listener.outstanding_datagrams -= 1
        listener.outstanding_bytes -= len(send.data)
        return send, flow
