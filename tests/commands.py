"""Starts `sippool` as a process of its own, the way users do, and talks to it from plain sockets.

Warnings are errors in these processes too, and whatever they write on standard error fails the test.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from sippool_core import Endpoint, Limits, StreamFramer

ROOT = Path(__file__).resolve().parent.parent
ADAPTERS = ("sync", "asyncio", "trio")
PATIENCE = 20


def python(*arguments, before=""):
    """The arguments of a Python of ours; `before` is shell text that runs first."""
    ours = [sys.executable, "-W", "error", *arguments]
    return ["sh", "-c", f'{before}; exec "$@"', "sh", *ours] if before else ours


def run_sippool(*arguments, before="", timeout=PATIENCE):
    """Run a subcommand to its end."""
    return subprocess.run(
        python("-m", "sippool", *arguments, before=before),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


class Listening:
    """A running `sippool listen`."""

    def __init__(self, *arguments, before=""):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `end`
        self.process = subprocess.Popen(
            python("-m", "sippool", "listen", *arguments, before=before),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.lines = []
        self.addresses = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        expected = sum(1 for text in arguments if text.startswith(("udp:", "tcp:", "tls:")))
        wait_until(lambda: len(self.addresses) >= expected or self.process.poll() is not None)
        if len(self.addresses) < expected:
            errors = self.end()
            raise AssertionError(f"it does not listen: {self.lines} {errors}")

    def _read(self):
        for raw in self.process.stdout:
            line = raw.rstrip("\n")
            if line.startswith("listening on "):
                endpoint = Endpoint.parse(line.removeprefix("listening on "))
                key = endpoint.transport.value + ("6" if endpoint.address.family == 6 else "")
                self.addresses[key] = (endpoint.address.host, endpoint.address.port)
            self.lines.append(line)

    def send_signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        """Signal it and wait; returns the lines of its summary. It must end well and without complaint."""
        self.send_signal(number)
        return self.finish()

    def finish(self):
        """Wait until it ends well, without complaint; returns the lines of its summary."""
        code = self.process.wait(PATIENCE)
        errors = self.end()
        assert (code, errors) == (0, ""), (code, errors, self.lines)
        start = next(i for i, line in enumerate(self.lines) if line.startswith("---"))
        return self.lines[start:]

    def end(self):
        """End it in any case; returns what it wrote on standard error."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self.process.stdout.close()
        if self._errors.closed:
            return ""
        self._errors.seek(0)
        errors = self._errors.read()
        self._errors.close()
        return errors


def wait_until(condition):
    """Look again and again, for `PATIENCE` seconds."""
    ends_at = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < ends_at:
        time.sleep(0.01)


def request(transport, *lines, method="OPTIONS", number=1, branch="1", uri="sip:test@127.0.0.1"):
    """A request with these header lines besides the necessary ones."""
    text = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/{transport} 127.0.0.1:5999;branch=z9hG4bK-{branch};rport",
        "Max-Forwards: 70",
        "From: <sip:a@127.0.0.1>;tag=from",
        "To: <sip:test@127.0.0.1>",
        "Call-ID: call@127.0.0.1",
        f"CSeq: {number} {method}",
        *lines,
        "Content-Length: 0",
    ]
    return ("\r\n".join(text) + "\r\n\r\n").encode()


class StreamPeer:
    """A client over TCP, or over TLS with a context."""

    def __init__(self, address, context=None, name=None):
        self.socket = socket.create_connection(address, PATIENCE)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname=name)
        self._framer = StreamFramer(Limits())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """The next message, or `None` at the end of the stream."""
        while (event := self._framer.next_event()) is None:
            data = self.socket.recv(65536)
            if not data:
                return None
            self._framer.receive(data)
        return event


def datagram_peer(address, source="127.0.0.1"):
    """A UDP socket that is connected to `address`."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    peer = socket.socket(family, socket.SOCK_DGRAM)
    peer.bind(("::1" if family == socket.AF_INET6 else source, 0))
    peer.settimeout(PATIENCE)
    peer.connect(address)
    return peer
