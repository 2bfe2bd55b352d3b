"""The smallest pieces of SIP's grammar, each written once (RFC 3261 section 25.1).

1. Everything works on bytes: what is a digit or a letter never depends on Unicode.
2. No pattern has two unbounded repetitions that can match the same bytes, so that the time is linear in
   the input, whatever a peer sends.
"""

from __future__ import annotations

import re

TOKEN_CLASS = rb"A-Za-z0-9.!%*_+`'~\-"
"""The characters of a token, for use within a character class of a pattern."""

TOKEN_BYTES = (
    bytes(range(0x30, 0x3A)) + bytes(range(0x41, 0x5B)) + bytes(range(0x61, 0x7B)) + b"-.!%*_+`'~"
)

BLANKS = b" \t\r\n"
"""Linear white space. Where bare CR and LF are excluded, a CR or LF in a value belongs to a fold."""

_LINE_END = re.compile(rb"\r\n(?![ \t])")
_FOLD_START = re.compile(rb"\n[ \t]")
# A run of blanks is tried from its first one only, else a long one would take quadratic time.
_FOLD = re.compile(rb"(?:(?<![ \t])[ \t]++)?+\r\n[ \t]++")

_NON_TOKEN_BYTES = bytes(byte for byte in range(256) if byte not in TOKEN_BYTES)

# RFC 3261 section 7.3.3 and the IANA registry of header fields.
_COMPACT = {
    b"a": b"accept-contact",
    b"b": b"referred-by",
    b"c": b"content-type",
    b"d": b"request-disposition",
    b"e": b"content-encoding",
    b"f": b"from",
    b"i": b"call-id",
    b"j": b"reject-contact",
    b"k": b"supported",
    b"l": b"content-length",
    b"m": b"contact",
    b"n": b"identity-info",
    b"o": b"event",
    b"r": b"refer-to",
    b"s": b"subject",
    b"t": b"to",
    b"u": b"allow-events",
    b"v": b"via",
    b"x": b"session-expires",
    b"y": b"identity",
}

# Header names as nearly everybody writes them. It only saves work: a name that is not here is normalised.
_USUAL_NAMES = b"""
    Accept Accept-Encoding Accept-Language Alert-Info Allow Allow-Events Authorization Call-ID Call-Id Call-Info
    Contact Content-Disposition Content-Encoding Content-Language Content-Length Content-Type CSeq Date
    Error-Info Event Expires From Geolocation History-Info Identity Max-Forwards MIME-Version Min-Expires Min-SE
    Organization P-Access-Network-Info P-Asserted-Identity P-Charging-Vector P-Preferred-Identity Path Priority
    Privacy Proxy-Authenticate Proxy-Authorization Proxy-Require RAck Reason Record-Route Refer-To Referred-By
    Replaces Reply-To Require Retry-After Route RSeq Server Service-Route Session-Expires Subject
    Subscription-State Supported Timestamp To Unsupported User-Agent Via Warning WWW-Authenticate
"""
HEADER_NAMES = {
    **{name: name.lower() for name in _USUAL_NAMES.split()},
    **{name.lower(): name.lower() for name in _USUAL_NAMES.split()},
    **_COMPACT,
}
"""Usual spelling to long lower-case name."""


def header_name(written: bytes) -> bytes | None:
    """The long lower-case form of a header name; `None` if it is not a token and blanks behind it."""
    name = written.rstrip(b" \t").lower()
    if not name or name.translate(None, TOKEN_BYTES):
        return None
    return _COMPACT.get(name, name)


def looks_like_content_length(written: bytes) -> bool:
    """Whether a header name would be Content-Length for somebody who skips the bytes that are no token."""
    name = written.translate(None, _NON_TOKEN_BYTES).lower()
    return name in (b"content-length", b"l")


def header_lines(header: bytes) -> list[bytes]:
    """The start line and each header line with its folds, without line ends; no empty line behind."""
    if _FOLD_START.search(header) is not None:
        return _LINE_END.split(header)
    return header.split(b"\r\n")


def line_end(header: bytes, start: int) -> int:
    """Where the header line ends that `start` is in, its folds included."""
    found = _LINE_END.search(header, start)
    return len(header) if found is None else found.start()


def unfolded(value: bytes) -> bytes:
    """A header value as if it had never been folded (RFC 3261 section 7.3.1), without blanks around it."""
    return _FOLD.sub(b" ", value.strip(BLANKS))
