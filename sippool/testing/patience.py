"""How long everything has waited, by a clock of its own: nothing outlasts its deadline, nothing is cut before it.

1. At each instant of virtual time, when all pools have come to rest, every wait is looked at: a connection that is
   connecting, a half message, a write that nobody takes. The same wait as at the last instant is so much older.
2. Time is the network's, and what the host's clock has jumped forward. A jump back costs nobody a deadline, but a
   pool may lose the moment in which it happened (`lose`).
3. A wait for the peer stands still while we do not read from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from sippool_core import CloseReason, ConnectionClosed, MalformedReceived, Message, WriteData

from .oracle import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sippool_core import Event, PoolConfig
    from sippool_core.connection import Connection
    from sippool_core.pool import Pool

    from .oracle import Witness

Wait: TypeAlias = "tuple[str, object, float, bool]"
"""What is waited for, which one of these, for how long at most, and whether it stands still while we do not read."""

_HAIR = 1e-6
_OWES_NOTHING = {
    CloseReason.EXPIRED,
    CloseReason.CLOSED_BY_PEER,
    CloseReason.TRUNCATED,
    CloseReason.UNCLEAN_TLS_CLOSE,
}
"""Ends in good order: no request is open then that may still be answered."""


@dataclass
class _Life:
    """What is known of one connection."""

    ages: dict[str, tuple[object, float]] = field(default_factory=dict)
    paused: bool = False
    said: int = 0
    """How often either side has said something."""
    progress: int = 0
    """How often a write has begun or got on."""
    unwritten: int = 0
    messages: int = 0
    carried: bool = False
    """Whether a message came or went, so that a request may hold it."""
    asked: dict[object, float] = field(default_factory=dict)
    """The peer's requests without a final answer, and when each came."""
    malformed: list[float] = field(default_factory=list)
    """When each malformed message came."""
    keys: set[object] = field(default_factory=set)


class Patience:
    """The waits of one pool."""

    def __init__(self, witness: Witness) -> None:
        self._core: Pool = witness.core
        self._config: PoolConfig = witness.config
        self._timeouts = witness.config.timeouts
        self._witness = witness
        self._now = witness.time()
        self._slack = _HAIR
        self._lives: dict[int, _Life] = {}
        self._handled_data = self._core.handle_data
        self._handled_written = self._core.handle_written
        self._handled_timer = self._core.handle_timer
        self._told_at = self._now
        """When the core has last been told the time, for sure."""
        self._core.handle_timer = self._handle_timer  # type: ignore[method-assign]
        self._core.handle_data = self._handle_data  # type: ignore[method-assign]
        self._core.handle_written = self._handle_written  # type: ignore[method-assign]
        witness.watchers.append(self._saw_event)
        witness.write_watchers.append(self._saw_write)
        self._asleep: dict[int, tuple[int, float]] = {}

    def lose(self) -> None:
        """The clock steps back: the pool cannot know how much of the time since it was last told has passed."""
        self._slack += self._witness.time() - self._told_at

    def leap(self) -> None:
        """The clock jumps forward: what was held for a request is idle only now."""
        for life in self._lives.values():
            if life.carried:
                life.ages.pop("idleness", None)

    # What it sees.

    def _life(self, number: int) -> _Life:
        return self._lives.setdefault(number, _Life())

    def _handle_timer(self, *, now: float) -> None:
        self._told_at = self._witness.time()
        self._handled_timer(now=now)

    def _handle_data(self, connection_id: int, data: bytes, *, now: float) -> None:
        self._told_at = self._witness.time()
        self._life(connection_id).said += 1
        self._handled_data(connection_id, data, now=now)

    def _handle_written(self, connection_id: int, count: int, *, now: float) -> None:
        life = self._life(connection_id)
        life.unwritten -= count
        life.progress += 1
        life.said += 1
        self._handled_written(connection_id, count, now=now)

    def _saw_write(self, effect: WriteData) -> None:
        life = self._life(effect.connection_id)
        require("I3", not life.unwritten, f"two writes at once on {effect.connection_id}")
        life.unwritten += len(effect.data)
        life.progress += 1
        life.said += 1
        life.carried = life.carried or len(effect.data) > len(b"\r\n")

    def _saw_event(self, event: Event, at: float) -> None:
        """An event was made; perhaps it is not taken yet."""
        flow = getattr(event, "flow", None)
        if flow is None or not flow.transport.is_stream:
            return
        message: Message | None = getattr(event, "message", None)
        if message is not None:
            life = self._life(flow.id)
            life.messages += 1
            life.carried = True
            if isinstance(event, MalformedReceived):
                self._check_malformed(life, at)
            if message.can_be_answered:
                life.asked[message.transaction_key] = at
                life.keys.add(message.transaction_key)
        elif isinstance(event, ConnectionClosed):
            life = self._lives.pop(flow.id, _Life())
            in_order = event.reason in _OWES_NOTHING or (
                event.reason is CloseReason.EVICTED and self._witness.heard(flow.id)
            )
            if in_order and life.asked:
                self._check_owed(event, life, at)

    def _check_malformed(self, life: _Life, at: float) -> None:
        """I17: so many malformed messages in one span as two of the pool's spans may have, and the last of each."""
        life.malformed.append(at)
        most = 2 * (self._config.limits.max_malformed + 1)
        recent = life.malformed[-most - 1 :]
        span = at - recent[0]
        crowded = len(recent) > most and span < self._timeouts.malformed_window_seconds
        require("I17", not crowded, f"{len(recent)} malformed messages in {span:.3f} s")

    def answered(self, flow_id: int, answer: Message) -> None:
        """A final answer was accepted."""
        life = self._lives.get(flow_id)
        if life is not None:
            life.asked.pop(answer.transaction_key, None)

    def remembers(self, flow_id: int) -> bool:
        """Whether so few requests came on this flow that the pool must know them all."""
        life = self._lives.get(flow_id)
        return life is not None and len(life.keys) <= self._config.limits.max_open_requests

    def _check_owed(self, closed: ConnectionClosed, life: _Life, at: float) -> None:
        """I15: an answer is waited for."""
        if len(life.keys) > self._config.limits.max_open_requests:
            return  # the pool may have forgotten some of them
        # The last bytes may have taken `close_seconds` more.
        waited = at - max(life.asked.values()) + self._slack
        least = self._timeouts.transaction_seconds
        require("I15", waited >= least, f"{closed.reason} {waited:.3f} s after a request")

    # What must hold.

    def settle(self, now: float) -> None:
        """Everything that could be done now is done: is anything overdue?"""
        passed, self._now = now - self._now, now
        connections = self._core._streams.connections
        waiting = any(one.phase.value == "waiting" for one in connections.values())
        opened = sum(1 for one in connections.values() if one.phase.value == "open")
        for number, connection in connections.items():
            life = self._life(number)
            before = 0.0 if life.paused else passed
            ages: dict[str, tuple[object, float]] = {}
            for what, which, most, stands_still in self._waits(connection, life, opened):
                known = life.ages.get(what)
                age = 0.0
                if known is not None and known[0] == which:
                    age = known[1] + (before if stands_still else passed)
                ages[what] = (which, age)
                if what != "a flight" or waiting:
                    overdue = age - most
                    require(
                        "L", overdue < self._slack, f"{what} of {number} is {overdue:.3f} s late"
                    )
            life.ages = ages
            life.paused = connection.paused
            self._check_socket(connection, life)
        self._check_wakes(connections, passed, waiting=waiting)

    def _waits(self, connection: Connection, life: _Life, opened: int) -> Iterator[Wait]:
        timeouts = self._timeouts
        phase = connection.phase.value
        if life.unwritten > 0:
            yield "a write", life.progress, timeouts.write_seconds, False
        if phase == "connecting":
            yield "connecting", None, timeouts.connect_seconds, False
        elif phase == "handshaking":
            yield "a handshake", None, timeouts.handshake_seconds, False
            if not connection.outbound:
                yield "a flight", life.said, timeouts.handshake_stall_seconds, False
        elif phase == "closing":
            yield "a close", None, timeouts.close_seconds, False
        elif phase == "open" and connection.half_closed_for is not None:
            yield "a half-closed peer", None, timeouts.transaction_seconds, False
        elif phase == "open":
            if not connection.outbound and not self._witness.heard(connection.id):
                yield "a first message", None, timeouts.first_message_seconds, True
            if connection.framer.in_message:
                yield "a message", life.messages, timeouts.message_seconds, True
            elif not connection.paused and life.unwritten <= 0:
                yield "idleness", (life.said, life.messages), self._idle(life, opened), False

    def _idle(self, life: _Life, opened: int) -> float:
        timeouts = self._timeouts
        spread = timeouts.max_idle_seconds - timeouts.min_idle_seconds
        span = timeouts.min_idle_seconds + spread / max(1, opened)
        return span + (timeouts.ringing_seconds if life.carried else 0.0)

    def _check_socket(self, connection: Connection, life: _Life) -> None:
        """I29: what can be written is written, what can be read is read."""
        sock = self._witness.sockets.get(connection.id)
        if sock is None or connection.phase.value == "connecting":
            return
        idle = life.unwritten > 0 and sock.is_writable
        require("I29", not idle, f"nobody writes to {connection.id} again")
        reads = connection.phase.value == "open" and not (connection.paused or connection.eof)
        require("I29", not (reads and sock.is_readable), f"nobody reads {connection.id}")

    def _check_wakes(
        self, connections: dict[int, Connection], passed: float, *, waiting: bool
    ) -> None:
        """I29: nothing waits for what is there."""
        shaking = sum(
            1
            for one in connections.values()
            if one.phase.value == "handshaking" and not one.outbound
        )
        limits = self._config.limits
        require("I29", not waiting or shaking >= limits.max_handshakes, "a place is not taken")
        if self._core._state.inbox:
            self._asleep.clear()
            return
        # One that waits for its handshake is not read yet, one that closes need not be read any more.
        asleep = [
            number
            for number in self._witness.paused
            if connections[number].phase.value not in ("waiting", "closing")
        ]
        require("I29", not asleep, f"nobody reads {asleep[:3]} again")
        before, self._asleep = self._asleep, {}
        for number, serial in self._witness.refusing.items():
            known = before.get(number)
            age = known[1] + passed if known is not None and known[0] == serial else 0.0
            self._asleep[number] = (serial, age)
            overdue = age - self._timeouts.accept_retry_max_seconds
            require("I29", overdue < self._slack, f"listener {number} sleeps for ever")
