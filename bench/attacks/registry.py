"""The list of attacks: each is a script for one peer, with the transports it makes sense on.

1. `attack` makes one from a generator function; `throws` from a function that makes hostile bytes.
2. An attack that is no swarm of sockets has a `run` of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .peer import Peer, Script, Siege, Swarm

if TYPE_CHECKING:
    import random

STREAMS = ("tcp", "tls")
ALL = ("udp", "tcp", "tls")
PeerScript = Callable[[Peer], Script]
_WAIT_FOR_END = 0.2


@dataclass(frozen=True)
class Attack:
    """One way to harm a server."""

    name: str
    transports: tuple[str, ...]
    description: str
    run: Callable[[Siege, tuple[str, ...]], None]
    options: tuple[str, ...] = ()
    """What `sippool listen` is given besides."""
    needs: str = ""
    """What must be there: `raw` sockets or the `openssl` program."""


ATTACKS: dict[str, Attack] = {}


def add(attack: Attack) -> None:
    """Put it into the list."""
    assert attack.name not in ATTACKS, attack.name
    ATTACKS[attack.name] = attack


def attack(
    name: str,
    transports: tuple[str, ...],
    description: str,
    *,
    count: int = 100,
    sources: int = 1,
    rate: float = 400.0,
    options: tuple[str, ...] = (),
) -> Callable[[PeerScript], PeerScript]:
    """A swarm of `count` peers from `sources` addresses, at most `rate` new ones a second."""

    def register(script: PeerScript) -> PeerScript:
        def run(siege: Siege, chosen: tuple[str, ...]) -> None:
            Swarm(siege, script, chosen, count=count, sources=sources, rate=rate).run()

        add(Attack(name, transports, description, run, options))
        return script

    return register


Bytes = Callable[["random.Random", str, str], bytes]
"""Hostile bytes, from a random generator, the transport and ids that nobody else uses."""


def throws(
    name: str,
    transports: tuple[str, ...],
    description: str,
    *,
    count: int = 100,
    rate: float = 500.0,
    pause: float = 0.01,
) -> Callable[[Bytes], Bytes]:
    """Peers that throw hostile bytes: a new connection each time, or a datagram at each `pause`."""

    def register(make: Bytes) -> Bytes:
        def script(peer: Peer) -> Script:
            yield from peer.open()
            while True:
                data = make(peer.random, peer.transport, peer.mark)
                if peer.transport != "udp":
                    yield from peer.send(data)
                    yield from peer.listen(_WAIT_FOR_END)
                    return
                yield from peer.send(data[:65507])
                peer.take()
                yield pause

        attack(name, transports, description, count=count, rate=rate, sources=8)(script)
        return make

    return register
