"""The sockets that serve everybody: opened here, or adopted from the caller.

1. An adopted socket stays the caller's: it is never closed here, and gets its blocking mode back.
2. What a socket is, it says itself: UDP or TCP, bound, connected, listening. Only TLS must be told.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from sippool_core import Address, ConfigurationError, Endpoint, Transport

from .sockets import BACKLOG, prepare_stream
from .stream import reset
from .watch import READ, Watch

if TYPE_CHECKING:
    from .datagram import DatagramSocket
    from .driver import Driver
    from .sockets import Selector, Socket, SocketLayer

ListenAt: TypeAlias = "str | Endpoint | socket.socket | tuple[str | Transport, socket.socket]"
"""`"udp:0.0.0.0:5060"`, an `Endpoint`, a socket (bound or connected UDP, bound or listening TCP), or a transport and
such a socket: `("tls", sock)`."""

_ACCEPTS_A_TURN = 16


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """A socket of a pool that receives datagrams or accepts connections."""

    id: int
    transport: Transport
    address: Address
    """Where it is bound, with the real port."""
    socket: Socket
    """For looking at (`fileno`, options); the pool reads and writes it."""
    connected_to: Address | None = None
    """The one peer of a connected UDP socket."""

    def __str__(self) -> str:
        return f"{self.transport.value}:{self.address}"


@dataclass(frozen=True, slots=True, eq=False)
class BoundSocket:
    """A socket that can become a listener."""

    transport: Transport
    sock: Socket
    address: Address
    connected_to: Address | None = None
    is_adopted: bool = False
    timeout: float | None = None
    """The timeout that an adopted socket had."""

    def release(self) -> None:
        """Close it, or hand it back."""
        if not self.is_adopted:
            self.sock.close()
        elif self.sock.fileno() >= 0:
            self.sock.settimeout(self.timeout)


def bind(where: ListenAt, layer: SocketLayer) -> BoundSocket:
    """Open or adopt a socket. Raises `ConfigurationError`, `ValueError` for a bad endpoint, and `OSError`."""
    if isinstance(where, str):
        where = Endpoint.parse(where)
    if isinstance(where, Endpoint):
        opener = layer.open_listener if where.transport.is_stream else layer.open_datagram
        sock = opener(where.address)
        return BoundSocket(where.transport, sock, Address.from_sockaddr(sock.getsockname()))
    if isinstance(where, tuple):
        transport, adopted = where
        return _adopt(adopted, Transport(transport))
    return _adopt(where, None)


def _adopt(sock: socket.socket, transport: Transport | None) -> BoundSocket:
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        raise ConfigurationError(f"{sock!r} is not an IP socket")
    is_stream = sock.type == socket.SOCK_STREAM
    if transport is None:
        transport = Transport.TCP if is_stream else Transport.UDP
    elif transport.is_stream is not is_stream:
        raise ConfigurationError(f"{sock!r} cannot carry {transport.value}")
    address = Address.from_sockaddr(sock.getsockname())
    if not address.port:
        raise ConfigurationError(f"{sock!r} is not bound to a port")
    peer = _peer_of(sock)
    timeout = sock.gettimeout()
    if is_stream:
        if peer is not None:
            raise ConfigurationError(f"{sock!r} is one connection; a pool needs a listening socket")
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            sock.listen(BACKLOG)
    sock.settimeout(0.0)
    return BoundSocket(transport, sock, address, peer, is_adopted=True, timeout=timeout)


def _peer_of(sock: socket.socket) -> Address | None:
    try:
        return Address.from_sockaddr(sock.getpeername())
    except OSError:
        return None


class Acceptor(Watch):
    """The socket of a TCP or TLS listener."""

    __slots__ = ("_driver", "_id")

    def __init__(self, driver: Driver, selector: Selector, sock: Socket, listener_id: int) -> None:
        super().__init__(selector, sock)
        self._driver = driver
        self._id = listener_id
        self.want(READ)

    def close(self) -> None:
        """Watch it no more."""
        self.want(0)

    def ready(self, events: int) -> None:
        """Somebody has connected."""
        for _ in range(_ACCEPTS_A_TURN):
            try:
                sock, peer = self.sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Whether to go on is the core's to say; a peer that has gone again is one turn lost.
                self._failed(error)
                return
            try:
                prepare_stream(sock)
                local = Address.from_sockaddr(sock.getsockname())
            except OSError as error:
                sock.close()
                self._failed(error)
                continue
            self._accepted(sock, Address.from_sockaddr(peer), local)

    def _accepted(self, sock: Socket, peer: Address, local: Address) -> None:
        connection_id = self._driver.core.handle_accepted(
            self._id, peer, local, now=self._driver.now
        )
        if connection_id is None:
            reset(sock)
        else:
            self._driver.add_stream(sock, connection_id).read_on(reading=True)

    def _failed(self, error: OSError) -> None:
        self._driver.core.handle_accept_failed(self._id, error.errno or 0, now=self._driver.now)


class Door(NamedTuple):
    """A listener, and how it is served."""

    listener: Listener
    bound: BoundSocket
    watch: Acceptor | DatagramSocket
