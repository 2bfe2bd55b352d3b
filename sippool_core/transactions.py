"""Which requests came or went on which flow: the memory that routes answers and holds connections.

1. A request's key belongs to the flow it came on. The same key on two flows is ambiguous, and is never guessed:
   otherwise a peer that repeats another's branch would get its answers.
2. A flow's memory is bounded; the oldest entry of that flow alone makes room, an answered one first. A
   retransmission takes no second place.
3. An answered request may stay in memory: its answer may have to be repeated, and must not go to whoever has
   taken the key meanwhile.
4. Only the owner's entries go when a flow goes.
"""

from __future__ import annotations

from collections.abc import Hashable

from .expiry import Hold

Key = Hashable


class _FlowRequests:
    """The requests of one flow, oldest first, each with what it does to the connection's life."""

    __slots__ = ("holds", "open", "ringing")

    def __init__(self) -> None:
        self.holds: dict[Key, Hold] = {}
        self.open = 0
        self.ringing = 0

    def change(self, key: Key, hold: Hold) -> None:
        """Note a request, or what has become of it."""
        self._count(self.holds.get(key, Hold.NONE), -1)
        self._count(hold, 1)
        self.holds[key] = hold

    def remove(self, key: Key) -> None:
        """Forget a request."""
        self._count(self.holds.pop(key), -1)

    def oldest(self) -> Key:
        """The one to make room: the first that is answered, or else the first."""
        for key, hold in self.holds.items():
            if hold is Hold.NONE:
                return key
        return next(iter(self.holds))

    def _count(self, hold: Hold, by: int) -> None:
        if hold is Hold.OPEN:
            self.open += by
        elif hold is Hold.RINGING:
            self.ringing += by


class Requests:
    """Requests of one direction: those we owe an answer to, or those whose answer we await."""

    def __init__(self, max_per_flow: int, *, keep_answered: bool) -> None:
        self._max_per_flow = max_per_flow
        self._keep_answered = keep_answered
        self._by_flow: dict[int, _FlowRequests] = {}
        # For each key the flows that know it, the first one first.
        self._flows: dict[Key, tuple[int, ...]] = {}

    def remember(self, flow_id: int, key: Key) -> None:
        """A request came (or went) on this flow."""
        requests = self._by_flow.get(flow_id)
        if requests is None:
            requests = self._by_flow[flow_id] = _FlowRequests()
        hold = requests.holds.get(key)
        if hold is None:
            if len(requests.holds) >= self._max_per_flow:
                self._drop(flow_id, requests.oldest())
                # The last one of a flow takes the flow's record with it.
                requests = self._by_flow.setdefault(flow_id, requests)
            self._flows[key] = (*self._flows.get(key, ()), flow_id)
        if not hold:
            requests.change(key, Hold.OPEN)

    def answered(self, flow_id: int, key: Key, status: int, *, to_invite: bool) -> None:
        """An answer went (or came): a final one ends the request, 101 to 199 to an INVITE is ringing."""
        requests = self._by_flow.get(flow_id)
        if requests is None or not requests.holds.get(key):
            return
        if status < 200:
            if to_invite and status > 100:
                requests.change(key, Hold.RINGING)
        elif self._keep_answered:
            requests.change(key, Hold.NONE)
        else:
            self._drop(flow_id, key)

    def forget(self, flow_id: int, key: Key) -> None:
        """The request never was."""
        requests = self._by_flow.get(flow_id)
        if requests is not None and key in requests.holds:
            self._drop(flow_id, key)

    def flows_of(self, key: Key) -> tuple[int, ...]:
        """The flows on which a request with this key came, first come first."""
        return self._flows.get(key, ())

    def hold_of(self, flow_id: int) -> Hold:
        """How firmly the flow's open requests hold its connection."""
        requests = self._by_flow.get(flow_id)
        if requests is None:
            return Hold.NONE
        if requests.ringing:
            return Hold.RINGING
        return Hold.OPEN if requests.open else Hold.NONE

    def forget_flow(self, flow_id: int) -> None:
        """The flow is gone, and its entries with it; nobody else's."""
        requests = self._by_flow.get(flow_id)
        if requests is not None:
            for key in tuple(requests.holds):
                self._drop(flow_id, key)

    def _drop(self, flow_id: int, key: Key) -> None:
        requests = self._by_flow[flow_id]
        requests.remove(key)
        if not requests.holds:
            del self._by_flow[flow_id]
        others = tuple(owner for owner in self._flows[key] if owner != flow_id)
        if others:
            self._flows[key] = others
        else:
            del self._flows[key]
