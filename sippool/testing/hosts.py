"""One host of a simulated network: the `SocketLayer` below a pool that lives there.

network = SimulatedNetwork(random.Random(seed))
pool = SyncPool("tcp:10.0.0.1:5060", sockets=SimulatedSockets(network, "10.0.0.1"), clock=network.clock)
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from .sockets import SimulatedSocket

if TYPE_CHECKING:
    from sippool_core import Address
    from sippool_sync import Selector, Socket

    from .network import SimulatedNetwork

_READ = selectors.EVENT_READ
_WRITE = selectors.EVENT_WRITE


class SimulatedSockets:
    """The `SocketLayer` of one host: give it to a `SyncPool` as `sockets=`, with the network's `clock`."""

    def __init__(
        self, network: SimulatedNetwork, address: str, *, max_sockets: int | None = None
    ) -> None:
        self.network = network
        network.layers.append(self)
        self.address = address
        self.max_sockets = max_sockets
        self.selector = SimulatedSelector()
        """The one selector of the one pool on this host."""
        self.open_sockets: set[int] = set()
        """Descriptors in use."""

    def open_datagram(self, local: Address) -> Socket:
        """See `SocketLayer`."""
        sock = self._socket(socket.SOCK_DGRAM)
        sock.bind((self._own(local.host), local.port))
        return sock

    def open_listener(self, local: Address) -> Socket:
        """See `SocketLayer`."""
        sock = self._socket(socket.SOCK_STREAM)
        sock.bind((self._own(local.host), local.port))
        sock.listen(1024)
        return sock

    def open_stream(self, peer: Address, local: Address | None) -> SimulatedSocket:
        """See `SocketLayer`."""
        if self.network.strikes("open_error"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        sock = self._socket(socket.SOCK_STREAM)
        sock.bind((self.address if local is None else self._own(local.host), 0))
        return sock

    def open_selector(self) -> Selector:
        """See `SocketLayer`."""
        return self.selector

    def open_wake_pair(self) -> tuple[Socket, Socket]:
        """See `SocketLayer`."""
        reader, writer = self._socket(socket.SOCK_STREAM), self._socket(socket.SOCK_STREAM)
        reader.is_inner = writer.is_inner = True
        reader.join(writer)
        return reader, writer

    def descriptor_limit(self) -> int | None:
        """See `SocketLayer`."""
        return None

    def has_room(self) -> bool:
        """Whether another descriptor may be had."""
        return self.max_sockets is None or len(self.open_sockets) < self.max_sockets

    def _own(self, host: str) -> str:
        return self.address if host in ("0.0.0.0", "::") else host

    def _socket(self, kind: int) -> SimulatedSocket:
        if not self.has_room():
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return SimulatedSocket(self, kind)


class Ready(NamedTuple):
    """What a selector's key has that is used."""

    data: Any


class SimulatedSelector:
    """Tells which sockets are ready, and never waits: time is not its business."""

    def __init__(self) -> None:
        self._watched: dict[SimulatedSocket, tuple[int, Any]] = {}

    def register(self, fileobj: SimulatedSocket, events: int, data: object = None) -> None:
        """Begin to watch."""
        if not events or fileobj in self._watched or fileobj.is_closed:
            raise ValueError("an empty mask, a second registration, or a closed socket")
        self._watched[fileobj] = (events, data)

    def modify(self, fileobj: SimulatedSocket, events: int, data: object = None) -> None:
        """Watch for something else."""
        if not events:
            raise ValueError("an empty mask spins on a hang-up")
        self._watched[fileobj] = (events, data) if fileobj in self._watched else (0, None)

    def unregister(self, fileobj: SimulatedSocket) -> None:
        """Watch no more."""
        del self._watched[fileobj]

    def has_ready(self) -> bool:
        """Whether `select` would find something."""
        return bool(self.select())

    def select(self, timeout: float | None = None) -> list[tuple[Ready, int]]:
        """What is ready now."""
        found = []
        for sock, (events, data) in self._watched.items():
            assert not sock.is_closed, "a closed socket is watched"
            ready = (events & _READ if sock.is_readable else 0) | (
                events & _WRITE if sock.is_writable else 0
            )
            if ready:
                found.append((Ready(data), ready))
        return found

    def close(self) -> None:
        """Give nothing back: there is no descriptor."""
