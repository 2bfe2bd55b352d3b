"""The TLS engine through its byte door: a real handshake whose bytes are cut, changed, lost and made up.

1. The peer is plain `ssl`. OpenSSL draws its keys itself, so the same example never has the same ciphertext twice:
   what is repeated by a seed is where and how it was changed.
2. Two engines cannot read one ciphertext, so "the same plaintext for any split" is: exactly what the peer wrote
   in the records before the first one that was changed, however it was cut.
"""

from __future__ import annotations

import functools
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import strategies as st

import sippool.testing
from fuzz import target
from sippool_core.config import TlsSettings
from sippool_core.tls import TlsContexts, TlsEngine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuzz.mutation import Mutator

CERTIFICATES = Path(sippool.testing.__file__).parent / "certificates"
NAME = "pool.test"
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
CHANGES = ("flip", "insert", "delete", "cut", "double", "replace")
MADE_UP = (
    b"",
    b"\x00",
    b"\x14\x03\x03\x00\x01\x01",  # change_cipher_spec, which TLS 1.3 ignores in a handshake
    b"\x15\x03\x03\x00\x02\x02\x28",
    b"\x15\x03\x03\x00\x02\x01\x00",
    b"\x16\x03\x03\x00\x04\x00\x00\x00\x00",  # HelloRequest
    b"\x16\x03\x01\xff\xff",
    b"\x17\x03\x03\x00\x00",
    b"\x17\x03\x03\x40\x11" + b"x" * 40,
    b"\x18\x03\x03\x00\x03\x01\x40\x00",  # heartbeat
    b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + b"2" * 40,  # an SSL 2.0 hello
    b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n",
)


@dataclass(frozen=True)
class Change:
    """One thing done to what the peer sends: in which flight (counted from 0), where, how, with what."""

    flight: int
    place: int
    kind: str
    made_up: bytes


@dataclass(frozen=True)
class Talk:
    """A handshake, and records behind it."""

    version: int
    server_side: bool
    """Whether the engine is the server."""
    piece: int
    """Bytes that are received at once; 0: all."""
    lengths: tuple[int, ...]
    """Bytes of each record that the peer writes."""
    changes: tuple[Change, ...]


def talk_of(data: bytes) -> Talk:
    """The byte door: four bytes for the talk, then five for each change."""
    head = data[:4].ljust(4, b"\0")
    changes = []
    for at in range(4, len(data) - 4, 5):
        flight, high, low, kind, made_up = data[at : at + 5]
        snippet = MADE_UP[made_up % len(MADE_UP)] if made_up < 200 else bytes((made_up, high, low))
        changes.append(Change(flight % 6, high << 8 | low, CHANGES[kind % len(CHANGES)], snippet))
    lengths = tuple((0, 1, 300, 5000)[head[3] >> shift & 3] for shift in (0, 2, 4))
    return Talk(head[0] & 1, bool(head[0] & 2), head[1], lengths, tuple(changes[:4]))


def some_talk(mutator: Mutator) -> bytes:
    """Nothing changed in a fifth of them; most are cut into some pieces."""
    rng = mutator.rng
    count = rng.choice((0, 1, 1, 1, 2))
    return (
        rng.randbytes(1)
        + bytes((rng.choice((0, 0, 1, rng.randrange(256))),))
        + rng.randbytes(2 + 5 * count)
    )


@functools.cache
def engine_contexts() -> TlsContexts:
    """Ours, in both roles."""
    return TlsContexts.build(
        TlsSettings(CERTIFICATES / "pool.pem", CERTIFICATES / "pool.key", CERTIFICATES / "ca.pem")
    )


@functools.cache
def peer_context(version: int, *, server_side: bool) -> ssl.SSLContext:
    """Plain `ssl`, of one version."""
    if server_side:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATES / "pool.pem", CERTIFICATES / "pool.key")
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(CERTIFICATES / "ca.pem")
        context.check_hostname = False
    context.minimum_version = context.maximum_version = VERSIONS[version]
    return context


class Peer:
    """The other side; what is done to it by a changed handshake does not matter."""

    def __init__(self, version: int, *, server_side: bool) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = peer_context(version, server_side=server_side).wrap_bio(
            self._incoming, self._outgoing, server_side=server_side
        )
        self.is_open = False

    def receive(self, data: bytes) -> None:
        """Go on with the handshake."""
        self._incoming.write(data)
        try:
            if not self.is_open:
                self._tls.do_handshake()
                self.is_open = True
            while self._tls.read():
                pass
        except ssl.SSLError:
            return

    def write(self, data: bytes) -> bytes:
        """One record with this in it, after whatever was not taken yet; nothing if the engine has said goodbye."""
        try:
            if data:
                self._tls.write(data)
        except ssl.SSLError:
            self.is_open = False
        return self.take_output()

    def take_output(self) -> bytes:
        """What is to be sent."""
        return self._outgoing.read()


class Wire:
    """Carries flights to the engine, changed and in pieces, and looks at what it says."""

    def __init__(self, talk: Talk) -> None:
        self.engine = TlsEngine(
            engine_contexts(),
            server_side=talk.server_side,
            reference=NAME,
            server_name=None if talk.server_side else NAME,
        )
        self.talk = talk
        self.flight = 0
        self.is_changed = False
        self.plaintext = b""

    def carry(self, data: bytes) -> None:
        """One flight."""
        for change in self.talk.changes:
            if change.flight == self.flight:
                changed = changed_by(data, change)
                self.is_changed = self.is_changed or changed != data
                data = changed
        self.flight += 1
        size = self.talk.piece or len(data) or 1
        for at in range(0, len(data), size):
            failed = self.engine.failure is not None
            got = b"".join(self.engine.receive(data[at : at + size]))
            assert not got or self.engine.facts is not None, "plaintext before the engine is open"
            assert not got or not failed, "plaintext after a failure"
            self.plaintext += got


def changed_by(data: bytes, change: Change) -> bytes:
    """The flight with a change in it."""
    at = change.place % (len(data) + 1)
    match change.kind:
        case "flip":
            return (
                data[:at]
                + bytes(byte ^ (1 << change.place % 8) for byte in data[at : at + 1])
                + data[at + 1 :]
            )
        case "insert":
            return data[:at] + change.made_up + data[at:]
        case "delete":
            return data[:at] + data[at + 1 + change.place % 7 :]
        case "cut":
            return data[:at]
        case "double":
            return data + data
        case _:
            return change.made_up


@st.composite
def talks(draw: st.DrawFn) -> Talk:
    """Any bytes are a talk."""
    return talk_of(draw(st.binary(min_size=4, max_size=19)))


@target(talks(), door=talk_of, generate=some_talk)
def tls(talk: Talk) -> Iterable[object]:
    """No ciphertext makes the engine raise, or say anything before it is open, or anything but what was written."""
    wire = Wire(talk)
    engine = wire.engine
    peer = Peer(talk.version, server_side=not talk.server_side)
    if not talk.server_side:
        engine.start()
    peer.receive(engine.take_output())
    for _ in range(4):
        wire.carry(peer.take_output())
        peer.receive(engine.take_output())
    was_open = engine.is_open
    if not wire.is_changed:
        assert was_open and peer.is_open, f"an honest handshake failed: {engine.failure_detail}"
    expected = b""
    for number, length in enumerate(talk.lengths):
        if not peer.is_open:
            break
        plaintext = bytes((65 + number,)) * length
        wire.carry(peer.write(plaintext))
        if was_open and not wire.is_changed:
            assert peer.is_open, "an honest talk ended"
            expected += plaintext
            assert wire.plaintext == expected, "what was written did not come, or not unchanged"
        peer.receive(engine.take_output())
    written = b"".join(bytes((65 + n,)) * length for n, length in enumerate(talk.lengths))
    assert written.startswith(wire.plaintext), "plaintext that nobody wrote"
    engine.receive_eof()
    engine.take_output()
    engine.close()
    assert not engine.is_open and not engine.receive(b"\x17\x03\x03\x00\x01x")
    state = "opened" if was_open else "never opened"
    return [state, engine.failure or "no failure", f"changed: {wire.is_changed}"]
