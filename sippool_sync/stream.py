"""One TCP socket: connect, read once, write what the kernel takes and keep the rest.

1. Written to directly; the selector is asked about writing only while a rest waits.
2. A socket that has ended, failed or been paused is not watched for reading, for it would be ready for ever.
3. Whatever the system says is reported as it is: what it means is the core's business.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from typing import TYPE_CHECKING

from sippool_core import Address

from .sockets import NO_SIGNAL, sockaddr
from .watch import READ, WRITE, Watch

if TYPE_CHECKING:
    from .driver import Driver
    from .sockets import Selector, Socket

_IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR}
_ABORT = struct.pack("ii", 1, 0)
_NOTHING = memoryview(b"")


class Stream(Watch):
    """The socket of one connection."""

    __slots__ = ("_connecting", "_driver", "_id", "_reading", "_unsent")

    def __init__(
        self, driver: Driver, selector: Selector, sock: Socket, connection_id: int
    ) -> None:
        super().__init__(selector, sock)
        self._driver = driver
        self._id = connection_id
        self._connecting = False
        self._reading = False
        self._unsent = _NOTHING

    def connect(self, peer: Address) -> None:
        """Begin to connect."""
        code = self.sock.connect_ex(sockaddr(peer, self.sock.family))
        if code in _IN_PROGRESS:
            self._connecting = True
            self.want(WRITE)
        else:
            self._connected(code)

    def read_on(self, *, reading: bool) -> None:
        """Read from now on, or no more."""
        self._reading = reading
        self._update()

    def write(self, data: bytes) -> None:
        """Write all of it, in the course of time."""
        self._unsent = memoryview(data)
        self._write()

    def finish(self) -> None:
        """Send FIN."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._lost(error)

    def close(self, *, abort: bool) -> None:
        """Close it, with RST if `abort`."""
        self.want(0)
        if abort:
            reset(self.sock)
        else:
            self.sock.close()

    def ready(self, events: int) -> None:
        """Connected, or something to read, or room to write."""
        if self._connecting:
            self._connecting = False
            self.want(0)
            self._connected(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            return
        if events & READ:
            self._read()
        if events & WRITE and self._unsent:
            self._write()

    def _connected(self, code: int) -> None:
        if code:
            self._driver.core.handle_lost(self._id, code, now=self._driver.now)
            return
        self.read_on(reading=True)
        local = Address.from_sockaddr(self.sock.getsockname())
        self._driver.core.handle_connected(self._id, local, now=self._driver.now)

    def _read(self) -> None:
        try:
            data = self.sock.recv(self._driver.read_bytes)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error)
            return
        if data:
            self._driver.core.handle_data(self._id, data, now=self._driver.now)
        else:
            self.read_on(reading=False)
            self._driver.core.handle_eof(self._id, now=self._driver.now)

    def _write(self) -> None:
        try:
            count = self.sock.send(self._unsent, NO_SIGNAL)
        except BlockingIOError:
            self._update()
            return
        except OSError as error:
            self._lost(error)
            return
        self._unsent = self._unsent[count:] if count < len(self._unsent) else _NOTHING
        self._update()
        self._driver.core.handle_written(self._id, count, now=self._driver.now)

    def _lost(self, error: OSError) -> None:
        self._reading = False
        self._unsent = _NOTHING
        self.want(0)
        self._driver.core.handle_lost(self._id, error.errno or 0, now=self._driver.now)

    def _update(self) -> None:
        self.want((READ if self._reading else 0) | (WRITE if self._unsent else 0))


def reset(sock: Socket) -> None:
    """Close with RST: nothing unsent goes out, and nothing stays behind in the kernel."""
    # Some systems refuse the option once the peer has reset the connection.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    sock.close()
