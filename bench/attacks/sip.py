"""SIP messages of the good clients and of the attackers.

1. The ids of a good client's requests can be foretold (client and number), so that thieves can copy them.
2. `number` counts tenths of seconds of the system's monotonic clock, which all processes share.
"""

from __future__ import annotations

GOOD_CLIENTS = 20
REQUESTS_A_SECOND = 10


def request(
    transport: str,
    mark: str,
    *,
    method: str = "OPTIONS",
    number: int = 1,
    uri: str = "sip:test@127.0.0.1",
    sent_by: str = "attacker.invalid:5060",
    via: str = ";rport",
    lines: tuple[str, ...] = (),
    body: bytes = b"",
    length: str | None = "",
) -> bytes:
    """A request whose ids come from `mark`; `length` replaces the true Content-Length, `None` leaves it out."""
    head = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/{transport.upper()} {sent_by};branch=z9hG4bK{mark}{via}",
        "Max-Forwards: 70",
        f"From: <sip:a@127.0.0.1>;tag={mark}",
        "To: <sip:test@127.0.0.1>",
        f"Call-ID: {mark}",
        f"CSeq: {number} {method}",
        *lines,
    ]
    if length is not None:
        head.append(f"Content-Length: {length or len(body)}")
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body


def response(transport: str, mark: str, status: int = 200) -> bytes:
    """A response that nobody has asked for."""
    asked = request(transport, mark)
    return asked.replace(
        b"OPTIONS sip:test@127.0.0.1 SIP/2.0", b"SIP/2.0 %d Unasked" % status, 1
    ).replace(b"To: <sip:test@127.0.0.1>", b"To: <sip:test@127.0.0.1>;tag=t", 1)


def good_mark(client: int, number: int) -> str:
    """What the ids of a good client's request are made of."""
    return f"good{client}n{number}"


def good_request(client: int, number: int, transport: str) -> bytes:
    """The request that a good client sends at that tenth of a second."""
    return request(
        transport,
        good_mark(client, number),
        number=number,
        sent_by=f"good{client}.invalid:5060",
    )
