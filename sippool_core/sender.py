"""Which way a message takes: by its flow, back where its request came from, or to its target.

1. What cannot be sent through the caller's fault raises, with nothing queued. A way that a peer has closed is
   no fault of the caller's: it is a failed outcome.
2. A flow is never replaced by another: not by one with the same key, not by a new connection.
3. What we send is checked by the rules for what we receive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .address import Address, Target, Transport
from .errors import AmbiguousTransaction, InvalidMessage, NoRoute, QueueFull
from .framing import check_outgoing
from .message import answer_address
from .reasons import SendFailure

if TYPE_CHECKING:
    from .connection import Connection
    from .datagrams import Datagrams
    from .events import Flow
    from .message import Message
    from .routing import Listener, Router
    from .sends import Ledger
    from .state import PoolState
    from .streams import Streams


class Sender:
    """Takes the messages of the application, and queues each on its way."""

    def __init__(
        self,
        state: PoolState,
        ledger: Ledger,
        router: Router,
        streams: Streams,
        datagrams: Datagrams,
    ) -> None:
        self._state = state
        self._ledger = ledger
        self._router = router
        self._streams = streams
        self._datagrams = datagrams

    def send(self, raw: bytes, target: Target | str | None, flow: Flow | None) -> int:
        """See `Pool.send`."""
        if isinstance(target, str):
            target = Target.parse(target)
        way = flow or target
        message = self._check(raw, stream=way is not None and way.transport.is_stream)
        if flow is not None:
            return self._by_flow(message, flow, message)
        if message.is_request:
            return self._to_target(message, target)
        return self._response(message, target)

    def reply(self, flow: Flow, request: Message | None, raw: bytes) -> int:
        """See `Pool.reply`."""
        message = self._check(raw, stream=flow.transport.is_stream)
        if request is None or not request.can_be_answered:
            raise InvalidMessage("there is no request in it that can be answered")
        if message.is_request or message.transaction_key != request.transaction_key:
            raise InvalidMessage("this is not a response to the received request (Via, CSeq)")
        return self._by_flow(message, flow, request)

    def _check(self, raw: bytes, *, stream: bool) -> Message:
        return check_outgoing(raw, stream=stream, limits=self._state.limits)

    def _by_flow(self, message: Message, flow: Flow, stamped: Message) -> int:
        """`stamped` has the top Via that says where an answer over UDP goes."""
        if flow.transport is Transport.UDP:
            listener = self._router.listeners.get(flow.id)
            peer: Address | None = flow.peer
            if not message.is_request and stamped.via is not None:
                peer = answer_address(stamped.via, flow.peer)
            return self._datagram(message, listener, peer)
        connection = self._streams.usable(flow.id, for_answer=not message.is_request)
        return self._on_connection(message, connection, flow)

    def _response(self, message: Message, target: Target | None) -> int:
        """RFC 3261 section 18.2.2, for a response that comes without its flow."""
        flows = self._streams.activity.flows_of_request(message)
        if len(flows) > 1:
            raise AmbiguousTransaction(
                "this request is open on several flows: use reply, or give its flow"
            )
        if flows:
            checked = self._check(message.raw, stream=True)
            connection = self._streams.usable(flows[0], for_answer=True)
            return self._on_connection(checked, connection, None)
        via = message.via
        if target is None and via is not None and via.transport == "UDP":
            # Our own stamp says where the request came from.
            address = answer_address(via, None)
            if address is not None:
                target = Target(Transport.UDP, address)
        if target is None:
            return self._fail(message, None)
        return self._to_target(message, target)

    def _to_target(self, message: Message, target: Target | None) -> int:
        if target is None:
            raise NoRoute("a request needs a target or a flow")
        target, listener = self._router.way_to(target)
        if target.transport is Transport.UDP:
            return self._datagram(message, listener, target.address)
        if target.transport is Transport.TLS:
            self._streams.load_tls()
        connection = self._streams.reusable(target, listener)
        self._check_room(message, connection)
        send = self._ledger.accept(message, target)
        self._streams.send_to(send, target, listener)
        return send.send_id

    def _on_connection(
        self, message: Message, connection: Connection | None, flow: Flow | None
    ) -> int:
        if connection is None:
            return self._fail(message, flow)
        self._check_room(message, connection)
        send = self._ledger.accept(message, None)
        send.reused = True
        self._streams.send_on(send, connection)
        return send.send_id

    def _datagram(self, message: Message, listener: Listener | None, peer: Address | None) -> int:
        if listener is None or peer is None:
            return self._fail(message, None)
        self._datagrams.check_room(listener, len(message.raw))
        send = self._ledger.accept(message, None)
        self._datagrams.send(send, listener, self._router.datagram_peer(listener, peer))
        return send.send_id

    def _fail(self, message: Message, flow: Flow | None) -> int:
        """The way is gone, which is no fault of the caller's: an outcome, not an exception."""
        send = self._ledger.accept(message, None)
        self._ledger.fail(send, SendFailure.FLOW_FAILED, flow)
        return send.send_id

    def _check_room(self, message: Message, connection: Connection | None) -> None:
        limits = self._state.limits
        size = len(message.raw)
        if self._state.stats.queued_bytes + size > limits.max_queued_bytes_total:
            raise QueueFull("the queues of all connections together are full")
        if connection is not None and (
            connection.queued_messages >= limits.max_queued_messages
            or connection.queued_bytes + size > limits.max_queued_bytes
        ):
            raise QueueFull(
                f"{connection.queued_messages} messages ({connection.queued_bytes} bytes) wait for"
                f" {connection.peer}"
            )
