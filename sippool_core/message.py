"""One SIP message: the bytes that came, and what a transport must read of them.

1. The bytes are never rewritten; the one edit is the stamp in the top Via of a received request.
2. What routes a message is read at once (start line, Content-Length, top Via, CSeq, Call-ID), everything else
   when it is asked for.
3. A header is read here and nowhere else, so that nobody disagrees about where a message ends.
4. Reading never raises: what is wrong is the message's `defect`, and the first one counts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

from .reasons import Defect
from .start_line import read_start_line
from .syntax import (
    BLANKS,
    HEADER_NAMES,
    TOKEN_CLASS,
    header_lines,
    header_name,
    line_end,
    looks_like_content_length,
    unfolded,
)
from .usual import USUAL_HEADER
from .via import Via, answer_address, read_via, stamped_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .address import Address

__all__ = ["Message", "TransactionKey", "ClientKey", "Via", "answer_address", "read_head", "stamp"]

TransactionKey: TypeAlias = tuple[bytes | str | int | None, ...]
"""Equal for a request, its retransmissions, its ACK and its responses, at the server (RFC 3261 section 17.2.3)."""
ClientKey: TypeAlias = tuple[bytes, str]
"""Equal for a request and its responses, at the client (RFC 3261 section 17.1.3)."""

OVERSIZED = 10**10
"""The content length of a message that claims more than ten digits: far beyond any limit, and cheap."""

_MAGIC_COOKIE = b"z9hG4bK"

_CSEQ = re.compile(rb"[ \t\r\n]*+(?=[0-9])0*+([0-9]*+)[ \t\r\n]++([%b]++)[ \t\r\n]*+" % TOKEN_CLASS)
_VIA_NAME = re.compile(rb"\r\n(?i:via|v)[ \t]*+:")
_BLANK = re.compile(rb"[\x00-\x20\x7f]")
_ADDRESS = re.compile(rb'[ \t\r\n]*+(?:"(?:[^"\\]++|\\.)*+"|[^"<;]++)*+(?:<[^>]*+>)?+', re.DOTALL)
_PARAMETER = re.compile(
    rb'[ \t\r\n]*+;[ \t\r\n]*+([%b]++)(?:[ \t\r\n]*+=[ \t\r\n]*+("(?:[^"\\]++|\\.)*+"|[^ \t\r\n;,"]++))?+'
    % TOKEN_CLASS,
    re.DOTALL,
)


class Message:
    """A SIP message. Treat it as a constant; messages with the same bytes are equal."""

    __slots__ = (
        "_body_at",
        "_from",
        "_to",
        "call_id",
        "content_length",
        "cseq_method",
        "cseq_number",
        "defect",
        "is_request",
        "method",
        "raw",
        "reason_phrase",
        "status",
        "uri",
        "via",
    )

    raw: bytes
    """The whole message exactly as it came (a received request: with its stamp)."""
    is_request: bool
    method: str
    """Of a response: the method of its CSeq."""
    uri: bytes
    """The Request-URI; empty for a response."""
    status: int
    """The status code; 0 for a request."""
    reason_phrase: bytes
    """Empty for a request."""
    via: Via | None
    """The top Via value; `None` only in a malformed message."""
    call_id: bytes
    """Empty if malformed or missing."""
    cseq_number: int
    """2**31 for any number beyond the limit (RFC 3261 section 8.1.1.5), 0 if missing."""
    cseq_method: str
    """Empty if malformed or missing."""
    content_length: int | None
    """What the header says, `OVERSIZED` for more than ten digits; `None` if it says nothing (or nonsense)."""
    defect: Defect | None
    """The first thing that is wrong with the header, those first that leave the end of the message unknown."""
    _body_at: int
    _from: bytes | None
    _to: bytes | None

    @property
    def body(self) -> bytes:
        """The bytes behind the empty line."""
        return self.raw[self._body_at :]

    @property
    def from_tag(self) -> bytes:
        """The tag of From, empty if there is none (RFC 2543)."""
        return _tag(self._from)

    @property
    def to_tag(self) -> bytes:
        """The tag of To, empty if there is none."""
        return _tag(self._to)

    def headers(self, name: str) -> list[bytes]:
        """The value of each header line of that name, in order, unfolded and without blanks around it.

        `name` may be in any case, long or compact; so may the names in the message.
        """
        wanted = header_name(name.encode())
        header = self.raw[: self._body_at - 4]
        values = []
        for line in header_lines(header)[1:]:
            written, colon, value = line.partition(b":")
            if colon and header_name(written) == wanted is not None:
                values.append(unfolded(value))
        return values

    @property
    def transaction_key(self) -> TransactionKey:
        """What a server transaction is found by; the same from a request and from a response to it.

        Branch, sent-by (a missing port and 5060 differ: whoever copies a Via copies both) and method, that of
        an ACK being INVITE. For a branch without the magic cookie, or with nothing behind it, whose
        uniqueness nobody promised, also Call-ID, CSeq number and From tag: of the RFC 2543 list in RFC 3261
        section 17.2.3 what a response has in common with its request.
        """
        # Where CSeq contradicts the start line, a response can only agree with CSeq, which it copies.
        method = self.cseq_method or self.method
        if method == "ACK":
            method = "INVITE"
        via = self.via
        if via is None:
            return (method, self.call_id, self.cseq_number, self.from_tag)
        branch = via.branch
        if branch.startswith(_MAGIC_COOKIE) and branch != _MAGIC_COOKIE:
            return (branch, via.host.lower(), via.port, method)
        return (
            branch,
            via.host.lower(),
            via.port,
            method,
            self.call_id,
            self.cseq_number,
            self.from_tag,
        )

    @property
    def client_key(self) -> ClientKey:
        """What a client transaction is found by: branch and method (RFC 3261 section 17.1.3)."""
        return (self.via.branch if self.via is not None else b"", self.cseq_method)

    @property
    def can_be_answered(self) -> bool:
        """Whether it is a request, no ACK, with every header field a response must copy, fit to be copied."""
        return bool(
            self.is_request
            and self.method != "ACK"
            and self.via is not None
            and self.cseq_method
            and self.cseq_number < 2**31
            and self.call_id
            and self._from is not None
            and self._to is not None
        )

    def __bytes__(self) -> bytes:
        return self.raw

    def __eq__(self, other: object) -> bool:
        return self.raw == other.raw if isinstance(other, Message) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        what = (
            f"{self.method} {self.uri!r}" if self.is_request else f"{self.status} to {self.method}"
        )
        return f"<Message {what}, Call-ID {self.call_id!r}, {len(self.raw)} bytes>"

    def _with_via(self, raw: bytes, via: Via) -> Message:
        """A copy with another top Via in its bytes."""
        copy = Message()
        copy.raw = raw
        copy._body_at = self._body_at + len(raw) - len(self.raw)
        copy.via = via
        copy.is_request = self.is_request
        copy.method = self.method
        copy.uri = self.uri
        copy.status = self.status
        copy.reason_phrase = self.reason_phrase
        copy.call_id = self.call_id
        copy.cseq_number = self.cseq_number
        copy.cseq_method = self.cseq_method
        copy._from = self._from
        copy._to = self._to
        copy.content_length = self.content_length
        copy.defect = self.defect
        return copy


def stamp(message: Message, source: Address) -> Message:
    """A received request with its true source in the top Via; the same object if nothing changes.

    RFC 3261 section 18.2.1 (`received`) and RFC 3581 section 4 (`rport`). Everything else stays byte for
    byte. A response, and a message without a usable Via, comes back as it is.
    """
    via = message.via
    if via is None or not message.is_request:
        return message
    raw = message.raw
    found = _VIA_NAME.search(raw)
    assert found is not None, "a message with a Via has a Via line"
    start = found.end()
    end = line_end(raw, start)
    line, via = stamped_line(raw[start:end], via, source)
    if via == message.via:
        return message
    return message._with_via(raw[:start] + line + raw[end:], via)


def read_head(header: bytes) -> Message:
    """Read a header, from its start line to its empty line, into a message without a body."""
    usual = USUAL_HEADER.fullmatch(header)
    return (usual and _read_usual(header, usual)) or _read_lines(header)


def _read_usual(header: bytes, usual: re.Match[bytes]) -> Message | None:
    """The message of a header of the usual shape; `None` where something is missing or wrong in it."""
    method, uri, status, reason, via_value, number, cseq_method, call_id, length, from_, to = (
        usual.groups()
    )
    if via_value is None or number is None or call_id is None or length is None:
        return None
    via = read_via(via_value)
    if via is None or (method is not None and method != cseq_method):
        return None
    message = Message()
    message.raw = header
    message._body_at = len(header)
    message.is_request = method is not None
    message.method = message.cseq_method = cseq_method.decode("ascii")
    message.uri = uri or b""
    message.status = int(status or 0)
    message.reason_phrase = reason or b""
    message.via = via
    message.call_id = call_id
    message.cseq_number = int(number)
    message._from = from_
    message._to = to
    message.content_length = int(length)
    message.defect = None
    return message


def _read_lines(header: bytes) -> Message:
    """The message of any header."""
    message = Message()
    message.raw = header
    message._body_at = len(header)
    line, *lines = header_lines(header[:-4])
    line, fold, _ = line.partition(b"\r\n")
    start_line = read_start_line(line)
    defect, message.is_request, message.method, message.uri, message.status, reason = start_line
    message.reason_phrase = reason
    if defect is Defect.NOT_SIP:
        lines = []  # whatever they say, it is not for us
    elif fold and defect is None:
        defect = Defect.START_LINE  # only header fields can be folded (RFC 3261 section 7.3.1)
    fields: dict[bytes, list[bytes]] = {}
    suspicious = False
    for line in lines:
        written, colon, value = line.partition(b":")
        name = HEADER_NAMES.get(written) or header_name(written)
        if colon and name in _FIELDS_READ:
            fields.setdefault(name, []).append(value)
        elif not colon:
            defect = defect or Defect.HEADER_LINE
        elif name is None:
            suspicious = suspicious or looks_like_content_length(written)
            defect = defect or Defect.HEADER_NAME
    length_defect = _read_content_length(message, fields.get(b"content-length", ()))
    if suspicious:
        length_defect = Defect.SUSPICIOUS_CONTENT_LENGTH
    field_defect = _read_fields(message, fields)
    message.defect = length_defect or defect or field_defect
    return message


_FIELDS_READ = frozenset((b"via", b"content-length", b"cseq", b"call-id", b"from", b"to"))


def _read_content_length(message: Message, values: Sequence[bytes]) -> Defect | None:
    """Every line counts: another stack may believe any of them, and would see another message behind this one."""
    message.content_length = None
    if not values:
        return None
    numbers = [value.strip(BLANKS) for value in values]
    for digits in numbers:
        if (
            not digits.isdigit()
        ):  # of bytes: ASCII digits, one at least; no sign, no underscore, no list
            return Defect.INVALID_CONTENT_LENGTH
        if digits != numbers[0]:
            return Defect.CONFLICTING_CONTENT_LENGTH
    digits = numbers[0].lstrip(b"0")
    # Converting a number of unlimited length takes time that grows with its square.
    message.content_length = int(digits or b"0") if len(digits) <= 10 else OVERSIZED
    return None


def _read_fields(message: Message, fields: Mapping[bytes, Sequence[bytes]]) -> Defect | None:
    """Top Via, CSeq, Call-ID, From and To. Of a repeated one the first is kept, for an answer to copy."""
    vias = fields.get(b"via", ())
    cseqs = fields.get(b"cseq", ())
    call_ids = fields.get(b"call-id", ())
    message.via = read_via(vias[0]) if vias else None
    message.call_id = call_ids[0].strip(BLANKS) if call_ids else b""
    message._from = fields.get(b"from", _NONE)[0]
    message._to = fields.get(b"to", _NONE)[0]
    cseq_defect = _read_cseq(message, cseqs)
    if not message.is_request:
        message.method = message.cseq_method
    if message.via is None:
        return Defect.VIA
    if cseq_defect:
        return Defect.CSEQ
    if len(call_ids) != 1 or not message.call_id or _BLANK.search(message.call_id):
        return Defect.CALL_ID
    if message.method != message.cseq_method:
        return Defect.METHOD_MISMATCH
    return None


_NONE: tuple[None] = (None,)


def _read_cseq(message: Message, values: Sequence[bytes]) -> bool:
    """Whether there is anything wrong with it."""
    message.cseq_number = 0
    message.cseq_method = ""
    found = _CSEQ.fullmatch(values[0]) if values else None
    if found is None:
        return True
    digits, method = found.groups()
    message.cseq_method = method.decode("ascii")
    # Not more than ten digits are looked at: an integer of thousands takes quadratic time.
    message.cseq_number = min(int(digits or b"0"), 2**31) if len(digits) <= 10 else 2**31
    return message.cseq_number == 2**31 or len(values) > 1  # RFC 3261 section 8.1.1.5


def _tag(value: bytes | None) -> bytes:
    """The tag parameter of a From or To value: not one within the URI, nor within quotes."""
    if value is None:
        return b""
    address = _ADDRESS.match(value)
    assert address is not None, "the pattern matches the empty string"
    parameter = _PARAMETER.match(value, address.end())
    while parameter is not None and parameter[1].lower() != b"tag":
        parameter = _PARAMETER.match(value, parameter.end())
    return b"" if parameter is None else parameter[2] or b""
