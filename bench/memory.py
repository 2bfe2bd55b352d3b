"""`python -m bench.memory`: what the worst that connections can do costs a server, beside the formula.

A `sippool listen` of its own process holds N connections in their worst state, one state after another; its RSS is read
from the kernel before and after. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import contextlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trustme

from sippool_core import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEAD = (
    b"MESSAGE sip:a SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bKa\r\nFrom: <sip:a@a>;tag=a\r\nTo: <sip:b@b>\r\n"
    b"Call-ID: %d\r\nCSeq: 1 MESSAGE\r\nContent-Length: %d\r\n\r\n"
)
KIB = 1024
MIB = 1024 * KIB
_PATIENCE_SECONDS = 60.0
_MOST_THAT_NEVER_READ = 100


class Server:
    """A server in a process of its own."""

    def __init__(self, directory: Path, connections: int) -> None:
        ca = trustme.CA()
        certificate = ca.issue_cert("127.0.0.1")
        chain, key = directory / "server.pem", directory / "server.key"
        certificate.cert_chain_pems[0].write_to_path(str(chain))
        certificate.private_key_pem.write_to_path(str(key))
        self.trust = ssl.create_default_context()
        ca.configure_trust(self.trust)
        numbers = {
            "max_connections": connections + 8,
            "max_connections_per_source": connections + 8,
            "first_message_seconds": 600,
            "message_seconds": 600,
            "write_seconds": 600,
            "min_idle_seconds": 600,
            "max_idle_seconds": 600,
        }
        settings = [
            text for name, number in numbers.items() for text in ("--set", f"{name}={number}")
        ]
        command = [sys.executable, "-m", "sippool", "listen", "tcp:127.0.0.1:0", "tls:127.0.0.1:0"]
        command += ["--quiet", "--tls-cert", str(chain), "--tls-key", str(key), *settings]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.ports: list[int] = []
        while len(self.ports) < 2:
            self.ports += map(
                int, re.findall(r"127\.0\.0\.1:(\d+)", self.process.stdout.readline())
            )

    def rss(self) -> int:
        """Bytes in memory, when they have come to rest."""
        last, now = -1, self._rss()
        ends_at = time.monotonic() + _PATIENCE_SECONDS
        while last != now and time.monotonic() < ends_at:
            time.sleep(0.5)
            last, now = now, self._rss()
        return now

    def _rss(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * KIB

    def stop(self) -> None:
        """End it at once."""
        self.process.send_signal(signal.SIGTERM)
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)


def connect(port: int) -> socket.socket:
    """A plain connection."""
    return socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_SECONDS)


def idle_tcp(server: Server, number: int) -> socket.socket:
    """One message, then silence."""
    sock = connect(server.ports[0])
    sock.sendall(HEAD % (number, 0))
    sock.recv(4096)
    return sock


def idle_tls(server: Server, number: int) -> socket.socket:
    """The same over TLS."""
    sock = server.trust.wrap_socket(connect(server.ports[1]), server_hostname="127.0.0.1")
    sock.sendall(HEAD % (number, 0))
    sock.recv(4096)
    return sock


def half_message(server: Server, number: int) -> socket.socket:
    """A message as large as may be, all but its last byte."""
    limits = Limits()
    sock = connect(server.ports[0])
    head = HEAD % (number, limits.max_body_bytes)
    padding = b"X: %b\r\n" % (b"x" * 8000)
    head = head.replace(b"Content-Length", padding + b"Content-Length")
    sock.sendall(head + bytes(limits.max_body_bytes - 1))
    return sock


def never_reads(server: Server, number: int) -> socket.socket:
    """Requests without end, and no answer is ever read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", server.ports[0]))
    sock.settimeout(0.2)
    with contextlib.suppress(OSError):
        for _ in range(1000):  # some megabytes: the kernels' own buffers are to be full first
            sock.sendall(HEAD.replace(b"MESSAGE", b"OPTIONS") % (number, 0) * 100)
    return sock


def silent_tls(server: Server, number: int) -> socket.socket:
    """Connects to TLS, and says nothing."""
    return connect(server.ports[1])


STATES: dict[str, tuple[Callable[[Server, int], socket.socket], str]] = {
    "idle TCP": (idle_tcp, "a record, an open framer"),
    "idle TLS": (idle_tls, "18 KiB of OpenSSL each"),
    "half a message": (half_message, "32 MiB of unfinished messages in all, then the oldest goes"),
    "never reads": (never_reads, "256 KiB a connection, 16 MiB in all"),
    "silent TLS": (silent_tls, "64 handshakes of 42 KiB"),
}


@contextlib.contextmanager
def crowd(server: Server, state: str, count: int) -> Iterator[None]:
    """That many connections in that state."""
    make = STATES[state][0]
    sockets = [make(server, number) for number in range(count)]
    try:
        yield
    finally:
        for sock in sockets:
            sock.close()


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.memory", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--connections", type=int, default=1000, help="in each state (1000)")
    options = parser.parse_args(arguments)
    print(f"{options.connections} connections in their worst state, each state in a fresh server")
    print(f"{'state':16} {'before':>9} {'after':>9} {'grew':>9} {'each':>9}  bound by")
    for state, (make, bound) in STATES.items():
        with tempfile.TemporaryDirectory() as directory:
            server = Server(Path(directory), options.connections)
            try:
                count = options.connections
                if make is never_reads:
                    count = min(count, _MOST_THAT_NEVER_READ)  # each sends megabytes
                before = server.rss()
                with crowd(server, state, count):
                    after = server.rss()
            finally:
                server.stop()
        grew = after - before
        each = grew / count / KIB
        print(
            f"{state:16} {before / MIB:6.1f} MiB {after / MIB:6.1f} MiB {grew / MIB:6.1f} MiB {each:5.1f} KiB  {bound}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
