"""Peers that mean harm, or just cannot do better: bytes of any kind, at any pace, and every way to go away.

A hostile peer has no pool. Each `act` does one thing to one of its connections, or sends one datagram.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from .hosts import SimulatedSockets
from .messages import request, response
from .sockets import SimulatedSocket

if TYPE_CHECKING:
    import random

    from sippool_core import Address

    from .network import SimulatedNetwork

_NONSENSE = (
    b"\x16\x03\x01\x02\x00\x01",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\n\r\n",
    b"\r\n",
    b"\n",
    b"\x00" * 20,
    b"OPTIONS sip:a SIP/2.0\r\nl: 1\r\nContent-Length: 2\r\n\r\nxx",
    b"OPTIONS sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n",
    b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 99999999999\r\n\r\n",
    b"OPTIONS sip:a SIP/2.0\r\nX: " + b"a" * 20000,
    b"OPTIONS " + b" " * 5000 + b"SIP/2.0 x\r\n\r\n",
)
_MALFORMED = (
    b"OPTIONS sip:a SIP/9.0\r\nContent-Length: 0\r\n\r\n",
    request().replace(b"Call-ID", b"X-Call-ID"),
)
_LAST_HEARD = 3
_MOST_SOCKETS = 12


class HostilePeer:
    """One attacker with a host, some connections, and a server of its own that answers as it likes."""

    def __init__(
        self,
        network: SimulatedNetwork,
        rng: random.Random,
        host: str,
        targets: list[Address],
        datagram_targets: list[Address],
    ) -> None:
        self.network = network
        self.rng = rng
        self.layer = SimulatedSockets(network, host)
        self.targets = targets
        self.datagram_targets = datagram_targets
        self.overheard: list[tuple[Address, bytes]] = []
        """Requests of others, and to whom, which it knows somehow."""
        self.sockets: list[SimulatedSocket] = []
        self.unsent: dict[SimulatedSocket, bytes] = {}
        self.reads = rng.random() < 0.7
        self.serial = 0
        self.listener = SimulatedSocket(self.layer, socket.SOCK_STREAM)
        self.listener.bind((host, 5060))
        self.listener.listen(16)
        self.datagrams = SimulatedSocket(self.layer, socket.SOCK_DGRAM)
        self.datagrams.bind((host, 5060))

    def act(self) -> str:
        """Do one thing; says what it was."""
        self._accept()
        self._read()
        for sock in [sock for sock in self.sockets if sock.is_dead]:
            self._close(sock)
        if not self.sockets or self.rng.random() < 0.2:
            return self._connect()
        sock = self.rng.choice(self.sockets)
        deed = self.rng.choices(
            (
                self._say,
                self._say_nonsense,
                self._say_malformed,
                self._datagram,
                self._end,
                self._reset,
                self._close,
                self._steal,
            ),
            (8, 2, 1, 2, 1, 1, 1, 5),
        )[0]
        with contextlib.suppress(OSError):
            deed(sock)
        return deed.__name__

    def stop(self) -> None:
        """Go away with everything."""
        for sock in (*self.sockets, self.listener, self.datagrams):
            sock.close()
        self.sockets.clear()

    def _connect(self) -> str:
        target = self.rng.choice(self.targets)
        for _ in range(self.rng.choice([1, 1, 1, 6])):
            if len(self.sockets) < _MOST_SOCKETS:
                self._connect_to(target)
        return "_connect"

    def _connect_to(self, target: Address) -> None:
        sock = SimulatedSocket(self.layer, socket.SOCK_STREAM)
        if self.rng.random() < 0.2 and not self._has_dialled(target):
            # From the port at which it listens, where others reach it too.
            sock.local = (self.layer.address, 5060)
        else:
            sock.bind((self.layer.address, 0))
        sock.connect_ex((target.host, target.port))
        self.sockets.append(sock)

    def _has_dialled(self, target: Address) -> bool:
        here, there = (self.layer.address, 5060), (target.host, target.port)
        return any(sock.local == here and sock.remote == there for sock in self.sockets)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            sock, _ = self.listener.accept()
            self.sockets.append(sock)

    def _read(self) -> None:
        if not self.reads:
            return
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                data = sock.recv(65536)
                if data.startswith((b"OPTIONS", b"INVITE", b"MESSAGE")) and self.rng.random() < 0.5:
                    # The first request of a read gets an answer, of some kind.
                    self.unsent[sock] = self.unsent.get(sock, b"") + response(
                        data, self.rng.choice([100, 200, 486])
                    )

    def _say(self, sock: SimulatedSocket) -> None:
        waiting = self.unsent.get(sock, b"")
        if not waiting:
            self.serial += 1
            method = self.rng.choice(["OPTIONS", "INVITE", "ACK", "MESSAGE"])
            waiting = request(
                method,
                branch=f"z9hG4bKevil{self.layer.address}.{self.serial}",
                call_id=f"evil{self.layer.address}.{self.serial}",
                body=b"b" * self.rng.choice([0, 5, 3000]),
            ) * self.rng.choice([1, 1, 1, 3])
        count = sock.send(waiting[: self.rng.choice([1, 20, 200, 10_000])])
        self.unsent[sock] = waiting[count:]
        if not self.unsent[sock]:
            del self.unsent[sock]

    def _say_nonsense(self, sock: SimulatedSocket) -> None:
        sock.send(self.rng.choice(_NONSENSE) * self.rng.choice([1, 1, 5]))

    def _say_malformed(self, sock: SimulatedSocket) -> None:
        """What nobody can use, though its end is known: at the end of a message that is whole, if one was begun."""
        waiting = self.unsent.pop(sock, b"")
        sock.send(waiting + self.rng.choice(_MALFORMED) * self.rng.choice([1, 4, 10]))

    def _steal(self, _: SimulatedSocket) -> None:
        """The same transaction key as others have: the pool must not give us their answers."""
        if not self.overheard:
            return
        where, message = self.rng.choice(self.overheard[-_LAST_HEARD:])
        there = [
            sock
            for sock in self.sockets
            if sock.remote == (where.host, where.port)
            and sock.is_writable
            and sock not in self.unsent
        ]
        if there:
            head, name, rest = message.partition(b"Call-ID: ")
            self.rng.choice(there).send(head + name + b"evil-" + rest)
        elif len(self.sockets) < _MOST_SOCKETS:
            self._connect_to(where)

    def _datagram(self, _: SimulatedSocket) -> None:
        target = self.rng.choice(self.datagram_targets)
        data = self.rng.choice(_NONSENSE)
        if self.rng.random() < 0.5:
            self.serial += 1
            data = request(
                transport="UDP", call_id=f"evil{self.serial}", branch=f"z9hG4bKe{self.serial}"
            )
            data = data[: self.rng.choice([10, 100, len(data), len(data)])]
        self.datagrams.sendto(data, (target.host, target.port))

    def _end(self, sock: SimulatedSocket) -> None:
        self._count("peer sends FIN", sock)
        sock.shutdown(socket.SHUT_WR)

    def _reset(self, sock: SimulatedSocket) -> None:
        self._count("peer sends RST", sock)
        sock.send_reset()
        self._close(sock)

    def _count(self, fault: str, sock: SimulatedSocket) -> None:
        self.network.count(fault, sock.peer.phase() if sock.peer else "")

    def _close(self, sock: SimulatedSocket) -> None:
        sock.close()
        self.sockets.remove(sock)
        self.unsent.pop(sock, None)
