"""The few SIP messages that the command line itself writes: answers, and an OPTIONS request.

It is no user agent: it copies what RFC 3261 section 8.2.6.2 tells to copy, and adds nothing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sippool_core import Transport

if TYPE_CHECKING:
    from sippool_core import Address, Message

MAX_DELAY_MS = 60_000
"""What `X-Delay` can ask for at most: nobody shall fill the queue of delayed answers for hours."""

_PHRASES = {
    200: b"OK",
    400: b"Bad Request",
    413: b"Request Entity Too Large",
    505: b"Version Not Supported",
    513: b"Message Too Large",
}
_NAMES = {
    b"via": b"Via",
    b"v": b"Via",
    b"from": b"From",
    b"f": b"From",
    b"to": b"To",
    b"t": b"To",
    b"call-id": b"Call-ID",
    b"i": b"Call-ID",
    b"cseq": b"CSeq",
}
_FOLD = re.compile(rb"\r\n[ \t]+")
_TAG_KEY = secrets.token_bytes(16)


def answer(request: Message, status: int = 200) -> bytes:
    """The response to `request` with this status: Via, From, To with a tag, Call-ID and CSeq copied.

    Of a header that must not be repeated, the first is taken, as the core does.
    """
    copied = _copied(request)
    if not request.to_tag:
        copied[b"To"][0] += b";tag=" + _to_tag(request)
    lines = [b"SIP/2.0 %d %b" % (status, _PHRASES.get(status, b"Bad Request"))]
    lines += [b"Via: " + via for via in copied[b"Via"]]
    lines += [name + b": " + copied[name][0] for name in (b"From", b"To", b"Call-ID", b"CSeq")]
    lines.append(b"Content-Length: 0\r\n\r\n")
    return b"\r\n".join(lines)


def _copied(request: Message) -> dict[bytes, list[bytes]]:
    """The values of the headers that an answer copies: one pass, where `Message.headers` makes one for each name."""
    header = request.raw.partition(b"\r\n\r\n")[0]
    if b"\r\n " in header or b"\r\n\t" in header:
        header = _FOLD.sub(b" ", header)
    found: dict[bytes, list[bytes]] = {name: [] for name in _NAMES.values()}
    for line in header.split(b"\r\n"):
        written, _, value = line.partition(b":")
        name = _NAMES.get(written.rstrip(b" \t").lower())
        if name is not None:
            found[name].append(value.strip(b" \t"))
    return found


def _to_tag(request: Message) -> bytes:
    """Always 16 characters, so that answers differ in length only where requests do; equal for a retransmission.

    Keyed, for a tag must not be foreseeable (RFC 3261 section 19.3).
    """
    seed = request.call_id + b"\0" + request.from_tag
    return hashlib.blake2b(seed, digest_size=8, key=_TAG_KEY).hexdigest().encode()


def asked_delay(request: Message) -> float:
    """Seconds by which the header `X-Delay` (milliseconds) asks to delay the answer; 0 if it says nothing usable."""
    if b"x-delay" not in request.raw.lower():
        return 0.0
    values = request.headers("x-delay")
    if not values:
        return 0.0
    text = values[0].strip()
    if not text.isdigit():
        return 0.0
    # Cut before int(): that is quadratic in the digits.
    digits = text.lstrip(b"0")
    return (MAX_DELAY_MS if len(digits) > 5 else min(int(digits or b"0"), MAX_DELAY_MS)) / 1000


@dataclass(frozen=True)
class Options:
    """An OPTIONS request (RFC 3261 section 11.1), and how to know the answer to it."""

    uri: str
    """The request URI."""
    transport: Transport
    local: Address
    """What the Via and Contact name; port 0 where the connection has no port of its own yet."""
    number: int
    """The CSeq number."""
    call_id: str
    extra: tuple[str, ...] = ()
    """More header lines."""
    branch: str = ""

    @classmethod
    def new(
        cls,
        uri: str,
        transport: Transport,
        local: Address,
        *,
        number: int = 1,
        call_id: str | None = None,
        extra: tuple[str, ...] = (),
    ) -> Options:
        """A request with a branch of its own."""
        branch = f"z9hG4bK{secrets.token_hex(8)}"
        return cls(uri, transport, local, number, call_id or new_call_id(), extra, branch)

    def __bytes__(self) -> bytes:
        host = self.local.bracketed
        port = f":{self.local.port}" if self.local.port else ""
        by = "" if self.transport is Transport.UDP else f";transport={self.transport.value}"
        lines = [
            f"OPTIONS {self.uri} SIP/2.0",
            f"Via: SIP/2.0/{self.transport.value.upper()} {host}{port};branch={self.branch};rport",
            "Max-Forwards: 70",
            f"From: <sip:sippool@{host}>;tag={self.branch[-12:]}",
            f"To: <{self.uri}>",
            f"Call-ID: {self.call_id}",
            f"CSeq: {self.number} OPTIONS",
            f"Contact: <sip:sippool@{host}{port}{by}>",
            "Accept: application/sdp",
            "User-Agent: sippool",
            *self.extra,
            "Content-Length: 0",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")

    def is_answered_by(self, response: Message) -> bool:
        """Whether `response` is a final or provisional answer to this request (RFC 3261 section 17.1.3)."""
        return (
            not response.is_request
            and response.via is not None
            and response.via.branch == self.branch.encode()
            and response.cseq_method == "OPTIONS"
        )


def new_call_id() -> str:
    """A Call-ID nobody else has."""
    return secrets.token_hex(12)
