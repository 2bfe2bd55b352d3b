"""A newcomer after the storm: a pool at rest serves whoever comes, or its doors have not been opened again."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from .hosts import SimulatedSockets
from .messages import request
from .oracle import require
from .sockets import SimulatedSocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from .network import SimulatedNetwork
    from .pools import SimulatedPool

_STRANGER = "10.7.7.7"


def probe(network: SimulatedNetwork, pool: SimulatedPool, wait: Callable[[], None]) -> None:
    """Say something by a new connection and by a datagram, `wait`, and require that both have come."""
    restriction = pool.witness.config.restrict_to
    host = _STRANGER if restriction is None else restriction.host.host
    layer = SimulatedSockets(network, host)
    stream = SimulatedSocket(layer, socket.SOCK_STREAM)
    stream.local = (host, network.ephemeral_port())
    stream.connect_ex((pool.host, 5060))
    wait()
    with contextlib.suppress(OSError):
        stream.send(request(call_id="evil-probe", branch="z9hG4bKprobe"))
    messages = pool.driver.core._state.stats.messages_received
    datagram = SimulatedSocket(layer, socket.SOCK_DGRAM)
    datagram.local = (host, 5060)
    is_known = host != pool.host
    if is_known:
        # A datagram that claims to come from the pool's own socket is thrown away.
        datagram.sendto(request(transport="UDP", call_id="evil-probe"), (pool.host, 5060))
    wait()
    came = pool.driver.core._state.stats.messages_received - messages
    # An application may close its pool on hearing anything at all.
    heard = came >= 1 + is_known or pool.driver.core._closing
    require("L", heard, f"{pool.host} heard {came} of {1 + is_known} newcomers")
    stream.close()
    datagram.close()
    network.layers.remove(layer)
