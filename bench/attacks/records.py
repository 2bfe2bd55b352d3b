"""Attacks on TLS itself: records, alerts, certificates, renegotiation and KeyUpdate.

Python's TLS can neither renegotiate nor send a KeyUpdate, so the `openssl` program does.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import TYPE_CHECKING

from .registry import Attack, add, attack, throws
from .sip import request

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from .peer import Peer, Script, Siege

_PROGRAMS = 6


@throws("tls-on-tcp", ("tcp",), "a TLS ClientHello on the TCP port")
def tls_on_tcp(_rng: random.Random, _transport: str, _mark: str) -> bytes:
    """Whole."""
    return bytes.fromhex("16030100f8010000f40303") + bytes(237)


def _raw(name: str, description: str, make: Callable[[Peer], bytes]) -> None:
    """Bytes on the TLS port before any handshake."""

    @attack(name, ("tls",), description, rate=200)
    def script(peer: Peer) -> Script:
        yield from peer.connect()
        yield from peer.send(make(peer))
        yield from peer.listen(0.3)


_raw(
    "sip-on-tls",
    "plain SIP on the TLS port",
    lambda peer: request("tls", peer.mark),
)
_raw(
    "huge-records",
    "TLS records of 64 KiB",
    lambda peer: b"\x16\x03\x01\xff\xff" + peer.random.randbytes(65535),
)
_raw(
    "endless-hello",
    "a ClientHello of 64 KiB, in full records",
    lambda _peer: (b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xff" + bytes(16380)) * 4,
)
_raw(
    "empty-records",
    "thousands of empty TLS records",
    lambda _peer: b"\x16\x03\x01\x00\x00" * 3000,
)
_raw(
    "alert-storm",
    "thousands of TLS warnings",
    lambda _peer: b"\x15\x03\x01\x00\x02\x01\x00" * 3000,
)
_raw(
    "early-data",
    "application data before any handshake",
    lambda peer: b"\x17\x03\x03\x01\x00" + peer.random.randbytes(256),
)


@attack("tiny-records", ("tls",), "requests with a TLS record for each byte", count=20)
def tiny_records(peer: Peer) -> Script:
    """Each costs 22 bytes and a decryption."""
    yield from peer.open()
    while True:
        for byte in request("tls", peer.mark):
            yield from peer.send(bytes((byte,)))
        peer.take()
        yield 0.2


@attack("broken-records", ("tls",), "garbage behind a whole handshake", rate=60)
def broken_records(peer: Peer) -> Script:
    """Below TLS, on the bare socket."""
    import socket

    yield from peer.open()
    with socket.socket(fileno=socket.dup(peer.sock.fileno())) as bare:
        bare.send(b"\x17\x03\x03\x00\x40" + peer.random.randbytes(64))
    yield from peer.listen(0.3)


@attack(
    "client-certificates",
    ("tls",),
    "none, another CA's, expired, not yet valid, a CA's own",
    rate=60,
    options=("--verify-client", "required"),
)
def client_certificates(peer: Peer) -> Script:
    """Not one request of theirs may be answered."""
    certificates = peer.siege.certificates
    shown = peer.random.choice([None, *certificates.wrong])
    peer.context = certificates.context(shown, trusting=True)
    yield from peer.open()
    peer.push(request("tls", peer.mark))
    answers = yield from peer.listen(0.3)
    peer.siege.count["wrong"] += answers.count(b"SIP/2.0 200")


def _keys(siege: Siege, version: str, key: bytes) -> None:
    """`openssl s_client`s whose interactive command is given again and again: one a read, or it is text."""
    host, port = siege.targets["tls"]
    command = ["openssl", "s_client", "-connect", f"{host}:{port}", version]
    programs: list[subprocess.Popen[bytes]] = []
    try:
        while not siege.is_over:
            programs = [program for program in programs if not _has_ended(program)]
            if len(programs) < _PROGRAMS:
                programs.append(_start(command))
                siege.count["connections"] += 1
            time.sleep(0.002)
            for program in programs:
                assert program.stdin is not None
                with contextlib.suppress(OSError):
                    program.stdin.write(key)
                    program.stdin.flush()
                    siege.count["keys"] += 1
    finally:
        for program in programs:
            program.kill()
            program.wait()
            _has_ended(program)


def _has_ended(program: subprocess.Popen[bytes]) -> bool:
    assert program.stdin is not None
    if program.poll() is None:
        return False
    with contextlib.suppress(OSError):
        program.stdin.close()
    return True


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


add(
    Attack(
        "renegotiation",
        ("tls",),
        "TLS 1.2 clients that ask to renegotiate, again and again",
        lambda siege, _chosen: _keys(siege, "-tls1_2", b"R\n"),
        needs="openssl",
    )
)
add(
    Attack(
        "key-updates",
        ("tls",),
        "TLS 1.3 KeyUpdate requests without end",
        lambda siege, _chosen: _keys(siege, "-tls1_3", b"K\n"),
        needs="openssl",
    )
)
