"""A network that is only memory: virtual time, what is on its way, and what goes wrong.

1. One thread, one seed: nothing here reads a clock, or draws from anything but the `random.Random` it was given.
2. Faults come from a `Faults` object, each with its own probability, and every one that strikes is counted.
3. Sockets are in `sockets`, and one host's share of them in `hosts`: that is what a pool is given.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from .hosts import SimulatedSockets
    from .sockets import SimulatedSocket

_FIRST_EPHEMERAL_PORT = 32768


@dataclass
class Faults:
    """How often what goes wrong, as probabilities of one event; all zero: a perfect network."""

    latency_seconds: tuple[float, float] = (0.001, 0.02)
    """Between which bounds one way takes."""
    capacity_bytes: int = 65536
    """Bytes one direction of a stream holds before its sender must wait."""
    partial_read: float = 0.0
    partial_write: float = 0.0
    would_block: float = 0.0
    """A read or write that could do something does nothing."""
    datagram_lost: float = 0.0
    datagram_doubled: float = 0.0
    connect_refused: float = 0.0
    connect_silent: float = 0.0
    """No answer at all."""
    connect_slow_seconds: float = 0.0
    """How much later than usual a connect may be answered."""
    reset: float = 0.0
    """A stream is reset while bytes are on their way."""
    accept_error: float = 0.0
    read_error: float = 0.0
    write_error: float = 0.0
    open_error: float = 0.0
    """Want of descriptors at a socket's making."""
    peer_gone_before_accept: float = 0.0
    """Connect and RST before anybody accepted."""


class SimulatedNetwork:
    """Virtual time, and everything that is on its way."""

    def __init__(self, rng: random.Random, faults: Faults | None = None) -> None:
        self.rng = rng
        self.faults = faults or Faults()
        self.now = 1000.0
        self.struck: Counter[str] = Counter()
        """How often each fault has struck."""
        self.layers: list[SimulatedSockets] = []
        """The hosts, in the order they were made."""
        self.bound: dict[tuple[int, str, int], SimulatedSocket] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count(1)
        self._ports = itertools.count(_FIRST_EPHEMERAL_PORT)

    def clock(self) -> float:
        """The time, as pools on this network see it."""
        return self.now

    def call_later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something when that much virtual time has passed."""
        heapq.heappush(self._agenda, (self.now + seconds, next(self._serial), action))

    def next_at(self) -> float | None:
        """When the next thing on its way arrives."""
        return self._agenda[0][0] if self._agenda else None

    def advance_to(self, instant: float) -> None:
        """Let time pass, and arrive what is due by then."""
        while self._agenda and self._agenda[0][0] <= instant:
            at, _, action = heapq.heappop(self._agenda)
            self.now = max(self.now, at)
            action()
        self.now = max(self.now, instant)

    def strikes(self, fault: str, phase: str = "") -> bool:
        """Whether this fault strikes now; counted, with the phase of the connection it strikes, if it does."""
        probability = getattr(self.faults, fault)
        if probability and self.rng.random() < probability:
            self.count(fault, phase)
            return True
        return False

    def count(self, fault: str, phase: str = "") -> None:
        """A fault has struck."""
        self.struck[fault] += 1
        if phase:
            self.struck[f"{fault} / {phase}"] += 1

    def latency(self) -> float:
        """How long one way takes, this time."""
        return self.rng.uniform(*self.faults.latency_seconds)

    def ephemeral_port(self) -> int:
        """A port that nobody has or had."""
        return next(self._ports) % 65536 or self.ephemeral_port()
