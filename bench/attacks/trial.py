"""One attack on one server, from its start to its end: a row of the table, and the goals it misses.

1. Good clients warm up, the attack begins, and only what they ask during it counts.
2. Then they go away. The attackers hold their sockets open and say nothing: within its own deadlines the server
   must be at rest and have its descriptors back.
"""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from .crowd import Crowd
from .server import ROOT, Server, longest_deadline, memory_bound
from .sip import request

if TYPE_CHECKING:
    from collections.abc import Callable

    from .certificates import Certificates
    from .registry import Attack

WARM_UP_SECONDS = 0.7
QUIET_AFTER_SECONDS = 2.0
_SAMPLE_SECONDS = 0.1
_IDLE_WINDOW_SECONDS = 1.0
_MIB = 2**20
GOAL_SERVED_PERCENT = 99.0
GOAL_IDLE_CPU_PERCENT = 5.0
GOAL_RECOVERY_SECONDS = 1.0
DESCRIPTOR_LIMIT = "descriptor-limit"
_FOREIGN_DEADLINE_SECONDS = 30.0


@dataclass
class Row:
    """What one attack came to."""

    attack: str
    adapter: str
    served_percent: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    cpu_percent: float = 0.0
    idle_cpu_percent: float = 0.0
    rss_mib: float = 0.0
    rss_bound_mib: float | None = None
    descriptors_before: int = 0
    descriptors_peak: int = 0
    descriptors_after: int = 0
    back_seconds: float = 0.0
    """How long after the attack the descriptors were back."""
    wrong: int = 0
    asked: int = 0
    alive: bool = True
    missed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    attackers: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


class Sampler:
    """Looks at the server ten times a second."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._next_at = 0.0
        self.peak_rss = 0
        self.peak_descriptors = 0

    def look(self) -> None:
        """If it is time."""
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + _SAMPLE_SECONDS
            usage = self._server.usage()
            self.peak_rss = max(self.peak_rss, usage.rss_bytes)
            self.peak_descriptors = max(self.peak_descriptors, usage.descriptors)


class Attackers:
    """The process that attacks."""

    def __init__(
        self,
        name: str,
        transports: tuple[str, ...],
        server: Server,
        certificates: Certificates,
        seconds: float,
        seed: int,
    ) -> None:
        plan = {
            "name": name,
            "transports": transports,
            "targets": server.targets,
            "certificates": str(certificates.directory),
            "seconds": seconds,
            "seed": seed,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.attacks.attacker", json.dumps(plan)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None and self.process.stdin is not None
        self._output, self._input = self.process.stdout, self.process.stdin
        os.set_blocking(self._output.fileno(), False)
        self._text = b""
        self._ended = False

    def lines(self) -> list[bytes]:
        """The whole lines that it has written."""
        if not self._ended and select.select([self._output], [], [], 0)[0]:
            data = self._output.read() or b""
            self._ended = not data
            self._text += data
        return self._text.split(b"\n")[:-1]

    @property
    def has_begun(self) -> bool:
        """Whether the attack goes on, or has broken down."""
        return bool(self.lines()) or self._ended

    @property
    def is_done(self) -> bool:
        """Whether the attack is over."""
        return len(self.lines()) >= 2 or self._ended

    def end(self) -> dict[str, int] | None:
        """Let go of what it holds; returns what it did, `None` if it broke down."""
        lines = self.lines()
        self._input.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._output.close()
        return json.loads(lines[1]) if len(lines) >= 2 else None


def try_attack(
    attack: Attack,
    transports: tuple[str, ...],
    server: Server,
    certificates: Certificates,
    *,
    label: str,
    adapter: str,
    seconds: float,
    seed: int,
) -> Row:
    """Put the server under one attack."""
    row = Row(label, adapter)
    sampler = Sampler(server)
    base = server.usage()
    row.descriptors_before = base.descriptors
    context = certificates.context(certificates.client, trusting=server.config is None)
    crowd = Crowd(server.targets, context, any_status=server.config is None)
    attackers = None
    try:
        ready_at = time.monotonic() + WARM_UP_SECONDS
        crowd.run(lambda: time.monotonic() < ready_at, counted=False, every=sampler.look)
        attackers = Attackers(attack.name, transports, server, certificates, seconds, seed)
        crowd.run(lambda: not attackers.has_begun, counted=False, every=sampler.look)
        before, began_at = server.usage(), time.monotonic()
        ends_at = began_at + seconds
        crowd.run(lambda: time.monotonic() < ends_at, counted=True, every=sampler.look)
        row.cpu_percent = _cpu(before.cpu_seconds, server, began_at)
        over_at = time.monotonic()
        crowd.settle(sampler.look)
        _rest(row, server, sampler, attackers, base.descriptors, over_at)
    finally:
        report = attackers.end() if attackers is not None else None
        crowd.close()
    row.attackers = report or {}
    if report is None:
        row.missed.append("the attackers broke down")
    row.wrong += (report or {}).get("wrong", 0)
    _fill(row, crowd, server, sampler, base.rss_bytes)
    return row


def _rest(
    row: Row, server: Server, sampler: Sampler, attackers: Attackers, base: int, over_at: float
) -> None:
    """After the attack: the CPU at rest, and the descriptors."""
    _wait(
        lambda: time.monotonic() - over_at < QUIET_AFTER_SECONDS or not attackers.is_done, sampler
    )
    before, looked_at = server.usage(), time.monotonic()
    _wait(lambda: time.monotonic() - looked_at < _IDLE_WINDOW_SECONDS, sampler)
    row.idle_cpu_percent = _cpu(before.cpu_seconds, server, looked_at)
    known = server.config
    deadline = longest_deadline(known) if known is not None else _FOREIGN_DEADLINE_SECONDS
    _wait(
        lambda: server.usage().descriptors > base and time.monotonic() - over_at < deadline + 1,
        sampler,
    )
    row.descriptors_after = server.usage().descriptors
    row.back_seconds = time.monotonic() - over_at
    if row.descriptors_after > base:
        row.missed.append(f"{row.descriptors_after - base} descriptors after {deadline:.0f} s")


def _wait(condition: Callable[[], bool], sampler: Sampler) -> None:
    while condition():
        sampler.look()
        time.sleep(0.05)


def _cpu(before: float, server: Server, since: float) -> float:
    used = server.usage().cpu_seconds - before
    return 100 * max(0.0, used) / (time.monotonic() - since)


def _fill(row: Row, crowd: Crowd, server: Server, sampler: Sampler, base_rss: int) -> None:
    tally = crowd.tally
    row.asked = tally.due
    row.served_percent = 100 * tally.answered / max(1, tally.due)
    row.p50_ms, row.p99_ms = 1000 * tally.quantile(0.5), 1000 * tally.quantile(0.99)
    row.wrong += len(tally.wrong)
    row.notes += sorted(set(tally.wrong))[:5]
    row.notes += [f"lost: {count} {why}" for why, count in sorted(tally.lost_by.items())]
    row.rss_mib = sampler.peak_rss / _MIB
    row.descriptors_peak = sampler.peak_descriptors
    row.alive = server.is_alive
    if server.config is not None:
        row.rss_bound_mib = (base_rss + memory_bound(server.config)) / _MIB
    judge(row, server.complaints())


def judge(row: Row, complaints: str) -> None:
    """Which goals a row misses."""
    if not row.alive:
        row.missed.append("the process is dead")
    if complaints:
        row.missed.append("it wrote a traceback")
        row.notes.append(complaints[-500:])
    if row.served_percent < GOAL_SERVED_PERCENT:
        row.missed.append(f"only {row.served_percent:.1f} % served")
    if row.wrong:
        row.missed.append(f"{row.wrong} wrong answers")
    if row.rss_bound_mib is not None and row.rss_mib > row.rss_bound_mib:
        row.missed.append(f"{row.rss_mib:.0f} MiB, and {row.rss_bound_mib:.0f} are allowed")
    if row.idle_cpu_percent > GOAL_IDLE_CPU_PERCENT:
        row.missed.append(f"{row.idle_cpu_percent:.0f} % CPU at rest")


def try_descriptor_limit(server: Server, certificates: Certificates, adapter: str) -> Row:
    """No descriptor is left while connections wait: hardly any CPU, and within a second of release all is well."""
    row = Row(DESCRIPTOR_LIMIT, adapter)
    sampler = Sampler(server)
    base = server.usage()
    row.descriptors_before = base.descriptors
    pid = server.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (base.descriptors, hard))
    waiting = []
    try:
        for _ in range(20):
            waiting.append(socket.create_connection(server.targets["tcp"], 5))
            waiting[-1].sendall(request("tcp", "waiting"))
        time.sleep(0.5)
        before, began_at = server.usage().cpu_seconds, time.monotonic()
        _wait(lambda: time.monotonic() - began_at < 3, sampler)
        row.cpu_percent = row.idle_cpu_percent = _cpu(before, server, began_at)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        released_at = time.monotonic()
        for sock in waiting:
            sock.settimeout(5)
            sock.recv(65536)
        recovery = time.monotonic() - released_at
    finally:
        for sock in waiting:
            sock.close()
    row.notes.append(f"all 20 waiting answered {recovery:.2f} s after release")
    if recovery > GOAL_RECOVERY_SECONDS:
        row.missed.append(f"recovered only after {recovery:.1f} s")
    crowd = Crowd(server.targets, certificates.context(certificates.client), any_status=False)
    ends_at = time.monotonic() + 2
    crowd.run(lambda: time.monotonic() < ends_at, counted=True, every=sampler.look)
    over_at = time.monotonic()
    crowd.settle(sampler.look)
    _wait(
        lambda: server.usage().descriptors > base.descriptors and time.monotonic() < over_at + 5,
        sampler,
    )
    row.back_seconds = time.monotonic() - over_at
    row.descriptors_after = server.usage().descriptors
    crowd.close()
    _fill(row, crowd, server, sampler, base.rss_bytes)
    return row
