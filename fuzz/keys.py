"""The transaction key: what belongs together has one key, what does not has two (RFC 3261 section 17.2.3).

1. `key` asks it of any message that the framer takes, with answers made in two ways.
2. `keys` asks it of two requests that are written out from what they mean: equal keys for the same transaction,
   and for nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hypothesis import strategies as st

from fuzz import target
from sippool.testing.messages import request, response
from sippool.testing.strategies import hostile, messages, requests
from sippool_core.address import Address
from sippool_core.config import Limits
from sippool_core.framing import frame_datagram
from sippool_core.message import Message, stamp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuzz.mutation import Mutator

LIMITS = Limits()
SOURCES = (Address("192.0.2.1", 5060), Address("2001:db8::99", 40000))
COOKIE = "z9hG4bK"

METHODS = ("INVITE", "ACK", "OPTIONS", "CANCEL", "invite")
BRANCHES = (COOKIE + "a", COOKIE + "b", COOKIE + "A", COOKIE, "", "a", "z9hg4bka")
HOSTS = ("a.example.com", "A.Example.com", "b.example.com", "192.0.2.1", "[2001:db8::1]")
PORTS = ("", ":5060", ":5061", " : 05060")
CALL_IDS = ("c1", "c2")
FROM_TAGS = ("", ";tag=f", ";tag=g")
MORE_VIA = ("", ";rport", ";x=1", ";received=192.0.2.66", ";RPORT=7;y")


class Meaning(NamedTuple):
    """A request, by what its key depends on, and by what it must not depend on (the last two)."""

    method: str
    branch: str
    host: str
    port: str
    call_id: str
    cseq: int
    from_tag: str
    more_via: str
    body: bytes


CHOICES: tuple[tuple[str | int | bytes, ...], ...] = (
    METHODS,
    BRANCHES,
    HOSTS,
    PORTS,
    CALL_IDS,
    (0, 1, 2**31 - 1),
    FROM_TAGS,
    MORE_VIA,
    (b"", b"body\r\n\r\n"),
)


def written(meaning: Meaning) -> Message:
    """The request itself."""
    data = request(
        meaning.method,
        branch=meaning.branch,
        sent_by=meaning.host + meaning.port,
        via=meaning.more_via,
        call_id=meaning.call_id,
        cseq=meaning.cseq,
        body=meaning.body,
    )
    if not meaning.branch:
        data = data.replace(b";branch=", b"", 1)
    return _framed(data.replace(b";tag=f", meaning.from_tag.encode(), 1))


def expected_key(meaning: Meaning) -> tuple[object, ...]:
    """What makes a server transaction: branch, sent-by and method, that of an ACK being INVITE.

    A branch that promises nothing needs what RFC 2543 compared, as far as an answer has it too.
    """
    key: tuple[object, ...] = (
        meaning.branch,
        meaning.host.lower(),
        int(meaning.port.strip(" :") or -1),
        "INVITE" if meaning.method == "ACK" else meaning.method,
    )
    if meaning.branch.startswith(COOKIE) and meaning.branch != COOKIE:
        return key
    return (*key, meaning.call_id, meaning.cseq, meaning.from_tag)


def ack_of(invite: Message) -> bytes:
    """The ACK of a failed INVITE: its top Via and From, the same CSeq number (RFC 3261 section 17.1.1.3)."""
    top_via, from_, to = (invite.headers(name)[0] for name in ("Via", "From", "To"))
    return (
        b"ACK %b SIP/2.0\r\nVia: %b\r\nFrom: %b\r\nTo: %b;tag=answerer\r\nCall-ID: %b\r\n"
        b"CSeq: %d ACK\r\nContent-Length: 0\r\n\r\n"
    ) % (invite.uri, top_via, from_, to, invite.call_id, invite.cseq_number)


def answer_of(message: Message) -> bytes:
    """An answer as a stack makes it that parses and writes: fields unfolded, in an order of its own."""
    lines = [b"SIP/2.0 486 Busy Here", b"Content-Length: 0"]
    for name in ("CSeq", "Call-ID", "To", "From"):
        value = message.headers(name)[0]
        lines.append(name.encode() + b": " + value + b";tag=answerer" * (name == "To"))
    lines += [b"v:" + value for value in message.headers("Via")]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _framed(data: bytes) -> Message:
    message = frame_datagram(data, LIMITS)
    assert isinstance(message, Message), f"not a message: {message} {data!r}"
    return message


def _meanings_of(data: bytes) -> tuple[Meaning, Meaning]:
    """The byte door of `keys`: a byte for each choice; the second request begins as the first, then is changed."""
    width = len(CHOICES)
    drawn = data[: 2 * width].ljust(2 * width, b"\0")
    first = [
        choice[byte % len(choice)] for choice, byte in zip(CHOICES, drawn[:width], strict=True)
    ]
    second = [
        old if byte < 128 else choice[byte % len(choice)]
        for choice, byte, old in zip(CHOICES, drawn[width:], first, strict=True)
    ]
    return _meaning(first), _meaning(second)


def _meaning(drawn: list[str | int | bytes]) -> Meaning:
    return Meaning(*drawn)  # type: ignore[arg-type]  # drawn in the order of its fields


def _some_meanings(mutator: Mutator) -> bytes:
    return mutator.rng.randbytes(2 * len(CHOICES))


def _any_message(mutator: Mutator) -> bytes:
    return mutator.message()


@target(
    st.binary(min_size=2 * len(CHOICES), max_size=2 * len(CHOICES)).map(_meanings_of),
    door=_meanings_of,
    generate=_some_meanings,
)
def keys(pair: tuple[Meaning, Meaning]) -> Iterable[object]:
    """Two requests have one key exactly if branch, sent-by and method (and the rest, in RFC 2543) are the same."""
    first, second = map(written, pair)
    same = expected_key(pair[0]) == expected_key(pair[1])
    assert (first.transaction_key == second.transaction_key) == same, f"{pair}, same: {same}"
    return ["same transaction" if same else "other transaction"]


@target(
    hostile() | messages(content_length=False).map(bytes) | requests(usual=True).map(bytes),
    door=bytes,
    generate=_any_message,
)
def key(data: bytes) -> Iterable[object]:
    """A request, the same again, its stamped copy, its ACK and its answers have one key at the server."""
    message = frame_datagram(data, LIMITS)
    if not isinstance(message, Message) or not message.is_request:
        return ["no request"]
    seen = ["request"]
    expected = message.transaction_key
    assert _framed(data).transaction_key == expected, "a retransmission"
    for source in SOURCES:
        stamped = stamp(message, source)
        assert stamped.transaction_key == expected, "the stamped request"
        assert _framed(stamped.raw).transaction_key == expected, "the stamped request, read again"
        if not message.can_be_answered:
            continue
        answers = [answer_of(stamped)]
        header = message.raw.partition(b"\r\n\r\n")[0]
        if b"\r\n " not in header and b"\r\n\t" not in header:
            answers.append(response(stamped.raw))  # which knows no folds
        for data_of_answer in answers:
            answer = _framed(data_of_answer)
            assert answer.transaction_key == expected, "an answer"
            assert answer.client_key == message.client_key, "an answer, at the client"
            seen.append("answer")
        if message.method == "INVITE":
            assert _framed(ack_of(stamped)).transaction_key == expected, "its ACK"
            seen.append("ACK")
    return seen
