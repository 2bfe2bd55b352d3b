"""Attacks by bytes: what no SIP stack should ever send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .registry import ALL, STREAMS, attack, throws
from .sip import request, response

if TYPE_CHECKING:
    import random

    from .peer import Peer, Script

_LENGTHS = ("0", "5", "500", "-1", "+5", "five", "", "5, 5", "0x5", "\xb2", "99999999999")
_OTHERS = (
    b"POST /sip HTTP/1.1\r\nHost: 127.0.0.1:5060\r\nContent-Length: 0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    bytes.fromhex("000100002112a442") + bytes(12),
    b"\x80\x00" + bytes(170),
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\x12\x34\x01\x00\x00\x01" + bytes(20),
    b"EHLO localhost\r\n",
    b"REGISTER",
)


@throws("garbage", ALL, "random bytes")
def garbage(rng: random.Random, _transport: str, _mark: str) -> bytes:
    """Of any length."""
    return rng.randbytes(rng.choice([1, 20, 1000, 30000]))


@throws("other-protocols", ALL, "HTTP, STUN, RTP, DNS, SSH and SMTP")
def other_protocols(rng: random.Random, _transport: str, _mark: str) -> bytes:
    """What finds the port by mistake, or is lured there."""
    return rng.choice(_OTHERS)


@throws("endless-start-line", ALL, "a start line that never ends")
def endless_start_line(_rng: random.Random, _transport: str, _mark: str) -> bytes:
    """Of what could be a method."""
    return b"OPTIONS sip:" + b"a" * 60000


@throws("endless-header", ALL, "a header line that never ends")
def endless_header(_rng: random.Random, transport: str, mark: str) -> bytes:
    """Of what could be a value."""
    return request(transport, mark)[:-4] + b"\r\nSubject: " + b"a" * 60000


@throws("header-bomb", ALL, "thousands of header lines")
def header_bomb(_rng: random.Random, transport: str, mark: str) -> bytes:
    """Small ones."""
    return request(transport, mark, lines=("a:",) * 4000)


@throws("via-bomb", ALL, "thousands of Via values in one line")
def via_bomb(_rng: random.Random, transport: str, mark: str) -> bytes:
    """Each of them could become an object."""
    return request(transport, mark, via=",SIP/2.0/UDP b" * 1000)


@throws("fold-bomb", ALL, "a header line folded thousands of times")
def fold_bomb(_rng: random.Random, transport: str, mark: str) -> bytes:
    """Each fold is one more line."""
    return request(transport, mark, lines=("Subject: a" + "\r\n " * 5000 + "b",))


@throws("spaces-bomb", ALL, "15,000 spaces where patterns like to search")
def spaces_bomb(rng: random.Random, transport: str, mark: str) -> bytes:
    """In the start line, behind a name, in a value."""
    spaces = " " * 15000
    return rng.choice(
        [
            request(transport, mark, uri="sip:a" + spaces + "b"),
            request(transport, mark, lines=(f"Subject{spaces}: a",)),
            request(transport, mark, lines=(f"Subject: a{spaces}b{spaces[:900]}",)),
            request(transport, mark, via=spaces + ";rport"),
            b"OPTIONS" + b" " * 60000 + b"sip:a SIP/2.0\r\n\r\n",
        ]
    )


@throws("length-giants", ALL, "Content-Length from 2**16 to 10**9000")
def length_giants(rng: random.Random, transport: str, mark: str) -> bytes:
    """Where numbers overflow, or take quadratic time."""
    giant = rng.choice(["65537", "2147483648", "4294967328", "1" + "0" * 400, "9" * 9000])
    return request(transport, mark, length=giant) + bytes(100)


@throws("length-nonsense", ALL, "Content-Length that is negative, empty, or no number")
def length_nonsense(rng: random.Random, transport: str, mark: str) -> bytes:
    """RFC 4475 section 3.1.2.3 and worse."""
    nonsense = rng.choice(["-1", "-99999999999", "five", " ", "5 5", "5;a=b", "0x5", "1_0", "5.0"])
    return request(transport, mark, length=nonsense) + bytes(5)


@throws("length-missing", STREAMS, "no Content-Length on a stream")
def length_missing(_rng: random.Random, transport: str, mark: str) -> bytes:
    """RFC 3261 section 18.3 wants one."""
    return request(transport, mark, length=None) + bytes(100)


@throws("length-lookalikes", ALL, "names that some take for Content-Length")
def length_lookalikes(rng: random.Random, transport: str, mark: str) -> bytes:
    """Control characters before the colon, and the like."""
    name = rng.choice(
        ["Content-Length\x01", "Content-Length\x0b", "\x00Content-Length", "Content-Length\xa0"]
    )
    return request(transport, mark, length=None, lines=(f"{name}: 5",)) + bytes(5)


@throws("bare-line-ends", ALL, "LF or CR alone where CRLF belongs")
def bare_line_ends(rng: random.Random, transport: str, mark: str) -> bytes:
    """Three stacks read these in three ways."""
    whole = request(transport, mark)
    return rng.choice(
        [
            whole.replace(b"\r\n", b"\n"),
            whole.replace(b"\r\n", b"\r"),
            whole.replace(b"\r\nTo", b"\nTo"),
            whole.replace(b"\r\nTo", b"\n\r\nTo"),
            whole.replace(b"\r\nTo", b"\rTo"),
        ]
    )


@throws("nul-bytes", ALL, "NUL in every place")
def nul_bytes(rng: random.Random, transport: str, mark: str) -> bytes:
    """Where C ends a text."""
    whole = bytearray(request(transport, mark, body=b"\0" * 10))
    for _ in range(rng.randrange(1, 4)):
        whole[rng.randrange(len(whole))] = 0
    return bytes(whole)


@attack(
    "malformed", ALL, "well framed messages with every defect, on lasting connections", count=40
)
def malformed(peer: Peer) -> Script:
    """What a connection is forgiven, a few times."""
    yield from peer.open()
    while True:
        whole = request(peer.transport, peer.mark)
        bad = peer.random.choice(
            [
                whole.replace(b" SIP/2.0\r\nVia", b" SIP/7.0\r\nVia"),
                whole.replace(b"OPTIONS sip", b"OPTIONS  sip", 1),
                whole.replace(b"Via: SIP/2.0", b"Via: SIP"),
                whole.replace(b"CSeq: 1", b"CSeq: 99999999999"),
                whole.replace(b" OPTIONS\r\n", b" INVITE\r\n"),
                whole.replace(b"Call-ID:", b"Call ID:"),
                whole.replace(b"Max-Forwards:", b"Max-Forwards"),
                response(peer.transport, peer.mark, 99),
            ]
        )
        yield from peer.send(bad)
        peer.take()
        yield 0.03


@attack(
    "length-pairs", ALL, "a request hidden behind every pair of two lengths", count=40, rate=200
)
def length_pairs(peer: Peer) -> Script:
    """Request smuggling: nothing that is hidden may be answered."""
    pairs = [(a, b) for a in _LENGTHS for b in _LENGTHS if a != b]
    names = ("Content-Length: ", "l: ", "Content-Length : ", "CONTENT-LENGTH:\r\n ")
    yield from peer.open()
    while True:
        first, second = peer.random.choice(pairs)
        hidden = request(peer.transport, f"smuggled{peer.mark}")
        lines = tuple(peer.random.choice(names) + value for value in (first, second))
        yield from peer.send(request(peer.transport, peer.mark, length=None, lines=lines) + hidden)
        answers = yield from peer.listen(0.2)
        peer.siege.count["wrong"] += answers.count(b"smuggled")
        if peer.transport != "udp":
            return


@attack("hidden-in-bodies", ALL, "requests inside the bodies of others", count=20)
def hidden_in_bodies(peer: Peer) -> Script:
    """With a true Content-Length; nothing that is hidden may be answered."""
    yield from peer.open()
    while True:
        hidden = request(peer.transport, f"smuggled{peer.mark}")
        yield from peer.send(request(peer.transport, peer.mark, body=b"\r\n\r\n" + hidden))
        answers = yield from peer.listen(0.1)
        peer.siege.count["wrong"] += answers.count(b"smuggled")


@attack("byte-by-byte", STREAMS, "good requests, one byte a segment, as fast as it goes", count=10)
def byte_by_byte(peer: Peer) -> Script:
    """Each byte wakes the server."""
    yield from peer.open()
    while True:
        for byte in request(peer.transport, peer.mark):
            yield from peer.send(bytes((byte,)))
        peer.take()
        yield 0.1


@attack("keepalive-storm", ALL, "line ends without end", count=20)
def keepalive_storm(peer: Peer) -> Script:
    """Each pair of them asks for a pong."""
    yield from peer.open()
    while True:
        yield from peer.send(b"\r\n" * peer.random.choice([1, 2, 2000]))
        peer.take()
        yield 0.02


@attack("pipelining", STREAMS, "10,000 requests in one breath", count=4, rate=2)
def pipelining(peer: Peer) -> Script:
    """And all answers are read."""
    yield from peer.open()
    many = b"".join(request(peer.transport, peer.mark, number=n) for n in range(10000))
    while many:
        many = many[peer.push(many[:65536]) :]
        peer.take()
        yield 0.001
    yield from peer.listen(2)


@attack("large-bodies", ALL, "bodies of 64 KiB, each answered", count=8)
def large_bodies(peer: Peer) -> Script:
    """As large as allowed."""
    yield from peer.open()
    size = 65000 if peer.transport == "udp" else 65536
    while True:
        yield from peer.send(request(peer.transport, peer.mark, body=bytes(size)))
        peer.take()
        yield 0.05


@attack("out-of-band", ("tcp",), "urgent data inside requests", count=20)
def out_of_band(peer: Peer) -> Script:
    """A byte that is not where it seems."""
    import socket

    yield from peer.open()
    while True:
        whole = request("tcp", peer.mark)
        yield from peer.send(whole[:50])
        peer.sock.send(b"!", socket.MSG_OOB)
        yield from peer.send(whole[50:])
        peer.take()
        yield 0.05
