"""Names to addresses without blocking the event loop; the rules are those of `sippool_sync.resolve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from sippool_core import NamedTarget
from sippool_sync import socket_type, targets_of

if TYPE_CHECKING:
    from sippool_core import Target


async def resolve(where: str | NamedTarget) -> list[Target]:
    """The targets of a SIP URI or endpoint, in the resolver's order; an IP literal passes through.

    Raises `ValueError` for other text, and `socket.gaierror` (an `OSError`) where the name has no address.
    """
    named = NamedTarget.parse(where) if isinstance(where, str) else where
    found = await anyio.getaddrinfo(named.host, named.port, type=socket_type(named))
    return targets_of(named, found)
