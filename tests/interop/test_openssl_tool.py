"""The TLS engine against OpenSSL's own `s_client`, for what Python's `ssl` cannot be told to do."""

from __future__ import annotations

import shutil
import socket
import subprocess

import pytest

from sippool_core.config import TlsSettings
from sippool_core.reasons import CloseReason
from tests.core.tls_rig import server_engine

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl command"),
]


class Tool:
    """`openssl s_client`, connected to an engine that this test pumps."""

    def __init__(self, settings, *options):
        self.engine = server_engine(settings)
        self.received = b""
        self.ciphertext_bytes = 0
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            self.process = subprocess.Popen(
                ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            listener.settimeout(20)
            self.socket, _ = listener.accept()
        self.socket.settimeout(20)

    def type(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def pump_until(self, done):
        """Carry bytes until `done()`; what the tool has sent is in `received`."""
        while not done():
            output = self.engine.take_output()
            if output:
                self.socket.sendall(output)
                continue
            data = self.socket.recv(65536)
            if not data:
                self.engine.receive_eof()
                assert done(), "the tool went away"
                return
            self.ciphertext_bytes += len(data)
            self.received += b"".join(self.engine.receive(data))
        self.socket.sendall(self.engine.take_output())

    def close(self):
        self.socket.close()
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.stdout.close()
        self.process.wait(20)


@pytest.fixture
def connect(server_certificate):
    made = []

    def connect(*options):
        tool = Tool(TlsSettings(server_certificate.certificate, server_certificate.key), *options)
        made.append(tool)
        tool.pump_until(lambda: tool.engine.is_open)
        return tool

    yield connect
    for tool in made:
        tool.close()


def test_key_update_in_both_directions(connect):
    tool = connect("-tls1_3")
    # "K": new keys for the tool, and the wish for new ones of ours.
    # The tool takes a command only where it is all that a read gives, so the text waits.
    before = tool.ciphertext_bytes
    tool.type(b"K\n")
    tool.pump_until(lambda: tool.ciphertext_bytes > before)
    tool.type(b"after it\n")
    tool.pump_until(lambda: b"after it\n" in tool.received)
    assert tool.engine.failure is None
    tool.engine.write(b"with our new keys\n")
    tool.engine.close()
    tool.socket.sendall(tool.engine.take_output())
    assert b"with our new keys\n" in tool.process.stdout.read()


def test_real_renegotiation_is_refused(connect):
    tool = connect("-tls1_2")
    tool.type(b"before it\n")
    tool.pump_until(lambda: b"before it\n" in tool.received)
    tool.type(b"R\n")
    tool.pump_until(lambda: tool.engine.failure is not None)
    assert tool.engine.failure is CloseReason.RENEGOTIATION
    assert tool.received == b"before it\n"
