"""Plain SIP messages for tests: a request with everything that it must have, and the answer to one."""

from __future__ import annotations

from typing import SupportsBytes

_COPIED = {b"via": b"v", b"from": b"f", b"to": b"t", b"call-id": b"i", b"cseq": b"cseq"}
_LONG = {compact: name for name, compact in _COPIED.items()} | {name: name for name in _COPIED}


def request(
    method: str = "OPTIONS",
    *,
    branch: str = "z9hG4bKa",
    transport: str = "TCP",
    sent_by: str = "client.example.com:5060",
    via: str = "",
    call_id: str = "c1",
    cseq: int = 1,
    body: bytes = b"",
    extra: str = "",
) -> bytes:
    """A well-formed request; `via` is more parameters of the top Via, `extra` more header lines."""
    head = (
        f"{method} sip:server.example.com SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} {sent_by};branch={branch}{via}\r\n"
        "From: <sip:a@example.com>;tag=f\r\nTo: <sip:b@example.com>\r\n"
        f"Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def response(to: bytes | SupportsBytes, status: int = 200, *, body: bytes = b"") -> bytes:
    """The answer a stack would make from a received message, or from raw bytes (RFC 3261 section 8.2.6.2).

    Of a header that must not be repeated the first is copied.
    """
    header = bytes(to).partition(b"\r\n\r\n")[0]
    lines = []
    copied = set()
    for line in header.split(b"\r\n")[1:]:
        name = _LONG.get(line.partition(b":")[0].strip().lower())
        if name == b"via" or (name is not None and name not in copied):
            copied.add(name)
            lines.append(line + b";tag=t" if name == b"to" else line)
    head = [b"SIP/2.0 %d OK" % status, *lines, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body
