"""What keeps a connection alive: whole messages, completed writes, and requests that are open on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .expiry import Expiry
from .transactions import Requests

if TYPE_CHECKING:
    from .message import Message
    from .state import PoolState


class Activity:
    """The open requests of both directions, and the idle clocks they hold."""

    def __init__(self, state: PoolState) -> None:
        self._state = state
        self.expiry = Expiry(state.timeouts)
        most = state.limits.max_open_requests
        self._served = Requests(most, keep_answered=True)
        self._awaited = Requests(most, keep_answered=False)

    def received(self, flow_id: int, message: Message) -> None:
        """A peer's message: its request is owed an answer from now on, its answer ends our request.

        A request that nobody could answer (an ACK, a malformed one) is not remembered.
        """
        if message.is_request:
            if message.can_be_answered:
                self._served.remember(flow_id, message.transaction_key)
        else:
            self._answered(self._awaited, flow_id, message, message.client_key)
        self.touch(flow_id)

    def sent(self, flow_id: int, message: Message) -> None:
        """Our message, queued: the mirror image."""
        if not message.is_request:
            self._answered(self._served, flow_id, message, message.transaction_key)
        elif message.method != "ACK":
            self._awaited.remember(flow_id, message.client_key)
        self.touch(flow_id)

    def withdrawn(self, flow_id: int, message: Message) -> None:
        """Our message never went out: no answer to it will come."""
        if message.is_request:
            self._awaited.forget(flow_id, message.client_key)

    def touch(self, flow_id: int) -> None:
        """There was life."""
        hold = max(self._served.hold_of(flow_id), self._awaited.hold_of(flow_id))
        self.expiry.touch(flow_id, hold, self._state.now)

    def owes_answer(self, flow_id: int) -> bool:
        """Whether a request of the peer is open."""
        return bool(self._served.hold_of(flow_id))

    def flows_of_request(self, response: Message) -> tuple[int, ...]:
        """The flows on which the request of this response came."""
        return self._served.flows_of(response.transaction_key)

    def forget(self, flow_id: int) -> None:
        """The connection is gone."""
        self._served.forget_flow(flow_id)
        self._awaited.forget_flow(flow_id)
        self.expiry.remove(flow_id)

    @staticmethod
    def _answered(requests: Requests, flow_id: int, message: Message, key: object) -> None:
        requests.answered(flow_id, key, message.status, to_invite=message.method == "INVITE")
