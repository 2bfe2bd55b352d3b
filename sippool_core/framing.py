"""Bytes to messages: a stream by Content-Length, a datagram as a whole, and the same rules for what we send.

1. Any split of a stream gives the same events: each one depends on the bytes before it, never on the reads.
2. Whatever comes first in the stream counts: the first bare CR or LF, the line too many, the byte too many.
3. After `Broken` nothing of that stream is ever parsed again: whoever looks for the next message in the middle
   of one lets a peer smuggle messages past others.
4. The work is linear in the bytes: a scan goes on where it stopped.
5. A claim allocates nothing: only bytes that came are held, at most one header, one body and one read.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from .errors import InvalidMessage
from .message import Message, read_head
from .reasons import Defect, DropReason
from .start_line import read_start_line
from .syntax import TOKEN_BYTES

if TYPE_CHECKING:
    from .config import Limits

MAX_DATAGRAM_BYTES: Final = 65507
"""What fits into a UDP datagram over IPv4."""
_MIN_MESSAGE_BYTES = 13

_CR = 0x0D
_LF = 0x0A
_LINE_END = b"\r\n"
_EMPTY_LINE = b"\r\n\r\n"
_LEADING_LINE_ENDS = re.compile(rb"(?:\r\n)*+")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
# The end of the message is unknown on a stream that has one of these in its header.
_BOUNDARY_LOST = frozenset(
    (
        Defect.NOT_SIP,
        Defect.INVALID_CONTENT_LENGTH,
        Defect.CONFLICTING_CONTENT_LENGTH,
        Defect.SUSPICIOUS_CONTENT_LENGTH,
    )
)


class Ping(enum.Enum):
    """CRLFCRLF between messages (RFC 5626 section 4.4.1)."""

    PING = "ping"


@dataclass(slots=True)
class Malformed:
    """A message that nobody can use, but whose end is known."""

    defect: Defect
    message: Message


@dataclass(slots=True)
class Broken:
    """The stream cannot be read any further."""

    defect: Defect
    message: Message | None
    """The header, with an empty body, where it is whole and has a usable Via: for one last answer."""


StreamEvent: TypeAlias = Message | Malformed | Broken | Ping


class StreamFramer:
    """Cuts one direction of a TCP or TLS connection into messages and keep-alives.

    Give it what was read with `receive`, then take what it means with `next_event`, until that is `None`.
    """

    __slots__ = (
        "_after_line_end",
        "_broken",
        "_buffer",
        "_keepalive_bytes",
        "_limits",
        "_lines",
        "_message",
        "_message_end",
        "_scanned",
        "_start",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # What was read, itself where nothing was left over from before, so that most bytes are copied once.
        self._buffer: bytes | bytearray = b""
        self._start = 0  # of the message, or the keep-alive, that comes next
        self._scanned = 0  # up to here there is no empty line, no bare CR or LF
        self._lines = 0  # line ends from _start to _scanned
        self._message: Message | None = None  # its header is read, its body is not here yet
        self._message_end = 0
        self._after_line_end = False  # a single CRLF came: another one makes it a ping
        self._keepalive_bytes = 0
        self._broken = False

    def receive(self, data: bytes) -> None:
        """Take bytes that were read from the connection; nothing is parsed yet."""
        if self._broken:
            return
        start = self._start
        if start == len(self._buffer):
            self._buffer = data
        else:
            buffer = self._buffer
            if isinstance(buffer, bytes):
                buffer = self._buffer = bytearray(memoryview(buffer)[start:])
            else:
                del buffer[:start]
            buffer += data
        self._start = 0
        self._scanned -= start
        self._message_end -= start

    def next_event(self) -> StreamEvent | None:
        """What comes next in the stream; `None` if more must be read first."""
        if self._start == len(self._buffer):
            return None
        if self._message is None:
            if self._scanned == self._start:
                if self._buffer[self._start] not in TOKEN_BYTES:
                    event = self._between_messages()
                    if event is not None or not self.in_message:
                        return event
                self._after_line_end = False
            event = self._header()
            if event is not None:
                return event
        return self._body()

    @property
    def buffered_bytes(self) -> int:
        """Bytes held that were not returned as events."""
        return len(self._buffer) - self._start

    @property
    def in_message(self) -> bool:
        """Whether a message has begun that is not whole (once `next_event` returned `None`)."""
        return self._start < len(self._buffer) and self._buffer[self._start] not in _LINE_END

    def forgive_keepalives(self) -> None:
        """Count keep-alives from zero: a new window of `keepalive_window_seconds` begins."""
        self._keepalive_bytes = 0

    def _between_messages(self) -> Ping | Broken | None:
        """Skip line ends (RFC 3261 section 7.5), each second one in a row a ping, up to a message's first byte."""
        buffer = self._buffer
        while self._start < len(buffer):
            first = buffer[self._start]
            if first not in _LINE_END:
                return None if first in TOKEN_BYTES else self._break(Defect.NOT_SIP)
            if first == _LF:
                return self._break(Defect.BARE_LF)
            if self._start + 1 == len(buffer):
                return None
            if buffer[self._start + 1] != _LF:
                return self._break(Defect.BARE_CR)
            self._start += 2
            self._scanned = self._start
            self._keepalive_bytes += 2
            if self._keepalive_bytes > self._limits.max_keepalive_bytes:
                return self._break(Defect.KEEPALIVE_FLOOD)
            self._after_line_end = not self._after_line_end
            if not self._after_line_end:
                return Ping.PING
        return None

    def _header(self) -> Broken | None:
        """Look for the end of the header; once it is there, read it into `_message`."""
        buffer, start, scanned = self._buffer, self._start, self._scanned
        limit = start + self._limits.max_header_bytes + 4
        window = min(len(buffer), limit)
        found = buffer.find(_EMPTY_LINE, max(start, scanned - 3), window)
        whole = found >= 0
        # A CR at the end of what is here is not judged before the next byte.
        end = found + 4 if whole else window - (buffer[window - 1] == _CR)
        lines, defect, stop = _check_lines(
            buffer, scanned, end, self._lines, self._limits, whole=whole
        )
        if defect is None and whole:
            return self._read_header(bytes(buffer[start:end]))
        # The start line comes before the defect, so it is judged before, and at once: what speaks another
        # protocol must not wait for an empty line that never comes (NAT slipstreaming by a browser's POST).
        if self._lines == 0 and lines:
            line = bytes(buffer[start : buffer.find(_LINE_END, start, stop)])
            if read_start_line(line)[0] is Defect.NOT_SIP:
                defect = Defect.NOT_SIP
        if defect is None and window == limit:
            defect = Defect.HEADER_TOO_LARGE
        self._scanned = end
        self._lines = lines
        return None if defect is None else self._break(defect)

    def _read_header(self, header: bytes) -> Broken | None:
        message = read_head(header)
        defect = message.defect if message.defect in _BOUNDARY_LOST else None
        length = message.content_length
        if length is None:
            defect = defect or Defect.MISSING_CONTENT_LENGTH
        elif length > self._limits.max_body_bytes:
            defect = defect or Defect.BODY_TOO_LARGE
        else:
            self._message_end = self._start + len(header) + length
        if defect is not None:
            return self._break(defect, None if message.via is None else message)
        self._message = message
        return None

    def _body(self) -> Message | Malformed | None:
        """The message, once its last byte is here."""
        message, end = self._message, self._message_end
        if message is None or end > len(self._buffer):
            return None
        if message.content_length:
            message.raw = bytes(self._buffer[self._start : end])
        self._start = self._scanned = end
        self._lines = 0
        self._message = None
        return message if message.defect is None else Malformed(message.defect, message)

    def _break(self, defect: Defect, message: Message | None = None) -> Broken:
        self._broken = True
        self._buffer = b""
        self._start = 0
        self._message = None
        return Broken(defect, message)


def _check_lines(
    buffer: bytes | bytearray, start: int, end: int, lines: int, limits: Limits, *, whole: bool
) -> tuple[int, Defect | None, int]:
    """Count line ends from `start` to `end`, adding to `lines`, as far as the first defect among them.

    Returns their number, the defect, and where it is, or `end`. `whole`: the empty line is at the end.
    """
    defect = None
    here = buffer.count(_LINE_END, start, end)
    if buffer.count(b"\r", start, end) != here or buffer.count(b"\n", start, end) != here:
        bare = _BARE.search(buffer, start, end)
        assert bare is not None, "a CR or an LF is left over"
        end = bare.start()
        defect = Defect.BARE_CR if buffer[end] == _CR else Defect.BARE_LF
        here = buffer.count(_LINE_END, start, end)
        whole = False
    lines += here
    # Neither the start line nor the empty line is a header line.
    if lines - whole - 1 > limits.max_header_lines:
        defect = Defect.TOO_MANY_HEADERS
    return lines, defect, end


def frame_datagram(data: bytes, limits: Limits) -> Message | Malformed | DropReason:
    """The one message of a datagram (RFC 3261 section 18.3); what is behind its body is cut off.

    A response with a defect is dropped, for nobody could be told. Of a header beyond the limits only the lines
    within them are read.
    """
    leading = _LEADING_LINE_ENDS.match(data)  # RFC 3261 section 7.5
    start = leading.end() if leading is not None else 0
    if len(data) - start < _MIN_MESSAGE_BYTES or not data.strip(b"\r\n\0"):
        return DropReason.KEEPALIVE
    found = data.find(_EMPTY_LINE, start)
    if found < 0:
        return DropReason.NOT_SIP
    header, defect = _datagram_header(data, start, found + 4, limits)
    message = read_head(header)
    if message.defect is Defect.NOT_SIP:
        return DropReason.NOT_SIP
    defect = defect or message.defect
    # Of a header that was cut the body is of no use.
    rest = data[found + 4 :] if len(header) == found + 4 - start else b""
    length = message.content_length
    if length is None:
        length = len(rest)
    elif length > len(rest):
        defect = defect or Defect.SHORT_BODY
    if length > limits.max_body_bytes:
        defect = defect or Defect.BODY_TOO_LARGE
    message.raw = header + rest[:length]
    if defect is None:
        return message
    return Malformed(defect, message) if message.is_request else DropReason.MALFORMED_RESPONSE


def _datagram_header(
    data: bytes, start: int, end: int, limits: Limits
) -> tuple[bytes, Defect | None]:
    """A datagram's header as far as it may be read, and what a stream would find wrong with its lines."""
    limit = start + limits.max_header_bytes + 4
    whole = end <= limit
    checked = end if whole else limit - (data[limit - 1] == _CR)
    _, defect, _ = _check_lines(data, start, checked, 0, limits, whole=whole)
    if not whole:
        defect = defect or Defect.HEADER_TOO_LARGE
    if whole and defect is not Defect.TOO_MANY_HEADERS:
        return data[start:end], defect
    return _within_limits(data[start:end], limits), defect


def _within_limits(header: bytes, limits: Limits) -> bytes:
    """The start line and as many lines of an oversized header as may be read: enough for an answer."""
    start_line, *lines = header.split(_LINE_END, limits.max_header_lines + 1)[:-1]
    kept = [start_line]
    room = limits.max_header_bytes - len(start_line)
    for line in lines:
        room -= len(line) + 2
        if room < 0:
            break
        kept.append(line)
    return _LINE_END.join(kept) + _EMPTY_LINE


def check_outgoing(message: bytes, *, stream: bool, limits: Limits) -> Message:
    """Read a message that is about to be sent, by the very rules for what is received.

    Raises `InvalidMessage` unless it is exactly one whole, well-formed message. Content-Length equals the
    length of the body; for a datagram it may be missing. So nobody can send through us what two peers would
    cut differently (CR LF in a header value, a second message in the body).
    """
    if not stream and len(message) > MAX_DATAGRAM_BYTES:
        raise InvalidMessage(
            f"{len(message)} bytes do not fit into a datagram ({MAX_DATAGRAM_BYTES})"
        )
    if message.startswith(_LINE_END):
        raise InvalidMessage("a message does not begin with an empty line")
    event: StreamEvent | DropReason | None
    if stream:
        framer = StreamFramer(limits)
        framer.receive(message)
        event = framer.next_event()
    else:
        event = frame_datagram(message, limits)
    if isinstance(event, Message):
        if len(event.raw) == len(message):
            return event
        raise InvalidMessage(f"there are {len(message) - len(event.raw)} bytes behind the body")
    if isinstance(event, (Malformed, Broken)):
        raise InvalidMessage(f"not a message that we would accept: {event.defect.value}")
    if isinstance(event, DropReason):
        raise InvalidMessage(f"not a message that we would accept: {event.value}")
    raise InvalidMessage(
        "the message is not whole: no empty line, or a body shorter than Content-Length"
    )
