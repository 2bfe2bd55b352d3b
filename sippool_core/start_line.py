"""The first line of a message: a request line, a status line, one with a mistake in it, or no SIP at all.

1. The version is compared without case (RFC 3261 section 7.1); the method is not, nor is it known here.
2. Where a line is wrong, but meant for SIP, the message behind it can still be framed and answered.
3. A status line keeps the space before an empty reason phrase (RFC 4475 section 3.1.1.13).
"""

from __future__ import annotations

import re
from typing import TypeAlias

from .reasons import Defect
from .syntax import TOKEN_CLASS

StartLine: TypeAlias = tuple[Defect | None, bool, str, bytes, int, bytes]
"""Defect, whether it is a request, method, URI, status, reason phrase."""

_REQUEST_LINE = re.compile(
    rb"([%b]++) ([^\x00-\x20\x7f]++) (?i:SIP)/([0-9]++\.[0-9]++)" % TOKEN_CLASS
)
_STATUS_LINE = re.compile(rb"(?i:SIP)/([0-9]++\.[0-9]++) ([0-9]++) ([^\x00]*+)", re.DOTALL)
_VERSION = re.compile(rb"(?i:SIP)/[0-9]++\.[0-9]++")
_METHOD = re.compile(rb"([%b]++)[ \t]" % TOKEN_CLASS)


def read_start_line(line: bytes) -> StartLine:
    """Read a start line. The defect `NOT_SIP` means that nothing else can be told."""
    found = _REQUEST_LINE.fullmatch(line)
    if found is not None:
        method, uri, version = found.groups()
        defect = None if version == b"2.0" else Defect.VERSION
        return defect, True, method.decode("ascii"), uri, 0, b""
    found = _STATUS_LINE.fullmatch(line)
    if found is not None:
        version, digits, reason_phrase = found.groups()
        status = int(digits) if len(digits) == 3 else 0
        if version != b"2.0":
            defect = Defect.VERSION
        else:
            defect = None if 100 <= status <= 699 else Defect.STATUS_CODE
        return defect, False, "", b"", status, reason_phrase
    return _read_odd_start_line(line)


def _read_odd_start_line(line: bytes) -> StartLine:
    """Tell a SIP start line with a mistake in it from what is no SIP at all."""
    text = line.replace(b"\t", b" ").rstrip(b" ")
    first = text.partition(b" ")[0]
    last = text.rpartition(b" ")[2]
    version = _VERSION.match(line)
    if version is not None and version.end() == len(first):
        return Defect.START_LINE, False, "", b"", 0, b""
    method = _METHOD.match(line)
    if method is not None and _VERSION.fullmatch(last):
        uri = text[len(first) : -len(last)].strip(b" ")
        return Defect.START_LINE, True, method[1].decode("ascii"), uri, 0, b""
    return Defect.NOT_SIP, False, "", b"", 0, b""
