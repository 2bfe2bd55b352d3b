"""What a pool needs of an operating system, as protocols, and the system's own implementation of them.

1. Everything that makes a socket or waits for sockets goes through a `SocketLayer`, so another network, a
   simulated one for instance, can stand below an adapter.
2. Sockets from a layer are non-blocking and not inherited.
3. `Socket` and `Selector` are the parts of `socket.socket` and `selectors.BaseSelector` that are used.
"""

from __future__ import annotations

import selectors
import socket
from typing import TYPE_CHECKING, Any, Protocol

from sippool_core import Address, errno_name

if TYPE_CHECKING:
    from collections.abc import Sequence

# Python ignores SIGPIPE, but a program that embeds it, or restores the default, would die of it.
NO_SIGNAL: int = getattr(socket, "MSG_NOSIGNAL", 0)
BACKLOG = 1024


class Socket(Protocol):
    """A non-blocking socket."""

    @property
    def family(self) -> int:
        """`AF_INET` or `AF_INET6`."""

    @property
    def type(self) -> int:
        """`SOCK_STREAM` or `SOCK_DGRAM`."""

    def fileno(self) -> int:
        """Its descriptor."""

    def getsockname(self) -> Any:  # noqa: ANN401 - typeshed's own type for it
        """Our end."""

    def getpeername(self) -> Any:  # noqa: ANN401
        """The other end; raises `OSError` where there is none."""

    def getsockopt(self, level: int, option: int, /) -> int:
        """An option's value."""

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """Set an option."""

    def gettimeout(self) -> float | None:
        """0.0 for a non-blocking one."""

    def settimeout(self, value: float | None, /) -> None:
        """0.0 makes it non-blocking."""

    def listen(self, backlog: int, /) -> None:
        """Begin to accept."""

    def accept(self) -> tuple[Socket, Any]:
        """The next connection and its peer's address; the connection may still be a blocking one."""

    def bind(self, address: Any, /) -> None:  # noqa: ANN401
        """Take a local address."""

    def connect_ex(self, address: Any, /) -> int:  # noqa: ANN401
        """Begin to connect; returns an errno."""

    def recv(self, size: int, /) -> bytes:
        """Read a stream."""

    def recvfrom(self, size: int, /) -> tuple[bytes, Any]:
        """Read a datagram."""

    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int:
        """Write to a stream, or to the peer of a connected UDP socket."""

    def sendto(self, data: bytes, address: Any, /) -> int:  # noqa: ANN401
        """Send a datagram."""

    def shutdown(self, how: int, /) -> None:
        """Send FIN."""

    def close(self) -> None:
        """Close it."""


class Selector(Protocol):
    """Waits for many sockets at once."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> Any:  # noqa: ANN401
        """Begin to watch."""

    def modify(self, fileobj: Any, events: int, data: Any = None) -> Any:  # noqa: ANN401
        """Watch for something else."""

    def unregister(self, fileobj: Any) -> Any:  # noqa: ANN401
        """Watch no more."""

    def select(self, timeout: float | None = None) -> Sequence[tuple[Any, int]]:
        """Pairs of a key, whose `data` is what was registered, and the events that are there."""

    def close(self) -> None:
        """Give its own descriptor back."""


class SocketLayer(Protocol):
    """Where sockets come from."""

    def open_datagram(self, local: Address) -> Socket:
        """A UDP socket bound to `local`; raises `OSError`."""

    def open_listener(self, local: Address) -> Socket:
        """A listening TCP socket; raises `OSError`."""

    def open_stream(self, peer: Address, local: Address | None) -> Socket:
        """A TCP socket that may connect to `peer`, bound to `local` if that is given; raises `OSError`."""

    def open_selector(self) -> Selector:
        """A selector."""

    def open_wake_pair(self) -> tuple[Socket, Socket]:
        """Two connected stream sockets: what is written to the second can be read from the first."""

    def descriptor_limit(self) -> int | None:
        """How many descriptors the process may have; `None` where that is not known."""


class SystemSockets:
    """The sockets of the operating system."""

    def open_datagram(self, local: Address) -> Socket:
        """See `SocketLayer`."""
        return _bound(socket.SOCK_DGRAM, local)

    def open_listener(self, local: Address) -> Socket:
        """See `SocketLayer`."""
        return _bound(socket.SOCK_STREAM, local)

    def open_stream(self, peer: Address, local: Address | None) -> Socket:
        """See `SocketLayer`."""
        sock = socket.socket(_family(peer), socket.SOCK_STREAM)
        try:
            prepare_stream(sock)
            if local is not None:
                sock.bind(sockaddr(local, sock.family))
        except OSError:
            sock.close()
            raise
        return sock

    def open_selector(self) -> Selector:
        """See `SocketLayer`."""
        return selectors.DefaultSelector()

    def open_wake_pair(self) -> tuple[Socket, Socket]:
        """See `SocketLayer`."""
        reader, writer = socket.socketpair()
        reader.settimeout(0.0)
        writer.settimeout(0.0)
        return reader, writer

    def descriptor_limit(self) -> int | None:
        """See `SocketLayer`."""
        try:
            import resource  # POSIX only
        except ImportError:
            return None
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return None if soft == resource.RLIM_INFINITY else soft


def prepare_stream(sock: Socket) -> None:
    """Make a TCP socket ready for use, accepted or to be connected."""
    sock.settimeout(0.0)
    # A SIP message goes out in one write; Nagle would hold the next one back for an acknowledgement.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def sockaddr(address: Address, family: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """`address` as a socket of this family takes it; a dual-stack socket takes IPv4 as IPv4-mapped IPv6."""
    if family != socket.AF_INET6:
        return (address.host, address.port)
    host = address.host if ":" in address.host else f"::ffff:{address.host}"
    return (host, address.port, 0, address.scope)


def _family(address: Address) -> int:
    return socket.AF_INET6 if address.family == 6 else socket.AF_INET


def _bound(kind: int, local: Address) -> socket.socket:
    sock = socket.socket(_family(local), kind)
    try:
        sock.settimeout(0.0)
        if sock.family == socket.AF_INET6:
            # Each family has a listener of its own; else [::]:5060 would fail beside 0.0.0.0:5060.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            # Without it a restart has to wait until the last connections leave TIME_WAIT. Never for UDP, where
            # it would let a second socket steal the datagrams.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(sockaddr(local, sock.family))
        if kind == socket.SOCK_STREAM:
            sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        error.add_note(f"cannot bind to {local} ({errno_name(error.errno or 0)})")
        raise
    return sock
