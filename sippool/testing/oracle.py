"""The laws of a pool, checked from outside while it runs: what it was told, what it did, what came of it.

1. A `Witness` watches one pool: every effect its core gives out, every event its application takes, every send.
   It raises `LawBroken` at the first step at which a law is broken, with the law's number (see docs/testing.md).
2. It has books of its own and asks the pool's only to compare.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from sippool_core import (
    CloseConnection,
    ConnectionClosed,
    ConnectionOpened,
    Effect,
    Event,
    FramingFailed,
    Limits,
    MalformedReceived,
    Message,
    MessageReceived,
    PauseReading,
    Ping,
    PingReceived,
    ResumeReading,
    SendCancelled,
    SendCompleted,
    SendDatagram,
    SendFailed,
    ShutdownWriting,
    StreamFramer,
    Transport,
    WriteData,
)

if TYPE_CHECKING:
    from sippool_core import Flow, PoolConfig
    from sippool_core.pool import Pool


class LawBroken(AssertionError):
    """A law of docs/testing.md does not hold."""


def require(law: str, holds: object, what: str) -> None:
    """Raise `LawBroken` unless it holds."""
    if not holds:
        raise LawBroken(f"{law}: {what}")


class Witness:
    """Watches one pool."""

    def __init__(self, name: str, core: Pool, config: PoolConfig) -> None:
        self.name = name
        self.config = config
        self.core = core
        self.sends: dict[int, bytes] = {}
        """What was accepted for sending, by number."""
        self.outcomes: dict[int, SendCompleted | SendFailed | SendCancelled] = {}
        self.replies: dict[int, Flow] = {}
        """The flow that each reply has to take."""
        self.given: dict[int, bytearray] = defaultdict(bytearray)
        """All the bytes given to the adapter for each connection."""
        self.delivered: dict[int, list[bytes]] = defaultdict(list)
        """The Call-ID of each message that came on a connection."""
        self.opened: set[int] = set()
        self.ended: dict[int, ConnectionClosed] = {}
        self.tls: set[int] = set()
        self.events = 0
        self._dead: set[int] = set()
        self._paused: set[int] = set()
        self._last_completed: dict[int, int] = {}
        self._take_effect = core.next_effect
        self._take_event = core.next_event
        core.next_effect = self._next_effect  # type: ignore[method-assign]
        core.next_event = self._next_event  # type: ignore[method-assign]

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
            self._check_place(effect.peer.host, "a datagram")
        elif isinstance(
            effect, (WriteData, CloseConnection, ShutdownWriting, PauseReading, ResumeReading)
        ):
            number = effect.connection_id
            require("I8", number not in self._dead, f"{effect} after the end of {number}")
            if isinstance(effect, WriteData):
                require("I3", effect.data, "an empty write")
                self.given[number] += effect.data
            elif isinstance(effect, CloseConnection):
                self._dead.add(number)
            elif isinstance(effect, PauseReading):
                require("I29", number not in self._paused, "paused twice")
                self._paused.add(number)
            elif isinstance(effect, ResumeReading):
                require("I29", number in self._paused, "resumed, but not paused")
                self._paused.discard(number)

    def _saw_outcome(self, outcome: SendCompleted | SendFailed | SendCancelled) -> None:
        number = outcome.send_id
        require("I1", number not in self.outcomes, f"send {number} ended twice")
        self.outcomes[number] = outcome
        if isinstance(outcome, SendCompleted):
            flow = self.replies.get(number)
            if flow is not None:
                require("I11", outcome.flow.id == flow.id, f"answer {number} took another way")
            if outcome.flow.transport is not Transport.UDP:
                last = self._last_completed.get(outcome.flow.id, 0)
                retried = self.core.stats.sends_retried
                require("I4", number > last or retried, f"send {number} overtook {last}")
                self._last_completed[outcome.flow.id] = number

    def _next_event(self) -> Event | None:
        event = self._take_event()
        if event is not None:
            self.events += 1
            self._saw_event(event)
        return event

    def _saw_event(self, event: Event) -> None:
        flow: Flow | None = getattr(event, "flow", None)
        if flow is None or flow.transport is Transport.UDP:
            if isinstance(event, MessageReceived):
                self._check_place(event.flow.peer.host, "an event")
            return
        if isinstance(
            event,
            (ConnectionOpened, ConnectionClosed, MessageReceived, MalformedReceived, PingReceived),
        ):
            require(
                "I8",
                flow.id not in self.ended,
                f"{type(event).__name__} after the end of {flow.id}",
            )
        if flow.transport is Transport.TLS:
            self.tls.add(flow.id)
        if isinstance(event, ConnectionOpened):
            require("I8", flow.id not in self.opened, f"{flow.id} opened twice")
            self.opened.add(flow.id)
            self._check_place(flow.peer.host, "a connection")
            if flow.transport is Transport.TLS:
                require("I12", flow.tls is not None, "TLS without facts")
        elif isinstance(event, ConnectionClosed):
            self.ended[flow.id] = event
        elif isinstance(event, (MessageReceived, MalformedReceived, FramingFailed)):
            require("I13", flow.id in self.opened, f"a message before {flow.id} opened")
            if isinstance(event, MessageReceived):
                self.delivered[flow.id].append(event.message.call_id)

    def _check_place(self, host: str, what: str) -> None:
        restriction = self.config.restrict_to
        if restriction is not None:
            require("I14", host == restriction.host.host, f"{what} outside the restriction: {host}")

    # What must hold after every step.

    def check(self, now: float) -> None:
        """The laws about what the pool holds now."""
        stats, limits = self.core.stats, self.config.limits
        require(
            "I17",
            0 <= stats.partial_bytes <= limits.max_partial_bytes,
            f"{stats.partial_bytes} partial bytes",
        )
        most = limits.max_queued_bytes_total + stats.connections * limits.max_queued_bytes
        require("I17", 0 <= stats.queued_bytes <= most, f"{stats.queued_bytes} bytes queued")
        require(
            "I17", stats.connections <= limits.max_connections, f"{stats.connections} connections"
        )
        came = stats.connections_accepted + stats.connections_opened
        went = stats.connections_closed.total()
        require("I23", came == went + stats.connections, f"{came} connections came, {went} went")
        if stats.events_waiting > limits.max_events:
            # Only facts that must not be lost come on top, and each connection has few of them.
            require("I29", stats.events_waiting <= limits.max_events + 4 * came, "the inbox grows")

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
        require(
            "I8",
            self._dead == set(self.ended),
            "a connection ended without its event, or the reverse",
        )
        for number, data in self.given.items():
            if number in self.tls:
                require("I13", b"SIP/2.0" not in data, f"plain bytes on TLS connection {number}")
            else:
                self._check_stream(number, bytes(data))

    def _check_stream(self, number: int, data: bytes) -> None:
        """I3: whole messages one after another, at most the last one cut."""
        framer = StreamFramer(Limits())
        framer.receive(data)
        known = set(self.sends.values())
        while (piece := framer.next_event()) is not None:
            if isinstance(piece, Message):
                require("I3", piece.raw in known, f"connection {number} carries what nobody sent")
            else:
                # Between messages there are pongs, and nothing else.
                require(
                    "I3", isinstance(piece, Ping), f"connection {number} is cut wrongly: {piece}"
                )
        rest = data[len(data) - framer.buffered_bytes :]
        whole = not rest or rest == b"\r" or any(raw.startswith(rest) for raw in known)
        require("I3", whole, f"connection {number} ends in what nobody sent")


def messages_of(data: bytes, config: PoolConfig) -> list[bytes]:
    """The Call-IDs of the messages that a pool with these limits must find in a stream, read as a whole."""
    framer = StreamFramer(config.limits)
    framer.receive(data)
    found = []
    while (piece := framer.next_event()) is not None:
        if isinstance(piece, Message):
            found.append(piece.call_id)
    return found
