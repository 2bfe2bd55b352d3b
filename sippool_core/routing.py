"""Which way a message leaves: listeners, what is forced on every target, and which connection may be reused.

1. A restriction and a connected socket override whatever was asked (the seed's DST).
2. A connection is reused only for exactly what it was opened or accepted for: transport, listener, peer
   address and port, and over TLS the name it was verified for (else CVE-2020-15260). Accepted TLS connections
   are reached by their flow alone: their peer proved no server name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .address import Address, Target, Transport
from .errors import NoRoute

if TYPE_CHECKING:
    from .config import Restriction


@dataclass(slots=True)
class Listener:
    """A socket that serves everybody: it receives datagrams or accepts connections."""

    id: int
    transport: Transport
    local: Address
    connected_to: Address | None
    """The one peer of a connected UDP socket."""
    retry_seconds: float = 0.0
    """How long accepting pauses at the next want of descriptors."""
    outstanding_datagrams: int = 0
    outstanding_bytes: int = 0


class ReuseKey(NamedTuple):
    """What a connection was opened for."""

    transport: Transport
    listener_id: int | None
    peer: Address
    server_name: str | None


class ReuseIndex:
    """The connection to reuse for each key: the first that came, until it can carry nothing more."""

    def __init__(self) -> None:
        self._ids: dict[ReuseKey, int] = {}

    def get(self, key: ReuseKey) -> int | None:
        """The connection for this key."""
        return self._ids.get(key)

    def add(self, key: ReuseKey, connection_id: int) -> None:
        """Both sides may have dialled at once: then the first stays, and the other serves its own flow."""
        self._ids.setdefault(key, connection_id)

    def remove(self, key: ReuseKey, connection_id: int) -> None:
        """Only the owner's entry goes."""
        if self._ids.get(key) == connection_id:
            del self._ids[key]


class Router:
    """The listeners of a pool, and the rules for targets."""

    def __init__(self, restriction: Restriction | None) -> None:
        self.restriction = restriction
        self.listeners: dict[int, Listener] = {}

    def way_to(self, target: Target) -> tuple[Target, Listener | None]:
        """The target that is really meant, and the listener it is reached from.

        Raises `NoRoute` where no socket of the pool can reach it. A stream can be opened without any listener.
        """
        if self.restriction is not None:
            target = target._replace(address=self.restriction.force(target.address))
        listener = self._listener_for(target)
        if target.transport is Transport.UDP:
            if listener is None:
                raise NoRoute(f"the pool has no UDP socket of this address family for {target}")
            if listener.connected_to is not None:
                target = target._replace(address=listener.connected_to)
        if target.address.port == 0 or target.address.is_wildcard:
            raise NoRoute(f"nothing can be sent to {target}")
        if target.server_name is not None:
            # Names are compared as DNS does: case and the root dot mean nothing (RFC 5922 section 7.2).
            target = target._replace(server_name=target.server_name.lower().rstrip("."))
        return target, listener

    def datagram_peer(self, listener: Listener, peer: Address) -> Address:
        """Where an answer over this socket really goes."""
        if listener.connected_to is not None:
            return listener.connected_to
        return peer if self.restriction is None else self.restriction.force(peer)

    def _listener_for(self, target: Target) -> Listener | None:
        fallback = None
        for listener in self.listeners.values():
            if listener.transport is not target.transport:
                continue
            if listener.connected_to == target.address:
                return listener
            if fallback is None and listener.local.family == target.address.family:
                fallback = listener
        return fallback


def reuse_key(target: Target, listener: Listener | None) -> ReuseKey:
    """The key of a connection opened for `target` from `listener`'s address."""
    listener_id = None if listener is None else listener.id
    return ReuseKey(target.transport, listener_id, target.address, target.server_name)


def is_impossible_source(source: Address, local: Address) -> bool:
    """Whether no honest datagram comes from there: port 0, ourselves, multicast, broadcast, wildcard."""
    if source.port == 0 or source == local or source.is_wildcard:
        return True
    if source.family == 6:
        return source.host.startswith("ff")
    return int(source.host.partition(".")[0]) >= 224
