"""The server under attack, as a process, and what the system says of it and its children.

1. Deadlines are made short (`SHORT`) so that what attackers leave behind must be cleaned up while one waits; they
   are longer than an attack, so no attacker is cut short before good clients have met it.
"""

from __future__ import annotations

import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sippool_core import Endpoint, PoolConfig

from .sip import request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .certificates import Certificates

ROOT = Path(__file__).resolve().parent.parent.parent
_START_SECONDS = 20.0
_KIB = 2**10
_CONNECTION_BYTES = 24 * _KIB
"""One connection's own records, and over TLS OpenSSL's buffers."""
SHORT = {
    "handshake_seconds": 6.0,
    "first_message_seconds": 6.0,
    "message_seconds": 6.0,
    "write_seconds": 6.0,
    "min_idle_seconds": 4.0,
    "max_idle_seconds": 6.0,
    "transaction_seconds": 6.0,
    "ringing_seconds": 6.0,
}


def memory_bound(config: PoolConfig) -> int:
    """Bytes that attacks may add at most: the formula of SECURITY.md, and what a connection itself takes."""
    limits = config.limits
    return (
        limits.max_partial_bytes
        + limits.max_connections * (limits.read_bytes + _CONNECTION_BYTES)
        + limits.max_queued_bytes_total
        + limits.max_event_bytes
        + limits.max_handshakes * 42 * _KIB
    )


def longest_deadline(config: PoolConfig) -> float:
    """Seconds after which nothing of a silent peer may be left, whatever it did before."""
    times = config.timeouts
    waits = (
        times.handshake_seconds + times.first_message_seconds,
        times.message_seconds,
        times.write_seconds,
        times.transaction_seconds + times.max_idle_seconds,
    )
    return max(waits) + times.close_seconds


@dataclass
class Usage:
    """What a process holds and has used."""

    cpu_seconds: float
    rss_bytes: int
    descriptors: int


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    targets: dict[str, tuple[str, int]]
    config: PoolConfig | None
    """What is known of its limits; `None` for somebody else's."""
    output: tempfile._TemporaryFileWrapper[bytes]
    started_at: float = field(default_factory=time.monotonic)

    @property
    def is_alive(self) -> bool:
        """Whether the process lives."""
        return self.process.poll() is None

    def complaints(self) -> str:
        """A traceback that it wrote, or nothing."""
        text = Path(self.output.name).read_text(errors="replace")
        return text[text.index("Traceback") :] if "Traceback" in text else ""

    def usage(self) -> Usage:
        """Of the process and its children; zeroes if it is dead."""
        total = Usage(0.0, 0, 0)
        for pid in _family(self.process.pid):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                descriptors = len(os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                continue
            total.cpu_seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            total.rss_bytes += int(fields[21]) * resource.getpagesize()
            total.descriptors += descriptors
        return total

    def stop(self) -> None:
        """End it, patiently first."""
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if self.is_alive:
                self.process.send_signal(number)
                try:
                    self.process.wait(1.0 if number == signal.SIGTERM else None)
                except subprocess.TimeoutExpired:
                    continue
        self.output.close()


def start_ours(
    adapter: str,
    certificates: Certificates,
    options: Sequence[str] = (),
    numbers: dict[str, float] | None = None,
) -> Server:
    """`sippool listen` on loopback ports of the system's choice; raises `RuntimeError` if it does not start."""
    numbers = SHORT if numbers is None else numbers
    command = [sys.executable, "-m", "sippool", "listen", "--quiet", "--adapter", adapter]
    command += [f"{transport}:127.0.0.1:0" for transport in ("udp", "tcp", "tls")]
    command += ["--tls-cert", str(certificates.server), "--tls-ca", str(certificates.ca)]
    for name, value in numbers.items():
        command += ["--set", f"{name}={value}"]
    server = _start([*command, *options], {}, PoolConfig().replace(**numbers))
    while len(server.targets) < 3:
        for line in Path(server.output.name).read_text().splitlines():
            if line.startswith("listening on "):
                at = Endpoint.parse(line.removeprefix("listening on "))
                server.targets[at.transport.value] = (at.address.host, at.address.port)
        _go_on(server)
    return server


def start_theirs(command: str, targets: dict[str, tuple[str, int]]) -> Server:
    """Somebody else's server, at fixed addresses; raises `RuntimeError` if it does not answer."""
    server = _start(shlex.split(command), targets, None)
    while not all(_answers(transport, at) for transport, at in targets.items()):
        _go_on(server)
    return server


def _start(
    command: list[str], targets: dict[str, tuple[str, int]], config: PoolConfig | None
) -> Server:
    output = tempfile.NamedTemporaryFile(prefix="attacked-")  # noqa: SIM115 - closed by `stop`
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    return Server(process, dict(targets), config, output)


def _go_on(server: Server) -> None:
    if not server.is_alive or time.monotonic() - server.started_at > _START_SECONDS:
        text = Path(server.output.name).read_text(errors="replace")
        server.stop()
        raise RuntimeError(f"the server does not start: {text[-2000:]}")
    time.sleep(0.02)


def _answers(transport: str, at: tuple[str, int]) -> bool:
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.settimeout(0.5)
        try:
            sock.connect(at)
            if transport == "udp":
                sock.send(request("udp", "hello"))
                sock.recv(65536)
        except OSError:
            return False
    return True


def _family(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                children = Path(f"/proc/{parent}/task/{task}/children").read_text()
                found.extend(int(child) for child in children.split())
        except OSError:
            continue
    return found
