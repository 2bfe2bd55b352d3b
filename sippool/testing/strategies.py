"""Hypothesis strategies: SIP messages in every legal dress, bytes that mean harm, and splits of a stream.

1. A `WrittenMessage` is well-formed, and says what a reader must find in it: the oracle of a round trip.
2. A hostile one is a good one with a few changes, for most bugs are one byte away from a legal message.

    @given(requests())
    def test_parser(written):
        assert parse(written.raw).call_id == written.call_id
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from hypothesis import strategies as st

TOKEN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~"
"""The characters of a token (RFC 3261 section 25.1)."""

METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "SUBSCRIBE", "MESSAGE", "x-1.~")

MAGIC_COOKIE = b"z9hG4bK"


@dataclass(frozen=True)
class WrittenMessage:
    """A well-formed message, and what a reader must find in it."""

    raw: bytes
    is_request: bool
    method: str
    """Of a response: the method of its CSeq."""
    uri: bytes
    """Empty for a response."""
    status: int
    """0 for a request."""
    host: str
    """Of the top Via's sent-by, without brackets."""
    port: int | None
    branch: bytes
    asks_rport: bool
    call_id: bytes
    cseq_number: int
    from_tag: bytes
    """Empty if there is none."""
    to_tag: bytes
    body: bytes

    def __bytes__(self) -> bytes:
        return self.raw


def tokens(min_size: int = 1, max_size: int = 12) -> st.SearchStrategy[str]:
    """Tokens (RFC 3261 section 25.1)."""
    return st.text(TOKEN, min_size=min_size, max_size=max_size)


def bodies(max_size: int = 200) -> st.SearchStrategy[bytes]:
    """Message bodies: any bytes, often such that look like the header of another message."""
    lookalike = st.sampled_from(
        (
            b"",
            b"\r\n",
            b"\r\n\r\n",
            b"OPTIONS sip:x SIP/2.0\r\nl: 5\r\n\r\n",
            b"v=0\r\no=- 0 0\r\n",
            b"l: 3\r\n\r\nabc",
        )
    )
    return lookalike | st.binary(max_size=max_size)


def requests(
    *, usual: bool = False, content_length: bool = True, max_body_bytes: int = 200
) -> st.SearchStrategy[WrittenMessage]:
    """Well-formed requests.

    `usual`: written as most stacks write them, with no folds, odd blanks or unusual names. Without
    `content_length` some have none, as only a datagram may.
    """
    return _messages(
        (True,), usual=usual, content_length=content_length, body=bodies(max_body_bytes)
    )


def responses(
    *, usual: bool = False, content_length: bool = True, max_body_bytes: int = 200
) -> st.SearchStrategy[WrittenMessage]:
    """Well-formed responses; the arguments are those of `requests`."""
    return _messages(
        (False,), usual=usual, content_length=content_length, body=bodies(max_body_bytes)
    )


def messages(
    *, usual: bool = False, content_length: bool = True, max_body_bytes: int = 200
) -> st.SearchStrategy[WrittenMessage]:
    """Well-formed requests and responses; the arguments are those of `requests`."""
    return _messages(
        (True, False), usual=usual, content_length=content_length, body=bodies(max_body_bytes)
    )


@st.composite
def streams(draw: st.DrawFn, max_messages: int = 4) -> tuple[bytes, list[WrittenMessage]]:
    """What a peer may send over a connection: messages, line ends and pings between them; and the messages."""
    written = draw(st.lists(messages(), max_size=max_messages))
    pieces = [draw(_BETWEEN)]
    for message in written:
        pieces += (message.raw, draw(_BETWEEN))
    return b"".join(pieces), written


@st.composite
def splits(draw: st.DrawFn, data: bytes, max_cuts: int = 8) -> list[bytes]:
    """The same bytes as a list of chunks, none of them empty: the reads of a stream.

    Cuts like to fall within line ends, where framers go wrong.
    """
    anywhere = st.integers(0, len(data))
    ends = [at for at in range(len(data)) if data[at] in b"\r\n"]
    place = anywhere | st.sampled_from(ends) if ends else anywhere
    cuts = sorted({0, len(data), *draw(st.lists(place, max_size=max_cuts))})
    return [data[start:stop] for start, stop in itertools.pairwise(cuts)]


@st.composite
def mutated(draw: st.DrawFn, good: st.SearchStrategy[bytes], max_changes: int = 4) -> bytes:
    """Bytes of `good` with a few changes: cut, doubled, replaced, with snippets that have fooled SIP stacks."""
    data = draw(good)
    for _ in range(draw(st.integers(1, max_changes))):
        data = draw(_changed(data))
    return data


def hostile(max_changes: int = 4) -> st.SearchStrategy[bytes]:
    """Bytes of an attacker: mutated streams and messages mostly, and sometimes any bytes at all."""
    good = streams().map(lambda stream: stream[0]) | messages(content_length=False).map(bytes)
    return (
        mutated(good, max_changes)
        | mutated(messages(usual=True).map(bytes), 1)
        | st.binary(max_size=300)
    )


HOSTILE_SNIPPETS = (
    b"\r",
    b"\n",
    b"\r\n",
    b"\n\n",
    b"\n\r\n",
    b"\r\n\r\n",
    b"\0",
    b"\t",
    b" ",
    b"\xa0",
    b"\xff",
    b'"',
    b",",
    b";",
    b":",
    b"\\",
    b"Content-Length: 5\r\n",
    b"Content-Length : 0\r\n",
    b"Content-Length:\r\n 7\r\n",
    b"Content-Length\0: 5\r\n",
    b"Content-Length\r\n : 5\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 4294967328\r\n",
    b"l: 6\r\n",
    b"l:1_0\r\n",
    b"Via: SIP/2.0/UDP [::1;branch=x\r\n",
    b"v: SIP/2.0/TCP 192.0.2.1:0\r\n",
    b"CSeq: 4294967296 OPTIONS\r\n",
    b"CSeq: 1 OPTIONS\r\n",
    b"i: another\r\n",
    b"no colon\r\n",
    b"bad name: x\r\n",
    b" a fold\r\n",
    b";branch=z9hG4bKother",
    b";received=192.0.2.66;rport=66",
    b";rport=99999",
    b"SIP/2.0",
    b"SIP/7.0",
    b"SIP/2.0 200 OK\r\n",
    b"SIP/2.0 99 Low\r\n",
    b"OPTIONS  sip:x SIP/2.0\r\n",
    b"OPTIONS sip:x SIP/2.0 \r\n",
    b"OPTIONS sip:x SIP/7.0\r\n",
    b"\r\n" * 40,
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00",
    b"a:\r\n" * 300,
    b"99999999999",
)
"""Bytes that have fooled SIP stacks, each for a reason."""


_BETWEEN = st.sampled_from((b"", b"", b"\r\n", b"\r\n\r\n", b"\r\n\r\n\r\n", b"\r\n" * 5))

_SPELLINGS = {
    "Via": ("Via", "v", "V", "via", "VIA", "vIa"),
    "From": ("From", "f", "F", "from", "FROM"),
    "To": ("To", "t", "T", "to", "TO"),
    "Call-ID": ("Call-ID", "Call-Id", "i", "I", "call-id", "CALL-ID"),
    "CSeq": ("CSeq", "cseq", "CSEQ", "Cseq"),
    "Content-Length": ("Content-Length", "l", "L", "content-length", "CONTENT-length"),
}
_OTHER_LINES = (
    "Max-Forwards: 70",
    "Contact: <sip:alice@192.0.2.7;transport=tcp>;q=0.5",
    "Content-Type: application/sdp",
    "Timestamp: 54",
    "Call-Info: <http://example.com/>",
    "Subject: l: 99",
    "X-Length: 12",
    "User-Agent: a/1.0 (b)",
)
_ODD_LINES = (
    "Max-Forwards : 70",
    "s:",
    "Subject: folded\r\n l: 99\r\n\tand again",
    "X-Empty:\r\n ",
    'Warning: 399 x "quoted \\" CSeq: 5 \0"',
    "Subject: h\u00e9llo",
)
_HOSTS = (
    "192.0.2.1",
    "198.51.100.250",
    "[2001:db8::1]",
    "[::ffff:192.0.2.1]",
    "proxy.example.com",
    "a_b",
)
_SEPARATORS = (": ", ":", " :", "\t: ", " \t:  ", ":\r\n ", ": \r\n\t")
_GAPS = ("", " ", "\t", "\r\n ")


_ADDRESSES = (
    "<sip:alice@example.com;tag=not-this>",
    "Alice <sip:alice@example.com>",
    '"A \\" <x>;tag=not-this" <sip:alice@example.com?subject=x>',
    "sip:alice@example.com",
)
_VIA_PARAMETERS = (
    ";ttl=1",
    ";x",
    ';y="a, b;branch=not-this"',
    ";maddr=192.0.2.66",
    ";received=192.0.2.9",
)


class _Writer:
    """Draws how a message is written down; the `usual` hand has no folds and no odd blanks."""

    def __init__(self, draw: st.DrawFn, *, usual: bool) -> None:
        self._draw = draw
        self._usual = usual

    def choose(self, usual: tuple[str, ...], odd: tuple[str, ...] = ()) -> str:
        """One of the texts."""
        return self._draw(st.sampled_from(usual if self._usual else usual + odd))

    def gap(self) -> str:
        """Nothing, or linear white space."""
        return self.choose(("",), _GAPS)

    def line(self, name: str, value: str) -> str:
        """A header line with its name spelled and its value spaced in some way."""
        spellings = _SPELLINGS[name]
        separator = self.choose((": ", ":"), _SEPARATORS)
        return self.choose(spellings[:1], spellings[1:]) + separator + value + self.gap()

    def number(self, value: int) -> str:
        """Decimal, with leading zeros in an odd hand."""
        return self.choose(("",), ("0", "000")) + str(value)

    def parameters(self, parameters: list[str]) -> str:
        """Each with white space around its semicolon and its equals sign."""
        text = ""
        for parameter in parameters:
            name, equals, value = parameter[1:].partition("=")
            text += self.gap() + ";" + self.gap() + name
            if equals:
                text += self.gap() + "=" + self.gap() + value
        return text

    def via(self, host: str, port: int | None, branch: str | None, rport: str | None) -> str:
        """A Via value, perhaps with another one behind it."""
        slash = self.choose(("/",), (" / ", "/\r\n "))
        text = slash.join(("SIP", "2.0", self.choose(("UDP", "TCP", "TLS"), ("udp", "X-1"))))
        text += " " + self.gap() + host
        if port is not None:
            text += f"{self.gap()}:{self.gap()}{port}"
        parameters = self._draw(st.lists(st.sampled_from(_VIA_PARAMETERS), max_size=2, unique=True))
        parameters += [f";branch={branch}"] if branch else []
        parameters += [f";{rport}"] if rport else []
        return (
            text
            + self.parameters(self._draw(st.permutations(parameters)))
            + self.choose(("",), (", SIP/2.0/UDP other.example.com;branch=z9hG4bKother", " ,x"))
        )

    def address(self, tag: str) -> str:
        """A From or To value."""
        parameters = [";x=1", ';y=";tag=not-this"'][: self._draw(st.integers(0, 2))]
        parameters += [f";tag={tag}"] if tag else []
        return self.choose(_ADDRESSES) + self.parameters(parameters)


@st.composite
def _messages(
    draw: st.DrawFn,
    is_request_choices: tuple[bool, ...],
    *,
    usual: bool,
    content_length: bool,
    body: st.SearchStrategy[bytes],
) -> WrittenMessage:
    writer = _Writer(draw, usual=usual)
    is_request = draw(st.sampled_from(is_request_choices))
    method = draw(st.sampled_from(METHODS))
    uri = draw(st.sampled_from(("sip:bob@example.com", "sip:[2001:db8::1]:5062;lr", "tel:+1", "*")))
    status = draw(st.integers(100, 699))
    host = draw(st.sampled_from(_HOSTS))
    port = draw(st.none() | st.integers(1, 65535))
    branch = draw(st.sampled_from(("", MAGIC_COOKIE.decode())))
    branch += draw(tokens(0))
    rport = draw(st.sampled_from((None, "rport", "rport=5060")))
    call_id = draw(tokens()) + draw(st.sampled_from(("", "@192.0.2.1")))
    number = draw(st.integers(0, 2**31 - 1))
    from_tag, to_tag = draw(tokens(0)), draw(tokens(0))
    content = draw(body)

    version = writer.choose(("SIP/2.0",), ("sip/2.0", "Sip/2.0"))
    start = (
        f"{method} {uri} {version}"
        if is_request
        else f"{version} {status} " + draw(st.sampled_from(("", "OK", "Not  Found: SIP/2.0")))
    )
    via = writer.line("Via", writer.via(host, port, branch, rport))
    lines = [
        writer.line("From", writer.address(from_tag)),
        writer.line("To", writer.address(to_tag)),
        writer.line("Call-ID", call_id),
        writer.line("CSeq", f"{writer.number(number)} {writer.gap()}{method}"),
    ]
    if content_length or draw(st.booleans()):
        lines.append(writer.line("Content-Length", writer.number(len(content))))
        if not usual and draw(st.integers(0, 9)) == 0:
            lines.append(lines[-1])
    others = _OTHER_LINES if usual else _OTHER_LINES + _ODD_LINES
    lines += draw(st.lists(st.sampled_from(others), max_size=4))
    lines = draw(st.permutations(lines))
    lines.insert(draw(st.integers(0, len(lines))), via)
    lines += draw(st.sampled_from(((), ("Via: SIP/2.0/UDP 192.0.2.77;branch=z9hG4bKsecond",))))
    head = "\r\n".join((start, *lines, "", ""))
    return WrittenMessage(
        raw=head.encode() + content,
        is_request=is_request,
        method=method,
        uri=uri.encode() if is_request else b"",
        status=0 if is_request else status,
        host=host.strip("[]"),
        port=port,
        branch=branch.encode(),
        asks_rport=rport is not None,
        call_id=call_id.encode(),
        cseq_number=number,
        from_tag=from_tag.encode(),
        to_tag=to_tag.encode(),
        body=content,
    )


@st.composite
def _changed(draw: st.DrawFn, data: bytes) -> bytes:
    line_starts = [0, *(at + 2 for at in range(len(data)) if data.startswith(b"\r\n", at))]
    place = st.integers(0, len(data)) | st.sampled_from(line_starts)
    start = draw(place)
    stop = min(len(data), start + draw(st.integers(0, 4)))
    match draw(st.sampled_from(("insert", "replace", "delete", "double", "flip", "end"))):
        case "insert":
            return data[:start] + draw(st.sampled_from(HOSTILE_SNIPPETS)) + data[start:]
        case "replace":
            return data[:start] + draw(st.sampled_from(HOSTILE_SNIPPETS)) + data[stop:]
        case "delete":
            return data[:start] + data[stop:]
        case "double":
            end = draw(place)
            return data[:start] + data[min(start, end) : end] * 2 + data[start:]
        case "flip":
            return data[:start] + draw(st.binary(min_size=1, max_size=1)) + data[start + 1 :]
        case _:
            return data[:start]
