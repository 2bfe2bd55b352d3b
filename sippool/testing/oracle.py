"""The laws of a pool, checked from outside while it runs: what it was told, what it did, what came of it.

1. A `Witness` watches one pool: every effect its core gives out, every event it makes, every send. It raises
   `LawBroken` at the first step at which a law is broken, with the law's number (see docs/testing.md).
2. It has books of its own and asks the pool's only to compare.
3. What has to do with time is in `patience`, with the pool's own tables in `recount`, with what the wires carry in
   `wires`.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sippool_core import (
    CloseConnection,
    ConnectionClosed,
    ConnectionOpened,
    Effect,
    Event,
    FramingFailed,
    MalformedReceived,
    Message,
    MessageReceived,
    OpenConnection,
    PauseAccepting,
    PauseReading,
    PingReceived,
    ResumeAccepting,
    ResumeReading,
    SendCancelled,
    SendCompleted,
    SendDatagram,
    SendFailed,
    SendFailure,
    ShutdownWriting,
    Target,
    Transport,
    WriteData,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sippool_core import Address, Flow, Outcome, PoolConfig
    from sippool_core.pool import Pool

    from .sockets import SimulatedSocket


class LawBroken(AssertionError):
    """A law of docs/testing.md does not hold."""


def require(law: str, holds: object, what: str) -> None:
    """Raise `LawBroken` unless it holds."""
    if not holds:
        raise LawBroken(f"{law}: {what}")


@dataclass
class Sending:
    """What was accepted for sending, and the ways that it may take."""

    message: bytes
    target: Target | None = None
    """As the caller wrote it."""
    flow: Flow | None = None
    """It must take this one, or fail: the flow that was asked for, or the one that the request came by."""
    is_open: bool = False
    """Whether this flow was open when the send was accepted."""


class Witness:
    """Watches one pool; `time` is what its deadlines are measured by."""

    def __init__(
        self, name: str, core: Pool, config: PoolConfig, time: Callable[[], float]
    ) -> None:
        self.name = name
        self.config = config
        self.core = core
        self.time = time
        self.sends: dict[int, Sending] = {}
        """By number."""
        self.outcomes: dict[int, Outcome] = {}
        self.datagrams: dict[int, SendDatagram] = {}
        """By the number of the send."""
        self.given: dict[int, bytearray] = defaultdict(bytearray)
        """All the bytes given to the adapter for each connection."""
        self.sockets: dict[int, SimulatedSocket] = {}
        """The socket of each connection, which is told by whoever knows it."""
        self.delivered: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
        """The Call-ID and the body's length of each message that came on a connection."""
        self.requests: dict[int, set[tuple[bytes, int]]] = defaultdict(set)
        """Call-ID and CSeq of each request, also of one that was refused, that came on a connection."""
        self.ended: dict[int, ConnectionClosed] = {}
        self.tls: set[int] = set()
        self.paused: set[int] = set()
        self.refusing: dict[int, int] = {}
        """The listeners that accept nobody, each with the number of its pause."""
        self.events = 0
        self.watchers: list[Callable[[Event, float], None]] = []
        """Told of each event, and when it was made."""
        self.write_watchers: list[Callable[[WriteData], None]] = []
        self._opened: set[int] = set()
        self._broken: set[int] = set()
        self._held: dict[int, set[int]] = defaultdict(set)
        """The datagrams that each socket has not taken yet."""
        self._dead: set[int] = set()
        self._last_completed: dict[int, int] = {}
        self._on_wire: dict[int, int] = defaultdict(int)
        self._pauses = itertools.count()
        self._taken = self._seen = self._messages = 0
        self._take_effect = core.next_effect
        self._take_event = core.next_event
        self._take_datagram = core.handle_datagram
        core.next_effect = self._next_effect  # type: ignore[method-assign]
        core.next_event = self._next_event  # type: ignore[method-assign]
        core.handle_datagram = self._handle_datagram  # type: ignore[method-assign]

    def heard(self, number: int) -> bool:
        """Whether a whole message came on this connection."""
        return number in self.delivered

    # What is sent.

    def accepted(self, number: int, sending: Sending) -> None:
        """A send was accepted; it may have ended at once."""
        self.sends[number] = sending
        outcome = self.outcomes.get(number)
        if outcome is not None:
            self._judge(sending, outcome)

    def _judge(self, sending: Sending, outcome: Outcome) -> None:
        """Whether it took the right way, and whether what is said to be sent is."""
        if isinstance(outcome, SendFailed) and outcome.reason is SendFailure.FLOW_FAILED:
            require("I11", not sending.is_open, "the way of an answer is there, and was not found")
        if not isinstance(outcome, SendCompleted):
            return
        flow, number = outcome.flow, outcome.send_id
        if sending.flow is not None:
            require("I11", flow.id == sending.flow.id, f"send {number} took another way")
        if flow.transport is Transport.UDP:
            datagram = self.datagrams[number]
            require("I3", datagram.data == sending.message, f"datagram {number} is altered")
            if sending.flow is not None:
                same = datagram.peer.host == sending.flow.peer.host
                require("I11", same or self.config.restrict_to, f"answer {number} went elsewhere")
        else:
            self._check_taken(flow, sending.message)
        if sending.target is not None and sending.flow is None:
            self._check_target(flow, sending.target)

    def _check_taken(self, flow: Flow, message: bytes) -> None:
        """I2: sent means that the kernel has the last byte."""
        sock = self.sockets[flow.id]
        if flow.transport is Transport.TLS:
            self._on_wire[flow.id] += len(message)
            whole = len(sock.sent_bytes) >= self._on_wire[flow.id]
        else:
            at = sock.sent_bytes.find(message, self._on_wire[flow.id])
            whole = at >= 0
            self._on_wire[flow.id] = at + len(message)
        require("I2", whole, f"something is called sent that is not, on {flow.id}")

    def _check_target(self, flow: Flow, target: Target) -> None:
        where: Address = target.address
        if self.config.restrict_to is not None:
            where = self.config.restrict_to.force(where)
        there = flow.transport is target.transport and flow.peer == where
        require("I11", there, f"what is for {where} went to {flow.peer}")
        if flow.transport is Transport.TLS:
            facts, wanted = flow.tls, target.server_name or where.host
            require("I12", facts is not None, "TLS without facts")
            if facts is not None:
                require("I12", facts.matched_identity == wanted, f"{wanted} was not verified")
                shown = str((facts.peer_certificate or {}).get("subjectAltName"))
                require("I12", f"'{wanted}'" in shown or f":{wanted}'" in shown, "a name not shown")

    # What it sees.

    def _next_effect(self) -> Effect | None:
        effect = self._take_effect()
        if effect is not None:
            self._saw(effect)
        return effect

    def _saw(self, effect: Effect) -> None:
        if isinstance(effect, (SendCompleted, SendFailed, SendCancelled)):
            self._saw_outcome(effect)
        elif isinstance(effect, SendDatagram):
            require("I1", effect.send_id not in self.datagrams, "a datagram is sent twice")
            self.datagrams[effect.send_id] = effect
            held = self._held[effect.listener_id]
            held.add(effect.send_id)
            most = self.config.limits.max_queued_messages
            require("I17", len(held) <= most, f"{len(held)} datagrams wait for one socket")
            self._check_place(effect.peer.host, "a datagram")
        elif isinstance(effect, OpenConnection):
            self._check_place(effect.peer.host, "a connection")
        elif isinstance(
            effect, (WriteData, CloseConnection, ShutdownWriting, PauseReading, ResumeReading)
        ):
            self._saw_command(effect)
        elif isinstance(effect, PauseAccepting):
            require("I29", effect.listener_id not in self.refusing, "a listener paused twice")
            self.refusing[effect.listener_id] = next(self._pauses)
        elif isinstance(effect, ResumeAccepting):
            require("I29", effect.listener_id in self.refusing, "a listener was not paused")
            del self.refusing[effect.listener_id]
        else:
            self.refusing.pop(effect.listener_id, None)

    def _saw_command(
        self,
        effect: WriteData | CloseConnection | ShutdownWriting | PauseReading | ResumeReading,
    ) -> None:
        number = effect.connection_id
        require("I8", number not in self._dead, f"{effect} after the end of {number}")
        if isinstance(effect, WriteData):
            require("I3", effect.data, "an empty write")
            self.given[number] += effect.data
            for watcher in self.write_watchers:
                watcher(effect)
        elif isinstance(effect, CloseConnection):
            self._dead.add(number)
            self.paused.discard(number)
        elif isinstance(effect, PauseReading):
            require("I29", number not in self.paused, "paused twice")
            self.paused.add(number)
        elif isinstance(effect, ResumeReading):
            require("I29", number in self.paused, "resumed, but not paused")
            self.paused.discard(number)

    def _saw_outcome(self, outcome: Outcome) -> None:
        number = outcome.send_id
        require("I1", number not in self.outcomes, f"send {number} ended twice")
        self.outcomes[number] = outcome
        if number in self.datagrams:
            self._held[self.datagrams[number].listener_id].discard(number)
        if isinstance(outcome, SendCompleted) and outcome.flow.transport is not Transport.UDP:
            last = self._last_completed.get(outcome.flow.id, 0)
            retried = self.core._state.stats.sends_retried
            require("I4", number > last or retried, f"send {number} overtook {last}")
            self._last_completed[outcome.flow.id] = number
        sending = self.sends.get(number)
        if sending is not None:
            self._judge(sending, outcome)

    def _handle_datagram(
        self,
        listener_id: int,
        data: bytes,
        source: Address,
        *,
        now: float,
        truncated: bool = False,
    ) -> None:
        inbox = self.core._state.inbox
        before = len(inbox) + inbox.discarded
        self._take_datagram(listener_id, data, source, now=now, truncated=truncated)
        made = len(inbox) + inbox.discarded - before
        require("I28", made <= 1, f"{made} events of one datagram")

    def _next_event(self) -> Event | None:
        self.look()
        event = self._take_event()
        if event is not None:
            self._taken += 1
        return event

    def look(self) -> None:
        """See the events that were made since the last look."""
        waiting = self.core._state.inbox._events
        fresh = self._taken + len(waiting) - self._seen
        if fresh:
            self._seen += fresh
            for event, _ in itertools.islice(waiting, len(waiting) - fresh, None):
                self.events += 1
                self._saw_event(event)
                for watcher in self.watchers:
                    watcher(event, self.time())

    def _saw_event(self, event: Event) -> None:
        if isinstance(event, MessageReceived):
            self._messages += 1
            self._check_place(event.flow.peer.host, "an event")
        flow: Flow | None = getattr(event, "flow", None)
        if flow is None or flow.transport is Transport.UDP:
            return
        number = flow.id
        if isinstance(event, (ConnectionOpened, ConnectionClosed, PingReceived)):
            require("I8", number not in self.ended, f"{type(event).__name__} after the end")
        if flow.transport is Transport.TLS:
            self.tls.add(number)
        if isinstance(event, ConnectionOpened):
            require("I8", number not in self._opened, f"{number} opened twice")
            self._opened.add(number)
            self._check_place(flow.peer.host, "a connection")
            require("I12", flow.tls or flow.transport is Transport.TCP, "TLS without facts")
        elif isinstance(event, ConnectionClosed):
            text = event.detail
            require("I30", text.isascii() and (text.isprintable()), f"the detail {text!r}")
            self.ended[number] = event
        elif isinstance(event, (MessageReceived, MalformedReceived, FramingFailed)):
            self._saw_message(event, number)

    def _saw_message(
        self, event: MessageReceived | MalformedReceived | FramingFailed, number: int
    ) -> None:
        kind = type(event).__name__
        require("I13", number in self._opened, f"{kind} before {number} opened")
        require("I8", number not in self.ended, f"{kind} after the end of {number}")
        require("I7", number not in self._broken, f"{kind} after the framing of {number} failed")
        message: Message | None = event.message
        if message is not None and message.is_request:
            self.requests[number].add((message.call_id, message.cseq_number))
        if isinstance(event, MessageReceived):
            self.delivered[number].append((event.message.call_id, len(event.message.body)))
        elif isinstance(event, FramingFailed):
            self._broken.add(number)

    def _check_place(self, host: str, what: str) -> None:
        restriction = self.config.restrict_to
        if restriction is not None:
            require("I14", host == restriction.host.host, f"{what} outside the restriction: {host}")

    # What must hold after every step.

    def check(self) -> None:
        """The laws about what the pool holds now."""
        self.look()
        stats, limits = self.core._state.stats, self.config.limits
        require(
            "I17",
            0 <= stats.partial_bytes <= limits.max_partial_bytes,
            f"{stats.partial_bytes} partial bytes",
        )
        # Records of TLS make bytes of their own; a pong is not refused for want of room.
        more = limits.max_queued_bytes if self.config.tls is not None else len(b"\r\n")
        most = limits.max_queued_bytes_total + stats.connections * more
        require("I17", 0 <= stats.queued_bytes <= most, f"{stats.queued_bytes} bytes queued")
        require(
            "I17", stats.connections <= limits.max_connections, f"{stats.connections} connections"
        )
        came = stats.connections_accepted + stats.connections_opened
        went = stats.connections_closed.total()
        require("I23", came == went + stats.connections, f"{came} connections came, {went} went")

    def check_end(self) -> None:
        """The laws about a pool that has closed and whose events are all taken."""
        stats = self.core.stats
        require(
            "I24", self.core.is_closed and self.core.next_deadline() is None, "it is not at rest"
        )
        held = (stats.connections, stats.queued_bytes, stats.partial_bytes, stats.events_waiting)
        require("I17", held == (0, 0, 0, 0), f"something is left: {held}")
        missing = set(self.sends) - set(self.outcomes)
        require("I1", not missing, f"sends without an outcome: {sorted(missing)[:5]}")
        require("I1", set(self.outcomes) <= set(self.sends), "an outcome of no send")
        require("I28", set(self.datagrams) <= set(self.sends), "a datagram that nobody sent")
        require(
            "I8",
            self._dead == set(self.ended),
            "a connection ended without its event, or the reverse",
        )
        counted = (
            stats.messages_received,
            stats.sends_completed,
            stats.sends_failed.total(),
            stats.sends_cancelled,
        )
        kinds = [type(outcome) for outcome in self.outcomes.values()]
        seen = (
            self._messages,
            kinds.count(SendCompleted),
            kinds.count(SendFailed),
            kinds.count(SendCancelled),
        )
        require("I23", counted == seen, f"counted {counted}, seen {seen}")
