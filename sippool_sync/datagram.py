"""One UDP socket: drained in turns, written to directly, and nothing lost in between.

1. A datagram that does not fit the kernel's buffer now waits for room, and those behind it wait too. The core
   bounds how many (`max_queued_messages`).
2. The error of an earlier datagram may be told at the next call, which then has done nothing: that call is made
   once more, and the error reported as what it is, news about somebody unreachable.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from sippool_core import Address

from .sockets import sockaddr
from .watch import READ, WRITE, Watch

if TYPE_CHECKING:
    from .driver import Driver
    from .sockets import Selector, Socket

_DATAGRAMS_A_TURN = 64
# More than any datagram holds, so none is cut.
_READ_BYTES = 65536


class DatagramSocket(Watch):
    """The socket of one UDP listener."""

    __slots__ = ("_connected", "_driver", "_id", "_waiting")

    def __init__(
        self, driver: Driver, selector: Selector, sock: Socket, listener_id: int, *, connected: bool
    ) -> None:
        super().__init__(selector, sock)
        self._driver = driver
        self._id = listener_id
        self._connected = connected
        self._waiting: deque[tuple[int, bytes, Address]] = deque()
        self.want(READ)

    def send(self, send_id: int, data: bytes, peer: Address) -> None:
        """Send it, behind those that wait for room."""
        if self._waiting or not self._send(send_id, data, peer):
            self._waiting.append((send_id, data, peer))
            self.want(READ | WRITE)

    def close(self) -> None:
        """Watch it no more; what waits is given up, as the core knows."""
        self._waiting.clear()
        self.want(0)

    def ready(self, events: int) -> None:
        """Something to read, or room to write."""
        if events & READ:
            self._read()
        if events & WRITE:
            self._send_waiting()

    def _read(self) -> None:
        core, now = self._driver.core, self._driver.now
        for _ in range(_DATAGRAMS_A_TURN):
            try:
                data, source = self.sock.recvfrom(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                core.handle_unreachable(self._id, error.errno or 0, None, now=now)
                return
            core.handle_datagram(self._id, data, Address.from_sockaddr(source), now=now)

    def _send_waiting(self) -> None:
        while self._waiting and self._send(*self._waiting[0]):
            self._waiting.popleft()
        if not self._waiting:
            self.want(READ)

    def _send(self, send_id: int, data: bytes, peer: Address) -> bool:
        """False if there is no room."""
        core, now = self._driver.core, self._driver.now
        earlier = code = self._transmit(data, peer)
        if earlier not in (0, errno.EAGAIN):
            code = self._transmit(data, peer)
            if code != earlier:
                core.handle_unreachable(self._id, earlier, None, now=now)
        if code == errno.EAGAIN:
            return False
        if code:
            core.handle_datagram_failed(send_id, code, now=now)
        else:
            core.handle_datagram_sent(send_id, now=now)
        return True

    def _transmit(self, data: bytes, peer: Address) -> int:
        """The errno, or 0."""
        try:
            # Some systems refuse an address on a connected socket.
            if self._connected:
                self.sock.send(data)
            else:
                self.sock.sendto(data, sockaddr(peer, self.sock.family))
        except BlockingIOError:
            return errno.EAGAIN
        except OSError as error:
            return error.errno or errno.EIO
        return 0
