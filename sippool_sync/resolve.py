"""Names to addresses, by the system's resolver, before the pool sees them.

1. A and AAAA records only (`getaddrinfo`): NAPTR and SRV (RFC 3263) are for whoever has a DNS library.
2. The name that was asked for stays with the target, for over TLS the certificate must name it (RFC 5922).
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from sippool_core import NamedTarget, Target

if TYPE_CHECKING:
    from collections.abc import Iterable


def resolve(where: str | NamedTarget) -> list[Target]:
    """The targets of a SIP URI or endpoint, in the resolver's order; an IP literal passes through.

    Raises `ValueError` for other text, and `socket.gaierror` (an `OSError`) where the name has no address.
    """
    named = NamedTarget.parse(where) if isinstance(where, str) else where
    return targets_of(named, socket.getaddrinfo(named.host, named.port, type=socket_type(named)))


def socket_type(named: NamedTarget) -> socket.SocketKind:
    """What to ask the resolver for."""
    return socket.SOCK_STREAM if named.transport.is_stream else socket.SOCK_DGRAM


def targets_of(named: NamedTarget, found: Iterable[tuple[Any, ...]]) -> list[Target]:
    """What `getaddrinfo` found, as targets."""
    targets = []
    for *_, sockaddr in found:
        scope = sockaddr[3] if len(sockaddr) > 2 else 0
        targets.append(named.at(sockaddr[0], scope))
    return list(dict.fromkeys(targets))
