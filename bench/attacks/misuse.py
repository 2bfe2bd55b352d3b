"""Attacks by sense: well-formed messages that steal, flood or reflect."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from .registry import ALL, STREAMS, attack
from .sip import GOOD_CLIENTS, REQUESTS_A_SECOND, good_request, request, response

if TYPE_CHECKING:
    from .peer import Peer, Script

_VICTIM = "127.67.0.1"


@attack("id-theft", ALL, "the good clients' next requests, sent before them", count=12)
def id_theft(peer: Peer) -> Script:
    """Same branch, sent-by, Call-ID and CSeq: who gets the answers?"""
    yield from peer.open()
    while True:
        number = int(time.monotonic() * REQUESTS_A_SECOND) + peer.random.randrange(-1, 3)
        client = peer.random.randrange(GOOD_CLIENTS)
        yield from peer.send(good_request(client, number, peer.transport))
        peer.take()
        yield 0.01


@attack("id-theft-and-close", STREAMS, "the same by peers that vanish", rate=300)
def id_theft_and_close(peer: Peer) -> Script:
    """Their end must not take the good clients' entries with it."""
    yield from peer.open()
    number = int(time.monotonic() * REQUESTS_A_SECOND)
    for client in range(GOOD_CLIENTS):
        yield from peer.send(good_request(client, number + 1, peer.transport))
    yield 0.05


@attack("response-storm", ALL, "responses that nobody asked for", count=12)
def response_storm(peer: Peer) -> Script:
    """Final and provisional ones."""
    yield from peer.open()
    while True:
        status = peer.random.choice([100, 180, 200, 401, 503, 699])
        yield from peer.send(response(peer.transport, peer.mark, status))
        yield 0.005


@attack("ack-storm", ALL, "ACKs that belong to nothing", count=12)
def ack_storm(peer: Peer) -> Script:
    """Nothing may answer an ACK."""
    yield from peer.open()
    while True:
        yield from peer.send(request(peer.transport, peer.mark, method="ACK"))
        if peer.take():
            peer.siege.count["wrong"] += 1
        yield 0.005


@attack("invite-storm", ALL, "INVITEs that are never acknowledged", count=12)
def invite_storm(peer: Peer) -> Script:
    """Open transactions without end."""
    yield from peer.open()
    while True:
        yield from peer.send(request(peer.transport, peer.mark, method="INVITE"))
        peer.take()
        yield 0.01


@attack("request-flood", ALL, "good requests, 2,000 a second", count=24, sources=8)
def request_flood(peer: Peer) -> Script:
    """More than twenty good clients' share."""
    yield from peer.open()
    while True:
        yield from peer.send(request(peer.transport, peer.mark))
        peer.take()
        yield 0.01


@attack("retransmissions", ("udp",), "the same few requests, again and again", count=8)
def retransmissions(peer: Peer) -> Script:
    """A transport remembers nothing of them."""
    yield from peer.open()
    while True:
        yield from peer.send(request("udp", f"again{peer.serial % 3}"))
        peer.take()
        yield 0.005


@attack(
    "reflection", ALL, "requests whose Via names a victim: maddr, received, rport, sent-by", count=6
)
def reflection(peer: Peer) -> Script:
    """Not one byte may come to the victim."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim, socket.socket() as other:
        victim.bind((_VICTIM, 0))
        port = victim.getsockname()[1]
        other.bind((_VICTIM, port))
        other.listen(8)
        victim.settimeout(0.0)
        other.settimeout(0.0)
        yield from peer.open()
        while True:
            via = peer.random.choice(
                [
                    f";maddr={_VICTIM}",
                    f";received={_VICTIM};rport={port}",
                    f";received={_VICTIM}",
                    f";maddr={_VICTIM};rport",
                    "",
                ]
            )
            sent_by = f"{_VICTIM}:{port}"
            yield from peer.send(request(peer.transport, peer.mark, sent_by=sent_by, via=via))
            peer.take()
            for reached in (victim.recv, other.accept):
                try:
                    reached(*((65536,) if reached == victim.recv else ()))
                except BlockingIOError:
                    continue
                peer.siege.count["wrong"] += 1
            yield 0.02


@attack("truncated", ("udp",), "datagrams cut anywhere, and lengths that promise more", count=8)
def truncated(peer: Peer) -> Script:
    """RFC 3261 section 18.3."""
    yield from peer.open()
    while True:
        whole = request("udp", peer.mark, body=bytes(200))
        yield from peer.send(whole[: peer.random.randrange(1, len(whole))])
        peer.take()
        yield 0.01


@attack("huge-datagrams", ("udp",), "datagrams of 65,507 bytes", count=8)
def huge_datagrams(peer: Peer) -> Script:
    """As large as UDP goes."""
    yield from peer.open()
    while True:
        head = len(request("udp", peer.mark, body=b""))
        yield from peer.send(request("udp", peer.mark, body=bytes(65507 - head))[:65507])
        peer.take()
        yield 0.02


@attack("empty-datagrams", ("udp",), "datagrams of nothing, NULs or line ends", count=8)
def empty_datagrams(peer: Peer) -> Script:
    """Keep-alives, four thousand a second."""
    yield from peer.open()
    while True:
        peer.sock.send(peer.random.choice([b"", b"\0\0\0\0", b"\r\n\r\n", b"jaK\0"]))
        yield 0.002
