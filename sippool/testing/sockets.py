"""Simulated sockets, which answer as a kernel does: `BlockingIOError`, partial counts, an error told once.

A socket that closes with unread bytes sends RST; what arrives at a closed one is answered with RST.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from .hosts import SimulatedSockets
    from .network import SimulatedNetwork

Sockaddr: TypeAlias = "tuple[Any, ...]"


@dataclass
class _Pipe:
    """One direction of a stream, seen from the socket that reads it."""

    arrived: bytearray = field(default_factory=bytearray)
    under_way: int = 0
    ended: bool = False


_descriptors = itertools.count(3)


class SimulatedSocket:
    """A non-blocking socket of this network."""

    def __init__(self, layer: SimulatedSockets, kind: int) -> None:
        self.layer = layer
        self.network = layer.network
        self.type = kind
        self.peer: SimulatedSocket | None = None
        self.local: tuple[str, int] = ("0.0.0.0", 0)
        self.remote: tuple[str, int] | None = None
        self.is_closed = False
        self.is_inner = False
        """Whether it never leaves its host, and so meets no faults."""
        self.sent_bytes = bytearray()
        """Everything a stream has taken from its user: what an oracle reads."""
        self.phase: Callable[[], str] = _nowhere
        """In which phase of its life the connection is; whoever knows it says so."""
        self.on_readable: Callable[[], None] | None = None
        """Called when something has arrived, for actors that are not pools."""
        self._fileno = next(_descriptors)
        self._error = 0
        self._connecting = False
        self._connected = False
        self._shut = False
        self._pipe = _Pipe()
        self._datagrams: deque[tuple[bytes, tuple[str, int]]] = deque()
        self._backlog: deque[SimulatedSocket] | None = None
        self._abort = False
        layer.open_sockets.add(self._fileno)

    # What a socket can be asked.

    @property
    def family(self) -> int:
        """`AF_INET6` if it is bound to such an address."""
        return socket.AF_INET6 if ":" in self.local[0] else socket.AF_INET

    def fileno(self) -> int:
        """A number that no other socket has or had; -1 when closed."""
        return -1 if self.is_closed else self._fileno

    def getsockname(self) -> Sockaddr:
        """Our end."""
        return self._sockaddr(self.local)

    def getpeername(self) -> Sockaddr:
        """The other end."""
        is_stream = self.type == socket.SOCK_STREAM
        if self.remote is None or (is_stream and (self._error or not self._connected)):
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._sockaddr(self.remote)

    def getsockopt(self, level: int, option: int, /) -> int:
        """`SO_ERROR` is told once."""
        if option == socket.SO_ERROR:
            code, self._error = self._error, 0
            return code
        return int(self._backlog is not None)

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """`SO_LINGER` makes the close a reset."""
        if option == socket.SO_LINGER:
            self._abort = True

    def gettimeout(self) -> float | None:
        """Never blocking."""
        return 0.0

    def settimeout(self, value: float | None, /) -> None:
        """Never blocking."""

    # Datagrams.

    def recvfrom(self, size: int, /) -> tuple[bytes, Sockaddr]:
        """Read a datagram."""
        self._raise_error()
        if self._backlog is not None or not self._datagrams or self._strikes("would_block"):
            raise BlockingIOError
        data, source = self._datagrams.popleft()
        return data[:size], self._sockaddr(source)

    def sendto(self, data: bytes, address: Sockaddr, /) -> int:
        """Send a datagram: lost, doubled and overtaken as the network likes."""
        self._raise_error()
        network = self.network
        if self._strikes("write_error"):
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        if self._strikes("would_block"):
            network.call_later(network.latency(), _nothing)
            raise BlockingIOError
        copies = 0 if self._strikes("datagram_lost") else 1 + self._strikes("datagram_doubled")
        source, target = self.local, (address[0], address[1])
        for _ in range(copies):
            network.call_later(network.latency(), lambda: _deliver(network, data, source, target))
        return len(data)

    # Streams.

    def bind(self, address: Sockaddr, /) -> None:
        """Take a local address; port 0 is any."""
        host, port = address[0], address[1] or self.network.ephemeral_port()
        key = (self.type, host, port)
        if key in self.network.bound:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.local = (host, port)
        self.network.bound[key] = self

    def listen(self, backlog: int, /) -> None:
        """Begin to accept."""
        self._backlog = deque()

    def accept(self) -> tuple[SimulatedSocket, Sockaddr]:
        """The next connection."""
        if not self._backlog or self._strikes("would_block"):
            raise BlockingIOError
        if not self.layer.has_room():
            self.network.count("EMFILE on accept")
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if self._strikes("accept_error"):
            code = self.network.rng.choice([errno.ECONNABORTED, errno.EMFILE, errno.ENOBUFS])
            raise OSError(code, os.strerror(code))
        sock = self._backlog.popleft()
        sock.layer.open_sockets.add(sock._fileno)
        if self._strikes("peer_gone_before_accept"):
            sock.receive_reset()
        assert sock.remote is not None
        return sock, self._sockaddr(sock.remote)

    def connect_ex(self, address: Sockaddr, /) -> int:
        """Begin to connect."""
        network = self.network
        self.remote = (address[0], address[1])
        self._connecting = True
        slowness = network.rng.uniform(0, network.faults.connect_slow_seconds)
        if self._strikes("connect_silent"):
            return errno.EINPROGRESS
        listener = network.bound.get((socket.SOCK_STREAM, *self.remote))
        if listener is None or listener._backlog is None or self._strikes("connect_refused"):
            network.call_later(
                network.latency() + slowness, lambda: self._refuse(errno.ECONNREFUSED)
            )
            return errno.EINPROGRESS
        network.call_later(network.latency() + slowness, lambda: self._arrive(listener))
        return errno.EINPROGRESS

    def join(self, other: SimulatedSocket) -> None:
        """Connect two sockets at once."""
        self.peer, other.peer = other, self
        self.remote, other.remote = other.local, self.local
        self._connected = other._connected = True
        self._connecting = other._connecting = False

    def recv(self, size: int, /) -> bytes:
        """Read a stream, or what is left of it before an error."""
        pipe = self._pipe
        if not pipe.arrived:
            self._raise_error()
            if pipe.ended:
                return b""
            raise BlockingIOError
        if self._strikes("would_block"):
            raise BlockingIOError
        if self._strikes("read_error"):
            self._break(errno.ETIMEDOUT)
            self._raise_error()
        if size > 1 and self._strikes("partial_read"):
            size = self.network.rng.randint(1, min(size, len(pipe.arrived)))
        data = bytes(pipe.arrived[:size])
        del pipe.arrived[:size]
        return data

    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int:
        """Write to a stream what the other side has room for."""
        if self.type == socket.SOCK_DGRAM:
            assert self.remote is not None
            return self.sendto(bytes(data), self.remote)
        self._raise_error()
        if self._shut or self.peer is None:
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        if self._strikes("write_error"):
            self._break(errno.ECONNRESET)
            self._raise_error()
        room = self._room()
        if room <= 0 or self._strikes("would_block"):
            raise BlockingIOError
        count = min(room, len(data))
        if count > 1 and self._strikes("partial_write"):
            count = self.network.rng.randint(1, count - 1)
        self._transmit(bytes(data[:count]))
        return count

    def shutdown(self, how: int, /) -> None:
        """Send FIN."""
        if not self._connected:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        self._send_end()

    def close(self) -> None:
        """Close it: with FIN, or with RST where bytes are unread."""
        if self.is_closed:
            return
        self.is_closed = True
        self.layer.open_sockets.discard(self._fileno)
        key = (self.type, *self.local)
        if self.network.bound.get(key) is self:
            del self.network.bound[key]
        for waiting in self._backlog or ():
            waiting.send_reset()
        if self._connected:
            if self._abort or self._pipe.arrived:
                self.send_reset()
            else:
                self._send_end()

    # What actors and oracles do.

    def send_reset(self) -> None:
        """Send RST at once."""
        self._abort = self._shut = True
        peer = self.peer
        if peer is not None and self._connected:
            self.network.call_later(self.network.latency(), peer.receive_reset)

    def receive_reset(self) -> None:
        """RST has arrived."""
        self._break(errno.ECONNRESET)

    @property
    def is_dead(self) -> bool:
        """Whether an error has ended it."""
        return bool(self._error)

    @property
    def is_readable(self) -> bool:
        """Whether reading would tell something."""
        if self._backlog is not None:
            return bool(self._backlog)
        pipe = self._pipe
        return bool(
            self._datagrams or pipe.arrived or pipe.ended or (self._error and not self._connecting)
        )

    @property
    def is_writable(self) -> bool:
        """Whether writing would do something, or connecting is over."""
        if self._connecting or self.type == socket.SOCK_DGRAM:
            return not self._connecting
        return bool(self._error or self._shut or (self._connected and self._room() > 0))

    # Inside.

    def _strikes(self, fault: str) -> bool:
        return not self.is_inner and self.network.strikes(fault, self.phase())

    def _room(self) -> int:
        peer = self.peer
        if peer is None or peer.is_closed:
            return self.network.faults.capacity_bytes
        pipe = peer._pipe
        return self.network.faults.capacity_bytes - len(pipe.arrived) - pipe.under_way

    def _transmit(self, data: bytes) -> None:
        peer, network = self.peer, self.network
        assert peer is not None
        self.sent_bytes += data
        peer._pipe.under_way += len(data)
        network.call_later(self._in_order(network.latency()), lambda: peer._receive(data))
        if self._strikes("reset"):
            network.call_later(network.latency(), peer.receive_reset)
            network.call_later(network.latency(), self.receive_reset)

    _order_at = 0.0

    def _in_order(self, latency: float) -> float:
        """Nothing on a stream overtakes anything."""
        self._order_at = max(self._order_at, self.network.now + latency)
        return self._order_at - self.network.now

    def _receive(self, data: bytes) -> None:
        self._pipe.under_way -= len(data)
        if self.is_closed:
            if self.peer is not None:
                self.peer.receive_reset()
        elif not self._error:
            self._pipe.arrived += data
            self._tell()

    def _send_end(self) -> None:
        peer = self.peer
        if not self._shut and peer is not None:
            self._shut = True
            self.network.call_later(self._in_order(self.network.latency()), peer._receive_end)

    def _receive_end(self) -> None:
        self._pipe.ended = True
        self._tell()

    def _refuse(self, code: int) -> None:
        if not self.is_closed:
            self._connecting = False
            self._error = code

    def _arrive(self, listener: SimulatedSocket) -> None:
        if self.is_closed:
            return
        if listener.is_closed or listener._backlog is None:
            self._refuse(errno.ECONNREFUSED)
            return
        other = SimulatedSocket(listener.layer, socket.SOCK_STREAM)
        # It is nobody's descriptor before it is accepted.
        other.layer.open_sockets.discard(other._fileno)
        other.local = listener.local
        self.join(other)
        listener._backlog.append(other)
        self._tell()

    def _break(self, code: int) -> None:
        if not self._error:
            self._error = code
            self._shut = True
            self._tell()

    def _tell(self) -> None:
        if self.on_readable is not None and not self.is_closed:
            self.on_readable()

    def _raise_error(self) -> None:
        if self._error:
            code = self._error
            raise OSError(code, os.strerror(code))

    def _sockaddr(self, address: tuple[str, int]) -> Sockaddr:
        return (*address, 0, 0) if ":" in address[0] else address


def _deliver(
    network: SimulatedNetwork, data: bytes, source: tuple[str, int], target: tuple[str, int]
) -> None:
    sock = network.bound.get((socket.SOCK_DGRAM, *target))
    if sock is not None:
        sock._datagrams.append((data, source))
        sock._tell()


def _nothing() -> None:
    """Time passes."""


def _nowhere() -> str:
    return ""
