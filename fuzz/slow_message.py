"""Reads one header byte by byte, from RFC 3261 alone: slow, obvious, and the judge of `sippool_core.message`.

1. No pattern, no table and no function of the core is used here; only its words (`Defect`) are.
2. Where the RFC leaves a choice, what is chosen is written beside it, as the core documents it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sippool_core.reasons import Defect

DIGITS = b"0123456789"
LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
TOKEN = DIGITS + LETTERS + b"-.!%*_+`'~"
CONTROLS = bytes(range(0x21)) + b"\x7f"
"""Blanks among them."""
NO_VALUE = CONTROLS + b';,"'
HEX = DIGITS + b"abcdefABCDEF"
BLANK = b" \t\r\n"
COMPACT = {
    b"v": b"via",
    b"l": b"content-length",
    b"i": b"call-id",
    b"f": b"from",
    b"t": b"to",
}
TOO_MANY_DIGITS = 10**10


@dataclass
class SlowMessage:
    """What a transport reads of a message; the names are those of `Message`."""

    raw: bytes
    body: bytes = b""
    is_request: bool = False
    method: str = ""
    uri: bytes = b""
    status: int = 0
    reason_phrase: bytes = b""
    via: tuple[object, ...] | None = None
    call_id: bytes = b""
    cseq_number: int = 0
    cseq_method: str = ""
    from_tag: bytes = b""
    to_tag: bytes = b""
    content_length: int | None = None
    defect: Defect | None = None
    values: dict[bytes, list[bytes]] = field(default_factory=dict)


class Cursor:
    """A place in some bytes, which moves on where they are as expected."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def run(self, allowed: bytes) -> bytes:
        """As many of these bytes as there are."""
        start = self.at
        self.at = len(self.data) - len(self.data[start:].lstrip(allowed))
        return self.data[start : self.at]

    def run_without(self, refused: bytes) -> bytes:
        """As many bytes as there are that are none of these."""
        start = self.at
        while self.at < len(self.data) and self.data[self.at] not in refused:
            self.at += 1
        return self.data[start : self.at]

    def takes(self, text: bytes) -> bool:
        """Whether the text is here; if it is, go behind it."""
        if self.data[self.at : self.at + len(text)] != text:
            return False
        self.at += len(text)
        return True

    def blanks(self) -> bool:
        """Go behind linear white space; whether there was any."""
        return bool(self.run(BLANK))

    def quoted(self) -> bytes | None:
        """A quoted string; the place does not move if there is none."""
        start = self.at
        if not self.takes(b'"'):
            return None
        while self.at < len(self.data):
            if self.takes(b'"'):
                return self.data[start : self.at]
            self.at += 2 if self.data[self.at] == ord("\\") else 1
        self.at = start
        return None

    def takes_equals(self) -> bool:
        """Whether an equals sign comes, with or without blanks; the place does not move if none does."""
        start = self.at
        self.blanks()
        if self.takes(b"="):
            self.blanks()
            return True
        self.at = start
        return False

    @property
    def is_at_end(self) -> bool:
        """Whether nothing is left."""
        return self.at >= len(self.data)


def read_slowly(header: bytes) -> SlowMessage:
    """Read a header that ends in an empty line."""
    message = SlowMessage(header)
    lines = logical_lines(header[:-4])
    defect = read_start_line(message, lines[0])
    if defect is Defect.NOT_SIP:
        message.defect = defect
        return message
    looks_like_length = False
    for line in lines[1:]:
        if b":" not in line:
            defect = defect or Defect.HEADER_LINE
            continue
        colon = line.index(b":")
        name = line[:colon].rstrip(b" \t").lower()
        if not _is_token(name):
            defect = defect or Defect.HEADER_NAME
            letters = bytes(byte for byte in name if byte in TOKEN)
            looks_like_length = looks_like_length or letters in (b"content-length", b"l")
            continue
        message.values.setdefault(COMPACT.get(name, name), []).append(line[colon + 1 :])
    length_defect = read_content_length(message)
    if looks_like_length:
        # Whoever skips the odd byte reads a length here.
        length_defect = Defect.SUSPICIOUS_CONTENT_LENGTH
    field_defect = read_fields(message)
    message.defect = length_defect or defect or field_defect
    return message


def logical_lines(head: bytes) -> list[bytes]:
    """Lines, each with the ones that are folded onto it (section 7.3.1)."""
    lines: list[bytes] = []
    for line in head.split(b"\r\n"):
        if lines and line[:1] in (b" ", b"\t"):
            lines[-1] += b"\r\n" + line
        else:
            lines.append(line)
    return lines


def version_of(text: bytes) -> bytes | None:
    """The digits of `SIP/1*DIGIT.1*DIGIT`; `None` if it is something else."""
    name, slash, version = text.partition(b"/")
    if name.upper() != b"SIP" or not slash:
        return None
    cursor = Cursor(version)
    if cursor.run(DIGITS) and cursor.takes(b".") and cursor.run(DIGITS) and cursor.is_at_end:
        return version
    return None


def read_start_line(message: SlowMessage, line: bytes) -> Defect | None:
    """Sections 7.1 and 7.2. A fold is for header fields only."""
    physical = line.split(b"\r\n")[0]
    folded = physical != line
    parts = physical.split(b" ")
    if len(parts) == 3 and _is_token(parts[0]) and _has_no_blank(parts[1]):
        version = version_of(parts[2])
        if version is not None:
            message.is_request = True
            message.method = parts[0].decode()
            message.uri = parts[1]
            defect = None if version == b"2.0" else Defect.VERSION
            return defect or (Defect.START_LINE if folded else None)
    parts = physical.split(b" ", 2)
    if len(parts) == 3 and parts[1].isdigit() and b"\0" not in parts[2]:
        version = version_of(parts[0])
        if version is not None:
            message.status = int(parts[1]) if len(parts[1]) == 3 else 0
            message.reason_phrase = parts[2]
            defect = None
            if version != b"2.0":
                defect = Defect.VERSION
            elif not 100 <= message.status <= 699:
                defect = Defect.STATUS_CODE
            return defect or (Defect.START_LINE if folded else None)
    return read_odd_start_line(message, physical)


def read_odd_start_line(message: SlowMessage, line: bytes) -> Defect:
    """A mistake, if the version stands where it should; else it is no SIP. Tabs are taken for spaces here."""
    words = line.replace(b"\t", b" ").rstrip(b" ").split(b" ")
    if version_of(words[0]) is not None:
        return Defect.START_LINE
    blank_behind_method = line[len(words[0]) : len(words[0]) + 1] in (b" ", b"\t")
    if _is_token(words[0]) and blank_behind_method and version_of(words[-1]) is not None:
        message.is_request = True
        message.method = words[0].decode()
        message.uri = b" ".join(words[1:-1]).strip(b" ")
        return Defect.START_LINE
    return Defect.NOT_SIP


def read_content_length(message: SlowMessage) -> Defect | None:
    """`1*DIGIT` (section 25.1) on every line, and the same on all of them."""
    numbers = [value.strip(BLANK) for value in message.values.get(b"content-length", [])]
    for number in numbers:
        if not number or number.strip(DIGITS):
            return Defect.INVALID_CONTENT_LENGTH
        if number != numbers[0]:
            return Defect.CONFLICTING_CONTENT_LENGTH
    if numbers:
        digits = numbers[0].lstrip(b"0")
        message.content_length = int(digits or b"0") if len(digits) <= 10 else TOO_MANY_DIGITS
    return None


def read_fields(message: SlowMessage) -> Defect | None:
    """What routes a message; of a repeated field the first is read."""
    vias = message.values.get(b"via", [])
    cseqs = message.values.get(b"cseq", [])
    call_ids = [value.strip(BLANK) for value in message.values.get(b"call-id", [])]
    message.via = read_via(vias[0]) if vias else None
    message.call_id = call_ids[0] if call_ids else b""
    message.from_tag = read_tag(message.values.get(b"from", [b""])[0])
    message.to_tag = read_tag(message.values.get(b"to", [b""])[0])
    cseq_is_read = bool(cseqs) and read_cseq(message, cseqs[0])
    if not message.is_request:
        message.method = message.cseq_method
    if message.via is None:
        return Defect.VIA
    if not cseq_is_read or message.cseq_number >= 2**31 or len(cseqs) > 1:
        return Defect.CSEQ
    if len(call_ids) != 1 or not message.call_id or not _has_no_blank(message.call_id):
        return Defect.CALL_ID
    return Defect.METHOD_MISMATCH if message.method != message.cseq_method else None


def read_cseq(message: SlowMessage, value: bytes) -> bool:
    """`1*DIGIT LWS Method`; a number of 2**31 or more is kept as 2**31 (section 8.1.1.5)."""
    cursor = Cursor(value)
    cursor.blanks()
    digits = cursor.run(DIGITS)
    blank = cursor.blanks()
    method = cursor.run(TOKEN)
    cursor.blanks()
    if not (digits and blank and method and cursor.is_at_end):
        return False
    message.cseq_method = method.decode()
    digits = digits.lstrip(b"0")
    message.cseq_number = min(int(digits or b"0"), 2**31) if len(digits) <= 10 else 2**31
    return True


def read_via(value: bytes) -> tuple[object, ...] | None:
    """The first `via-parm` (section 25.1): transport, host, port, branch, received, rport, whether rport is asked."""
    cursor = Cursor(value)
    transport = _read_sent_protocol(cursor)
    host = _read_host(cursor) if transport else None
    if transport is None or host is None:
        return None
    port = None
    start = cursor.at
    cursor.blanks()
    if cursor.takes(b":"):
        cursor.blanks()
        port = _port(cursor.run(DIGITS))
        if port is None:
            return None
    else:
        cursor.at = start
    seen: dict[bytes, bytes] = {}
    while True:
        cursor.blanks()
        if cursor.is_at_end or cursor.takes(b","):
            break
        if not _read_via_parameter(cursor, seen):
            return None
    rport = None
    if seen.get(b"rport"):
        rport = _port(seen[b"rport"])
        if rport is None:
            return None
    received = seen.get(b"received")
    return (
        transport.decode().upper(),
        host.strip(b"[]").decode(),
        port,
        seen.get(b"branch", b""),
        None if received is None else received.strip(b"[]").decode("latin-1"),
        rport,
        b"rport" in seen,
    )


def _read_sent_protocol(cursor: Cursor) -> bytes | None:
    transport = b""
    for number in range(3):
        cursor.blanks()
        if number and not cursor.takes(b"/"):
            return None
        cursor.blanks()
        transport = cursor.run(TOKEN)
        if not transport:
            return None
    return transport if cursor.blanks() else None


def _read_host(cursor: Cursor) -> bytes | None:
    if cursor.takes(b"["):
        inner = cursor.run(HEX + b":.")
        return b"[" + inner + b"]" if inner and cursor.takes(b"]") else None
    return cursor.run(DIGITS + LETTERS + b"._-") or None


def _read_via_parameter(cursor: Cursor, seen: dict[bytes, bytes]) -> bool:
    """One parameter; the three that matter have a form of their own and may come once (section 7.3.1)."""
    if not cursor.takes(b";"):
        return False
    cursor.blanks()
    name = cursor.run(TOKEN).lower()
    has_value = cursor.takes_equals()
    if name not in (b"branch", b"received", b"rport"):
        value = cursor.quoted() or cursor.run_without(NO_VALUE)
        return bool(name) and bool(value) == has_value
    if name in seen:
        return False
    if name == b"rport":
        seen[name] = cursor.run(DIGITS)
        return has_value or not seen[name]
    seen[name] = cursor.run_without(NO_VALUE)
    return has_value and bool(seen[name])


def read_tag(value: bytes) -> bytes:
    """The tag of `name-addr` or `addr-spec`, behind it and outside quotes."""
    cursor = Cursor(value)
    cursor.run_without(b'"<;')
    while cursor.quoted() is not None:
        cursor.run_without(b'"<;')
    if cursor.takes(b"<"):
        cursor.run_without(b">")
        if not cursor.takes(b">"):
            return b""
    while True:
        cursor.blanks()
        if not cursor.takes(b";"):
            return b""
        cursor.blanks()
        name = cursor.run(TOKEN).lower()
        found = b""
        has_value = cursor.takes_equals()
        if has_value:
            found = cursor.quoted() or cursor.run_without(b' \t\r\n;,"')
        if name == b"tag":
            return found
        if not name or (has_value and not found):
            return b""


def _port(digits: bytes) -> int | None:
    return int(digits) if 1 <= len(digits) <= 5 and 0 < int(digits) < 65536 else None


def _is_token(text: bytes) -> bool:
    return bool(text) and not text.strip(TOKEN)


def _has_no_blank(text: bytes) -> bool:
    return bool(text) and not any(byte in CONTROLS for byte in text)
