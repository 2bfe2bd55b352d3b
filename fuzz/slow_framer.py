"""Frames whole bytes, from RFC 3261 sections 7 and 18.3 alone: slow, obvious, and the judge of `sippool_core.framing`.

1. A stream is one string of bytes, read from its beginning; nothing is resumed, nothing is kept between reads.
2. No function of the core is used here, only its words (`Defect`, `DropReason`, `Limits`).
3. Where this and the core disagree, one of them is wrong: that is a finding, never a reason to soften the check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuzz.slow_message import TOKEN, SlowMessage, read_slowly, read_start_line
from sippool_core.reasons import Defect, DropReason

if TYPE_CHECKING:
    from sippool_core.config import Limits

CR = 0x0D
LF = 0x0A
END = b"\r\n\r\n"
FATAL = (
    Defect.NOT_SIP,
    Defect.INVALID_CONTENT_LENGTH,
    Defect.CONFLICTING_CONTENT_LENGTH,
    Defect.SUSPICIOUS_CONTENT_LENGTH,
)


@dataclass
class SlowEvent:
    """`message`, `malformed`, `broken` or `ping`."""

    kind: str
    defect: Defect | None = None
    message: SlowMessage | None = None


@dataclass
class SlowStream:
    """What a stream came to."""

    events: list[SlowEvent]
    held: int
    """Bytes behind the last event; 0 of a broken stream."""
    in_message: bool
    """Whether these begin a message."""


class Lost(Exception):
    """The stream cannot be read any further."""

    def __init__(self, defect: Defect, message: SlowMessage | None = None) -> None:
        super().__init__(defect)
        self.defect = defect
        self.message = message


def slow_stream(data: bytes, limits: Limits) -> SlowStream:
    """Every event of a stream that begins with these bytes."""
    events: list[SlowEvent] = []
    at = 0
    keepalive_bytes = 0
    one_line_end = False
    try:
        while at < len(data):
            byte = data[at]
            if byte == CR:
                if at + 1 == len(data):
                    break
                if data[at + 1] != LF:
                    raise Lost(Defect.BARE_CR)
                at += 2
                keepalive_bytes += 2
                if keepalive_bytes > limits.max_keepalive_bytes:
                    raise Lost(Defect.KEEPALIVE_FLOOD)
                if one_line_end:
                    events.append(SlowEvent("ping"))
                one_line_end = not one_line_end
                continue
            if byte == LF:
                raise Lost(Defect.BARE_LF)
            if byte not in TOKEN:
                raise Lost(Defect.NOT_SIP)
            one_line_end = False
            header = slow_header(data[at:], limits)
            if header is None:
                break
            message = slow_fatal(header, limits)
            length = message.content_length or 0
            behind = data[at + len(header) :]
            if len(behind) < length:
                break
            message.body = behind[:length]
            message.raw = header + message.body
            at += len(message.raw)
            kind = "malformed" if message.defect else "message"
            events.append(SlowEvent(kind, message.defect, message))
    except Lost as lost:
        events.append(SlowEvent("broken", lost.defect, lost.message))
        return SlowStream(events, 0, False)
    held = data[at:]
    return SlowStream(events, len(held), bool(held) and held[0] not in (CR, LF))


def slow_header(data: bytes, limits: Limits) -> bytes | None:
    """The header at the beginning of the data, with its empty line; `None` if more must come. Raises `Lost`.

    Whatever comes first counts: a bare CR or LF, a start line of another protocol, a line too many, and last
    a byte too many. So the lines are looked at one by one, no further than the longest header goes.
    """
    longest = limits.max_header_bytes + len(END)
    *lines, rest = data[:longest].split(b"\n")
    end = 0
    for number, line in enumerate(lines):
        if b"\r" in line[:-1]:
            raise Lost(Defect.BARE_CR)
        if not line.endswith(b"\r"):
            raise Lost(Defect.BARE_LF)
        end += len(line) + 1
        if line == b"\r":
            return data[:end]
        if number == 0 and read_start_line(SlowMessage(b""), line[:-1]) is Defect.NOT_SIP:
            raise Lost(Defect.NOT_SIP)
        if number > limits.max_header_lines:  # the start line, number 0, is no header line
            raise Lost(Defect.TOO_MANY_HEADERS)
    if b"\r" in rest[:-1]:  # the LF behind a last one may come yet
        raise Lost(Defect.BARE_CR)
    if len(data) >= longest:
        raise Lost(Defect.HEADER_TOO_LARGE)
    return None


def slow_fatal(header: bytes, limits: Limits) -> SlowMessage:
    """Read a header; raises `Lost` if it does not tell where its message ends (section 18.3)."""
    message = read_slowly(header)
    answerable = message if message.via is not None else None
    if message.defect in FATAL:
        raise Lost(message.defect, answerable)
    if message.content_length is None:
        raise Lost(Defect.MISSING_CONTENT_LENGTH, answerable)
    if message.content_length > limits.max_body_bytes:
        raise Lost(Defect.BODY_TOO_LARGE, answerable)
    return message


def slow_datagram(data: bytes, limits: Limits) -> SlowEvent | DropReason:
    """The one message of a datagram (section 18.3)."""
    start = 0
    while data[start : start + 2] == b"\r\n":
        start += 2
    text = data[start:]
    if len(text) < 13 or all(byte in b"\r\n\0" for byte in data):
        return DropReason.KEEPALIVE
    if END not in text:
        return DropReason.NOT_SIP
    header = text[: text.index(END) + len(END)]
    body = text[len(header) :]
    defect = None
    try:
        # Nothing more will come, so a header is whole here, or too large.
        slow_header(text, limits)
    except Lost as lost:
        defect = lost.defect
    if defect is Defect.NOT_SIP:
        return DropReason.NOT_SIP
    if defect is Defect.TOO_MANY_HEADERS or len(header) > limits.max_header_bytes + len(END):
        header = first_lines(header, limits)
        body = b""
    message = read_slowly(header)
    if message.defect is Defect.NOT_SIP:
        return DropReason.NOT_SIP
    defect = defect or message.defect
    length = message.content_length
    if length is None:
        length = len(body)
    elif length > len(body):
        defect = defect or Defect.SHORT_BODY
    if length > limits.max_body_bytes:
        defect = defect or Defect.BODY_TOO_LARGE
    message.body = body[:length]
    message.raw = header + message.body
    if defect is None:
        return SlowEvent("message", None, message)
    if message.is_request:
        return SlowEvent("malformed", defect, message)
    return DropReason.MALFORMED_RESPONSE


def first_lines(header: bytes, limits: Limits) -> bytes:
    """The start line, and of the others as many as the limits allow: enough for an answer."""
    start_line, *others = header[: -len(END)].split(b"\r\n")
    kept = start_line
    for line in others[: limits.max_header_lines]:
        if len(kept) + 2 + len(line) > limits.max_header_bytes:
            break
        kept += b"\r\n" + line
    return kept + END
