"""Attacks by patience: too slow, silent, greedy, or gone at the wrong moment."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

from .registry import STREAMS, attack
from .sip import request

if TYPE_CHECKING:
    from .peer import Peer, Script

_HELLO = bytes.fromhex("16030100f8010000f40303") + bytes(range(32)) + b"\x00"


@attack("slow-header", STREAMS, "a header, a byte each tenth of a second", count=200, sources=4)
def slow_header(peer: Peer) -> Script:
    """Slowloris."""
    yield from peer.open()
    yield from peer.drip(request(peer.transport, peer.mark), 0.1)


@attack("slow-body", STREAMS, "a body, a byte each tenth of a second", count=200, sources=4)
def slow_body(peer: Peer) -> Script:
    """Slowloris, one phase later."""
    yield from peer.open()
    whole = request(peer.transport, peer.mark, body=bytes(1000))
    yield from peer.send(whole[:-1000])
    yield from peer.drip(whole[-1000:], 0.1)


@attack("slow-handshake", ("tls",), "a ClientHello, a byte each tenth of a second", count=200)
def slow_handshake(peer: Peer) -> Script:
    """A handshake that always goes on."""
    yield from peer.connect()
    yield from peer.drip(_HELLO + bytes(200), 0.1)


@attack("stalled-handshake", ("tls",), "a ClientHello, and then silence", count=200, sources=4)
def stalled_handshake(peer: Peer) -> Script:
    """The server has answered, and waits. Who is sent away comes again."""
    outgoing = ssl.MemoryBIO()
    client = peer.context.wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    yield from peer.connect()
    yield from peer.send(outgoing.read())
    yield from peer.hold()


@attack(
    "handshake-queue",
    ("tls",),
    "900 of these from 4 addresses: all places taken, and a long queue for them",
    count=900,
    sources=4,
    rate=1500,
)
def handshake_queue(peer: Peer) -> Script:
    """Too few to fill the pool, so nobody has to go; good newcomers stand at the end of the queue."""
    yield from stalled_handshake(peer)


@attack("silent", STREAMS, "400 connections of one source that say nothing", count=400)
def silent(peer: Peer) -> Script:
    """Over the cap of one source."""
    yield from peer.connect()
    yield from peer.hold()


@attack(
    "silent-many-sources",
    STREAMS,
    "1,500 silent connections from 300 addresses",
    count=1500,
    sources=300,
    rate=1500,
)
def silent_many(peer: Peer) -> Script:
    """Over the cap of the pool."""
    yield from peer.connect()
    yield from peer.hold()


@attack(
    "talkers",
    STREAMS,
    "1,500 connections from 8 addresses, one request on each, then idle",
    count=1500,
    sources=8,
    rate=1000,
)
def talkers(peer: Peer) -> Script:
    """They have proved to be SIP, and hold the places that the pool has."""
    yield from peer.open()
    yield from peer.send(request(peer.transport, peer.mark))
    yield from peer.hold()


@attack(
    "talkers-churn",
    ("tcp",),
    "2,000 from 8 addresses that speak at once and come again when they are sent away",
    count=2000,
    sources=8,
    rate=3000,
)
def talkers_churn(peer: Peer) -> Script:
    """A full pool, and always a newcomer for whom somebody must go: not the good clients in their handshakes."""
    yield from peer.connect()
    yield from peer.send(request("tcp", peer.mark))
    yield 0.2
    yield from peer.hold()


@attack(
    "open-requests",
    STREAMS,
    "600 connections from 3 addresses, each owed an answer for a minute",
    count=600,
    sources=3,
)
def open_requests(peer: Peer) -> Script:
    """Requests that hold their connections."""
    yield from peer.open()
    for number in range(20):
        yield from peer.send(
            request(peer.transport, peer.mark, number=number, lines=("X-Delay: 60000",))
        )
    yield from peer.hold()


@attack(
    "unfinished-bodies",
    STREAMS,
    "800 bodies of 64 KiB, each short of its last byte",
    count=800,
    sources=8,
)
def unfinished_bodies(peer: Peer) -> Script:
    """More unfinished bytes than the pool holds of all connections."""
    yield from peer.open()
    yield from peer.send(request(peer.transport, peer.mark, body=bytes(65536))[:-1])
    yield from peer.hold()


@attack("connect-and-finish", STREAMS, "connections that end at once with FIN", rate=2000)
def connect_and_finish(peer: Peer) -> Script:
    """Churn."""
    yield from peer.connect()
    peer.finish()
    yield from peer.listen(0.1)


@attack("connect-and-reset", STREAMS, "connections that end at once with RST", rate=5000)
def connect_and_reset(peer: Peer) -> Script:
    """Gone before anybody asks who it was."""
    yield from peer.connect()


def _some_phase(peer: Peer) -> Script:
    """Come to a random phase of a connection's life."""
    dice = peer.random.random()
    if dice < 0.3:
        yield from peer.connect()
        yield from peer.send(_HELLO[: peer.random.randrange(1, len(_HELLO))])
        return
    yield from peer.open()
    body = peer.random.randrange(2) * bytes(500)
    lines = ("X-Delay: 50",) if dice > 0.8 else ()
    whole = request(peer.transport, peer.mark, body=body, lines=lines)
    cut = peer.random.choice([0, peer.random.randrange(len(whole)), len(whole), len(whole)])
    yield from peer.send(whole[:cut] or b"\r")
    if dice > 0.7:
        yield from peer.listen(peer.random.random() * 0.1)


@attack("reset-in-phases", STREAMS, "RST in a random phase", rate=300)
def reset_in_phases(peer: Peer) -> Script:
    """In the handshake, inside a message, while an answer is owed."""
    yield from _some_phase(peer)


@attack("finish-in-phases", STREAMS, "FIN in a random phase", rate=300)
def finish_in_phases(peer: Peer) -> Script:
    """The same; over TLS without close_notify."""
    yield from _some_phase(peer)
    peer.finish()
    yield from peer.listen(0.2)


@attack("half-closed", STREAMS, "FIN behind a request whose answer is a minute late", count=200)
def half_closed(peer: Peer) -> Script:
    """A half-closed connection that is owed an answer."""
    yield from peer.open()
    yield from peer.send(request(peer.transport, peer.mark, lines=("X-Delay: 60000",)))
    peer.finish()
    yield from peer.hold()


@attack("never-reading", STREAMS, "requests without end by peers that read nothing", count=60)
def never_reading(peer: Peer) -> Script:
    """The answers pile up."""
    yield from peer.open()
    while True:
        many = b"".join(request(peer.transport, peer.mark, number=n) for n in range(50))
        yield from peer.send(many)
        yield 0.25


@attack("byte-reader", STREAMS, "requests by peers that read a byte a second", count=60)
def byte_reader(peer: Peer) -> Script:
    """There is always a little progress."""
    yield from peer.open()
    many = b"".join(request(peer.transport, peer.mark, number=n) for n in range(200))
    peer.push(many)
    while True:
        yield 1.0
        peer.take(1)


@attack("handshakes", ("tls",), "100 whole handshakes a second", rate=100, sources=4)
def handshakes(peer: Peer) -> Script:
    """Work for the CPU."""
    yield from peer.open()
