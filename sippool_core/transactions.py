"""Which requests are open on which flow: the memory that routes answers and holds connections.

1. A request's key belongs to the flow it came on. The same key alive on two flows is ambiguous, and is never
   guessed: otherwise a peer that repeats another's branch would get its answers.
2. A flow's memory is bounded; the oldest entry of that flow alone makes room. A retransmission takes no
   second place.
3. Only the owner's entries go when a flow goes.
"""

from __future__ import annotations

from collections.abc import Hashable

from .expiry import Hold

Key = Hashable


class OpenRequests:
    """Open requests of one direction: those we owe an answer to, or those whose answer we await."""

    def __init__(self, max_per_flow: int) -> None:
        self._max_per_flow = max_per_flow
        # For each flow its open keys, oldest first, each with what it does to the connection's life.
        self._open: dict[int, dict[Key, Hold]] = {}
        # For each key the flows on which it is alive, the first one first.
        self._flows: dict[Key, tuple[int, ...]] = {}

    def remember(self, flow_id: int, key: Key) -> None:
        """A request came (or went) on this flow."""
        keys = self._open.setdefault(flow_id, {})
        if key in keys:
            return
        if len(keys) >= self._max_per_flow:
            self._drop(flow_id, next(iter(keys)))
        keys[key] = Hold.OPEN
        self._flows[key] = (*self._flows.get(key, ()), flow_id)

    def answered(self, flow_id: int, key: Key, status: int, *, to_invite: bool) -> None:
        """An answer went (or came): a final one ends the request, 101 to 199 to an INVITE is ringing."""
        if status >= 200:
            self.forget(flow_id, key)
        elif to_invite and status > 100:
            keys = self._open.get(flow_id, {})
            if key in keys:
                keys[key] = Hold.RINGING

    def forget(self, flow_id: int, key: Key) -> None:
        """The request is over."""
        if key in self._open.get(flow_id, ()):
            self._drop(flow_id, key)

    def flows_of(self, key: Key) -> tuple[int, ...]:
        """The flows on which the request with this key is open, first come first."""
        return self._flows.get(key, ())

    def hold_of(self, flow_id: int) -> Hold:
        """How firmly the flow's open requests hold its connection."""
        keys = self._open.get(flow_id)
        return max(keys.values()) if keys else Hold.NONE

    def forget_flow(self, flow_id: int) -> None:
        """The flow is gone, and its entries with it; nobody else's."""
        for key in tuple(self._open.get(flow_id, ())):
            self._drop(flow_id, key)

    def _drop(self, flow_id: int, key: Key) -> None:
        keys = self._open[flow_id]
        del keys[key]
        if not keys:
            del self._open[flow_id]
        others = tuple(owner for owner in self._flows[key] if owner != flow_id)
        if others:
            self._flows[key] = others
        else:
            del self._flows[key]
