"""One hostile peer, and the swarm of them: each runs a script, and one loop runs them all.

1. A script is a generator that yields the seconds it pauses; it ends by returning or by an `OSError`, and then
   the peer's socket is reset and another peer may begin.
2. Nothing blocks: what cannot be done now is tried again after a pause.
3. When the time is over nothing is closed: what a script has open stays open, silent, until the process ends.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .certificates import Certificates

Script = Generator[float, None, None]
_PAUSE = 0.02
_LOOK_AGAIN = 0.5
_ABORT = struct.pack("ii", 1, 0)
_ANSWER = b"SIP/2.0 "


class Gone(ConnectionError):
    """The server has ended the connection."""


@dataclass
class Siege:
    """What the attackers of one process share."""

    name: str
    targets: dict[str, tuple[str, int]]
    """By transport."""
    certificates: Certificates
    seconds: float
    seed: int = 0
    count: Counter[str] = field(default_factory=Counter)
    """What was done, for the report; `wrong`: what should never have come back."""
    ends_at: float = 0.0

    def __post_init__(self) -> None:
        self.ends_at = time.monotonic() + self.seconds
        self.random = random.Random(self.seed)
        # Only who looks at certificates is to refuse one; an attacker takes any.
        self.context = self.certificates.context(self.certificates.client, trusting=True)
        self.serials = itertools.count(1)

    @property
    def is_over(self) -> bool:
        """Whether the time has passed."""
        return time.monotonic() >= self.ends_at


class Peer:
    """One socket of an attacker."""

    def __init__(self, siege: Siege, transport: str, sources: int) -> None:
        self.siege = siege
        self.transport = transport
        self.serial = next(siege.serials)
        self.random = siege.random
        self.context = siege.context
        source = self.serial % sources + 1
        self.source = f"127.66.{source >> 8}.{source & 255}"
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        self.sock: socket.socket | ssl.SSLSocket = socket.socket(socket.AF_INET, kind)
        self.sock.settimeout(0.0)

    @property
    def mark(self) -> str:
        """Ids that nobody else uses."""
        return f"{self.siege.name}{self.serial}x{self.random.randrange(1 << 48):x}"

    @property
    def address(self) -> tuple[str, int]:
        """The server's, for this transport."""
        return self.siege.targets[self.transport]

    def connect(self) -> Script:
        """A connection, without TLS yet."""
        self.sock.bind((self.source, 0))
        with contextlib.suppress(BlockingIOError):
            self.sock.connect(self.address)
        if self.transport != "udp":
            while not self._is_connected():
                yield _PAUSE
        self.siege.count["connections"] += 1

    def open(self) -> Script:
        """A connection that can carry messages; over TLS with a valid certificate, if not changed before."""
        yield from self.connect()
        if self.transport == "tls":
            self.sock = self.context.wrap_socket(
                self.sock, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
            while not self._shake_hands():
                yield _PAUSE
            self.siege.count["handshakes"] += 1

    def push(self, data: bytes) -> int:
        """Send what can be sent at once; how much that was."""
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        self.siege.count["bytes"] += sent
        return sent

    def send(self, data: bytes) -> Script:
        """Send all of it."""
        while True:
            data = data[self.push(data) :]
            if not data:
                return
            yield _PAUSE

    def drip(self, data: bytes, pause: float, size: int = 1) -> Script:
        """Send it in small pieces."""
        for at in range(0, len(data), size):
            yield from self.send(data[at : at + size])
            yield pause
            self.take()

    def take(self, size: int = 65536) -> bytes:
        """What has come; raises `Gone` at the end of the stream."""
        try:
            data = self.sock.recv(size)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b""
        if not data and self.transport != "udp":
            raise Gone
        self.siege.count["answers"] += data.count(_ANSWER)
        return data

    def listen(self, seconds: float) -> Generator[float, None, bytes]:
        """What comes within that time, or before the end of the stream."""
        data, ends_at = b"", time.monotonic() + seconds
        with contextlib.suppress(OSError):
            while time.monotonic() < ends_at:
                data += self.take()
                yield _PAUSE
        return data

    def hold(self) -> Script:
        """Keep the connection until the server ends it."""
        while True:
            self.take()
            yield _LOOK_AGAIN

    def stay(self) -> Script:
        """Keep the connection, and read nothing."""
        while True:
            yield _LOOK_AGAIN

    def finish(self) -> None:
        """Send FIN, without any word of TLS."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End it with RST: no ports are used up by waiting."""
        with contextlib.suppress(OSError):
            if self.transport != "udp":
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self.sock.close()

    def _is_connected(self) -> bool:
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, "connect")
        try:
            self.sock.getpeername()
        except OSError:
            return False
        return True

    def _shake_hands(self) -> bool:
        assert isinstance(self.sock, ssl.SSLSocket)
        try:
            self.sock.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        return True


class Swarm:
    """All peers of an attack."""

    def __init__(
        self,
        siege: Siege,
        script: Callable[[Peer], Script],
        transports: tuple[str, ...],
        *,
        count: int,
        sources: int,
        rate: float,
    ) -> None:
        """`count` peers at a time, split between the transports; at most `rate` new ones a second."""
        self._siege = siege
        self._script = script
        self._sources = sources
        self._share = {name: max(1, count // len(transports)) for name in transports}
        if "udp" in self._share:
            self._share["udp"] = min(8, self._share["udp"])
        self._living: Counter[str] = Counter()
        self._due: list[tuple[float, int, Peer, Script]] = []
        self._rate = rate
        self._began_at = time.monotonic()
        self._begun = 0

    def run(self) -> None:
        """Attack until the time is over."""
        while not self._siege.is_over:
            self._begin_more()
            now = time.monotonic()
            while self._due and self._due[0][0] <= now and not self._siege.is_over:
                _, _, peer, script = heapq.heappop(self._due)
                self._advance(peer, script)
            time.sleep(0.001)

    def _begin_more(self) -> None:
        allowed = self._rate * (time.monotonic() - self._began_at) + 1 - self._begun
        for transport, share in self._share.items():
            while self._living[transport] < share and allowed >= 1:
                allowed -= 1
                self._begun += 1
                self._living[transport] += 1
                peer = Peer(self._siege, transport, self._sources)
                self._advance(peer, self._script(peer))

    def _advance(self, peer: Peer, script: Script) -> None:
        try:
            pause = next(script)
        except (StopIteration, OSError) as end:
            self._siege.count["refused" if isinstance(end, OSError) else "done"] += 1
            self._living[peer.transport] -= 1
            script.close()
            peer.reset()
        else:
            heapq.heappush(self._due, (time.monotonic() + pause, peer.serial, peer, script))
