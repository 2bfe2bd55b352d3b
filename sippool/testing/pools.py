"""A pool on a simulated network: the real core and the real driver, with an application that misbehaves.

1. The driver performs the core's commands on simulated sockets exactly as `sippool_sync` does on real ones; only
   the waiting is missing, for time is the schedule's.
2. What the application does with each event is drawn from the schedule's random source.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sippool_core import (
    AmbiguousTransaction,
    Event,
    FramingFailed,
    InvalidMessage,
    MalformedReceived,
    MessageReceived,
    NoRoute,
    PoolClosed,
    QueueFull,
    SippoolError,
)
from sippool_sync import BaseOutcome, BasePool, Driver, listen_at_all

from .hosts import SimulatedSockets
from .messages import response
from .oracle import Sending, Witness, require
from .patience import Patience
from .phases import phase_of
from .recount import Recount
from .sockets import SimulatedSocket

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from sippool_core import Flow, PoolConfig, Target
    from sippool_sync import Socket
    from sippool_sync.stream import Stream

    from .network import SimulatedNetwork

MAX_KEPT = 50
_RECOUNT_EVERY = 4


class ApplicationError(Exception):
    """What a careless application raises in its handler."""


class SimulatedPool(BasePool[BaseOutcome]):
    """One pool, its host, its witness and its application."""

    def __init__(
        self,
        network: SimulatedNetwork,
        rng: random.Random,
        host: str,
        config: PoolConfig,
        *listen_at: str,
        pulls: bool,
    ) -> None:
        self.host = host
        self.network = network
        self.rng = rng
        self.clock_offset = 0.0
        self.leapt_seconds = 0.0
        """What the clock has jumped forward, in all."""
        self.layer = SimulatedSockets(network, host)
        handler = None if pulls else self.handle
        driver = Driver(config, handler=handler, sockets=self.layer, clock=self.read_clock)
        super().__init__(driver, BaseOutcome)
        self.driver = driver
        self._add_stream = driver.add_stream
        driver.add_stream = self._note_stream  # type: ignore[method-assign]
        self.witness = Witness(host, driver.core, config, self.read_time)
        self.patience = Patience(self.witness)
        self.recount = Recount(driver.core, config)
        self.witness.write_watchers.append(self.recount.look_at_write)
        self.flows: list[Flow] = []
        self.held: list[BaseOutcome] = []
        self.asked: set[bytes] = set()
        """The Call-IDs of our requests."""
        self.trace: Callable[[str], None] = _nothing
        self.errors = 0
        self.has_stepped = False
        """Whether anything may have changed since the laws were looked at."""
        self._settled = 0
        listen_at_all(driver, listen_at)

    def read_clock(self) -> float:
        """The host's own clock, which may jump."""
        return self.network.now + self.clock_offset

    def read_time(self) -> float:
        """What deadlines are measured by: jumps back cost nobody anything."""
        return self.network.now + self.leapt_seconds

    def jump(self, seconds: float) -> None:
        """The host's clock jumps; a wait lasts as long as it was meant to, so the next step comes in time."""
        if seconds > 0:
            self.leapt_seconds += seconds
            self.patience.leap()
        else:
            self.patience.lose()
        self.clock_offset += seconds
        self.step()

    # Driving.

    def has_work(self) -> bool:
        """Whether a step would do something now."""
        if self.driver.is_shut:
            return False
        deadline = self.driver.next_deadline()
        is_due = deadline is not None and deadline <= self.read_clock()
        return is_due or self.layer.selector.has_ready()

    def step(self) -> None:
        """One step, and then the laws."""
        self.driver.step()
        self.has_stepped = True
        self.witness.check()
        if self.driver.is_finished and not self.driver.has_event():
            self.driver.shut()

    def settle(self) -> None:
        """The laws about a pool that has done all that can be done now."""
        self.has_stepped = False
        if not self.driver.is_shut:
            self.patience.settle(self.read_time())
            self._settled += 1
            if self._settled % _RECOUNT_EVERY == 0:
                self.recount()

    def next_at(self) -> float | None:
        """When a step is needed, in the network's time."""
        deadline = None if self.driver.is_shut else self.driver.next_deadline()
        if deadline is None:
            return None
        at = deadline - self.clock_offset
        # Rounding must not wake the pool a hair before its own clock says so.
        while at + self.clock_offset < deadline:
            at = math.nextafter(at, math.inf)
        return at

    def close_now(self) -> None:
        """Begin to close."""
        self.driver.core.close(now=self.driver.enter())
        self.driver.perform()

    # The application.

    def ask(self, message: bytes, target: Target | None, flow: Flow | None = None) -> None:
        """Send, and hold the outcome or let go of it; refusals are the application's to live with."""
        try:
            outcome = self.send(message, target, flow=flow)
        except (SippoolError, BlockingIOError) as error:
            self.trace(f"refused {type(error).__name__}")
            return
        self._note(outcome, Sending(message, target, flow))
        self.trace(f"send {outcome.send_id}")

    def answer(
        self, received: MessageReceived | MalformedReceived | FramingFailed, status: int
    ) -> None:
        """Reply, as far as that can be done; sometimes as a stack that has kept nothing but the message."""
        message, flow = received.message, received.flow
        if message is None or not message.can_be_answered:
            return
        body = b"x" * self.rng.choice([0, 0, 10, 2000])
        answer = response(message, status, body=body)
        is_open = self.is_open(flow)
        forgetful = self.rng.random() < 0.5 and is_open and self.patience.remembers(flow.id)
        try:
            outcome = self.send(answer) if forgetful else self.reply(received, answer)
        except (AmbiguousTransaction, InvalidMessage, NoRoute, PoolClosed, QueueFull) as error:
            self.trace(f"refused {type(error).__name__}")
            return
        if status >= 200:
            self.patience.answered(flow.id, message)
        self._note(outcome, Sending(answer, None, flow, is_open))
        self.trace(f"reply {outcome.send_id}")

    def is_open(self, flow: Flow) -> bool:
        """Whether it is a connection that carries answers."""
        connection = self.driver.core._streams.connections.get(flow.id)
        return connection is not None and connection.phase.value == "open"

    def take(self, count: int) -> None:
        """Take events, in a pool without a handler."""
        for _ in range(count):
            event = self.driver.next_event()
            if event is None:
                return
            self.handle(event)

    def handle(self, event: Event) -> None:
        """What the application does about an event."""
        self.trace(type(event).__name__)
        flow = getattr(event, "flow", None)
        if flow is not None:
            self.flows = [*self.flows[-MAX_KEPT:], flow]
        if not isinstance(event, (MessageReceived, MalformedReceived, FramingFailed)):
            return
        if isinstance(event, MessageReceived) and not event.message.is_request:
            mine = event.message.call_id in self.asked
            require(
                "I11", mine or event.message.call_id.startswith(b"evil"), "somebody else's answer"
            )
            return
        self._serve(event)

    def _serve(self, event: MessageReceived | MalformedReceived | FramingFailed) -> None:
        mood = self.rng.random()
        if mood < 0.55:
            self.answer(event, 200)
        elif mood < 0.75:
            self.answer(event, 180)
            self.network.call_later(self.rng.uniform(0, 40), lambda: self._answer_late(event))
        elif mood < 0.83:
            self.network.call_later(self.rng.uniform(0, 5), lambda: self._answer_late(event))
        elif mood < 0.88:
            self.answer(event, 200)
            self.answer(event, 200)
        elif mood < 0.92 and self.driver.handler is not None:
            self.errors += 1
            raise ApplicationError
        elif mood < 0.925:
            self.close_now()

    def _answer_late(self, event: MessageReceived | MalformedReceived | FramingFailed) -> None:
        if not self.driver.is_shut:
            self.answer(event, 200)

    def _note_stream(self, sock: Socket, connection_id: int) -> Stream:
        """Let the socket know which connection it is, for the account of faults by phase."""
        if isinstance(sock, SimulatedSocket):
            self.witness.sockets[connection_id] = sock
            connections = self.driver.core._streams.connections
            sock.phase = lambda: phase_of(connections.get(connection_id))
        return self._add_stream(sock, connection_id)

    def _note(self, outcome: BaseOutcome, sending: Sending) -> None:
        self.witness.accepted(outcome.send_id, sending)
        if self.rng.random() < 0.5:
            self.held = [*self.held[-MAX_KEPT:], outcome]


def _nothing(_: str) -> None:
    """Nobody listens."""
