"""The top Via value: where a message says it comes from, and where an answer goes.

1. Only the first value is read, so that a comma list costs nothing (RFC 3261 section 18 needs no more).
2. One pattern reads it, for its values and for the places where a received request is stamped.
3. `maddr` is never followed: it would let anybody aim our answers at somebody else.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from .address import Address
from .syntax import BLANKS, TOKEN_CLASS


class Via(NamedTuple):
    """The top Via value, as far as a transport reads it."""

    transport: str
    """In upper case: `UDP`, `TCP`, `TLS`, or whatever else the peer calls it."""
    host: str
    """The host of sent-by as written, without brackets."""
    port: int | None
    branch: bytes
    """Empty if there is none (RFC 2543)."""
    received: str | None
    """Without brackets (RFC 5118 section 4.5 wants them accepted)."""
    rport: int | None
    """Its value; `None` if it has none."""
    asks_rport: bool
    """Whether there is an `rport` parameter, with or without a value (RFC 3581)."""


# LWS stands for folds too: a header with a bare CR or LF is refused before anybody trusts its Via. The loop is
# not possessive, for capturing groups in a possessive loop fail in early releases of Python 3.11 to 3.12; it
# stays linear, because each turn starts with its own semicolon. (?(4)(?!)) refuses a second branch, 6 a second
# received, 7 a second rport (by number, for a name can only be referred to behind its group).
_TOP_VIA = re.compile(
    rb"""
    LWS [TOKEN]++ LWS / LWS [TOKEN]++ LWS / LWS (?P<transport>[TOKEN]++) [ \t\r\n]++
    (?P<host> \[[0-9A-Fa-f:.]++\] | [A-Za-z0-9._\-]++ )
    (?: LWS : LWS (?P<port>[0-9]{1,5}) (?![0-9]) )?
    (?:
        LWS
        (?:
            ; LWS (?i:branch) LWS = LWS (?(4)(?!)) (?P<branch>VALUE)
          | (?P<received_parameter> ; LWS (?i:received) LWS = LWS (?(6)(?!)) (?P<received>VALUE) )
          | ; LWS (?(7)(?!)) (?P<rport> (?i:rport) (?![TOKEN]) (?: LWS = LWS (?P<rport_value>[0-9]{0,5}) (?![0-9]) )? )
          | ; LWS (?! (?i:branch|received|rport) (?![TOKEN]) ) [TOKEN]++ (?: LWS = LWS (?:VALUE|QUOTED) )?+
        )
    )*
    LWS (?: , | \Z )
    """.replace(b"LWS", rb"[ \t\r\n]*+")
    .replace(b"TOKEN", TOKEN_CLASS)
    .replace(b"VALUE", rb"""[^\x00-\x20\x7f;,"]++""")
    .replace(b"QUOTED", rb'"(?:[^"\\]++|\\.)*+"'),
    re.VERBOSE | re.DOTALL,
)


def read_via(line: bytes) -> Via | None:
    """Read the first value of a Via header line's value; `None` if it is malformed.

    A parameter that matters may not come twice (RFC 3261 section 7.3.1): two readers could choose differently.
    """
    found = _TOP_VIA.match(line)
    if found is None:
        return None
    transport, host, port, branch, _, received, asks_rport, rport = found.groups()
    port_number = rport_number = None
    if port is not None:
        port_number = int(port)
        if not 0 < port_number < 65536:
            return None
    if rport:
        rport_number = int(rport)
        if not 0 < rport_number < 65536:
            return None
    return Via(
        transport.decode("ascii").upper(),
        host.strip(b"[]").decode("ascii"),
        port_number,
        branch or b"",
        None if received is None else received.strip(b"[]").decode("latin-1"),
        rport_number,
        asks_rport is not None,
    )


def names_source(via: Via, source: Address) -> bool:
    """Whether sent-by holds the address that the message really came from."""
    if via.host == source.host:
        return True
    try:
        return Address.of(via.host, 0).host == source.host
    except ValueError:
        return False  # a host name, or an odd spelling: `received` says what is true


def stamped_line(line: bytes, via: Via, source: Address) -> tuple[bytes, Via]:
    """A Via header line's value with the source of its message in the top value, and that value.

    RFC 3261 section 18.2.1: `received` where sent-by does not hold the source; RFC 3581 section 4: `received`
    and the port in `rport` where `rport` is there. What the peer itself wrote into them is replaced or removed.
    """
    found = _TOP_VIA.match(line)
    assert found is not None, "the message has a Via, so its line can be read"
    received = rport = None
    if via.asks_rport or not names_source(via, source):
        received = source.host
    stamp = b"" if received is None else b";received=" + received.encode("ascii")

    end = len(line[: found.end()].removesuffix(b",").rstrip(BLANKS))
    # (start, end, replacement), in the order of the line
    edits = [(end, end, stamp)]
    if found["received"] is not None:
        edits = [(*found.span("received_parameter"), stamp)]
    if via.asks_rport:
        rport = source.port
        edits.append((*found.span("rport"), b"rport=%d" % rport))
        edits.sort()
    pieces: list[bytes] = []
    position = 0
    for start, stop, replacement in edits:
        pieces += (line[position:start], replacement)
        position = stop
    pieces.append(line[position:])
    return b"".join(pieces), Via(
        via.transport, via.host, via.port, via.branch, received, rport, via.asks_rport
    )


def answer_address(via: Via, source: Address | None) -> Address | None:
    """Where an answer over UDP goes (RFC 3261 section 18.2.2, RFC 3581 section 4).

    To the host that the request came from, and to its port if `rport` asked for that, else to the port of
    sent-by or 5060. Without `source` the Via itself must tell (it was stamped when its request was received).
    `None` where no address is known: a host name, or an address that is nobody's own.
    """
    if source is not None:
        port = source.port if via.asks_rport else via.port or 5060
        return source._replace(port=port)
    port = via.rport or via.port or 5060
    try:
        address = Address.of(via.received or via.host, port)
    except ValueError:
        return None
    parsed = ipaddress.ip_address(address.host)
    nobody = parsed.is_multicast or parsed.is_unspecified or address.host == "255.255.255.255"
    return None if nobody else address
