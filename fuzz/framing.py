"""Targets below the pool: streams, datagrams, and what we would send ourselves.

They know the framer by its public functions only, and have a second opinion on all of it (`slow_framer`). The
small limits are there to be reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from fuzz import target
from fuzz.slow_framer import SlowEvent, slow_datagram, slow_stream
from sippool.testing.strategies import hostile, messages, splits, streams
from sippool_core.config import Limits
from sippool_core.errors import InvalidMessage
from sippool_core.framing import (
    MAX_DATAGRAM_BYTES,
    Broken,
    Malformed,
    Ping,
    StreamFramer,
    check_outgoing,
    frame_datagram,
)
from sippool_core.message import Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fuzz.mutation import Mutator
    from fuzz.slow_message import SlowMessage
    from sippool_core.framing import StreamEvent
    from sippool_core.reasons import DropReason

SMALL = Limits(
    max_header_bytes=900,
    max_body_bytes=100,
    max_header_lines=30,
    max_keepalive_bytes=64,
)
LIMITS = (SMALL, Limits())

FACTS = (
    "raw",
    "body",
    "is_request",
    "method",
    "uri",
    "status",
    "reason_phrase",
    "call_id",
    "cseq_number",
    "cseq_method",
    "from_tag",
    "to_tag",
    "content_length",
)


@dataclass(frozen=True)
class Read:
    """A stream as the reads that bring it."""

    chunks: Sequence[bytes]
    limits: Limits


@dataclass(frozen=True)
class Whole:
    """Bytes that come, or go, in one piece."""

    data: bytes
    limits: Limits


@st.composite
def reads(draw: st.DrawFn) -> Read:
    """Streams in pieces of any size, or byte by byte."""
    stream = draw(hostile() | streams().map(lambda pair: pair[0]))
    chunks = draw(splits(stream) | st.just(_cut(stream, 1)))
    return Read(chunks, draw(st.sampled_from(LIMITS)))


def pieces() -> st.SearchStrategy[Whole]:
    """Messages and what is nearly one."""
    data = hostile() | messages(content_length=False).map(bytes)
    return st.builds(Whole, data, st.sampled_from(LIMITS))


def read_of(data: bytes) -> Read:
    """The byte door of a stream: the first byte says by which limits it is read, and in pieces of which size."""
    how = data[0] if data else 0
    return Read(_cut(data[1:], how >> 1 or 1), LIMITS[how & 1])


def whole_of(data: bytes) -> Whole:
    """The byte door of what comes in one piece: the first byte says by which limits."""
    return Whole(data[1:], LIMITS[data[0] & 1 if data else 0])


def some_read(mutator: Mutator) -> bytes:
    """A stream for `read_of`; byte by byte is slow, so one in sixteen is, and most limits are small."""
    rng = mutator.rng
    pieces = 1 if rng.random() < 0.06 else rng.randrange(2, 128)
    large = rng.random() < 0.1
    return bytes((pieces << 1 | large,)) + mutator.stream(large=large)


def some_whole(mutator: Mutator) -> bytes:
    """A datagram, or a message, for `whole_of`."""
    large = mutator.rng.random() < 0.1
    return bytes((large,)) + mutator.message(large=large)


def reached(event: StreamEvent | DropReason) -> object:
    """The defect or the reason, or the kind of event."""
    if isinstance(event, (Malformed, Broken)):
        return event.defect
    return type(event).__name__ if isinstance(event, (Message, Ping)) else event


def frame(chunks: Iterable[bytes], limits: Limits) -> tuple[list[StreamEvent], int, bool]:
    """All events of a stream, and what the framer holds after them."""
    framer = StreamFramer(limits)
    # The most that it may hold once it has nothing more to say.
    held = limits.max_header_bytes + 4 + limits.max_body_bytes
    events: list[StreamEvent] = []
    for chunk in chunks:
        framer.receive(chunk)
        while (event := framer.next_event()) is not None:
            events.append(event)
        assert 0 <= framer.buffered_bytes < held, "more is held than a message may have"
        broken = bool(events) and isinstance(events[-1], Broken)
        assert not (broken and framer.buffered_bytes), "something is held of a broken stream"
    return events, framer.buffered_bytes, framer.in_message


def compare(event: StreamEvent | DropReason, slow: SlowEvent | DropReason) -> None:
    """The core and the slow framer say the same, to the last fact of a message."""
    if not isinstance(slow, SlowEvent):
        assert event is slow, f"core {event}, slow framer {slow}"
        return
    message: Message | None = None
    kind, defect = "", None
    if isinstance(event, Message):
        kind, message = "message", event
    elif isinstance(event, (Malformed, Broken)):
        kind, defect, message = type(event).__name__.lower(), event.defect, event.message
    elif isinstance(event, Ping):
        kind = "ping"
    assert (kind, defect) == (slow.kind, slow.defect), f"core {event}, slow framer {slow}"
    assert (message is None) == (slow.message is None), f"core {event}, slow framer {slow}"
    if message is not None and slow.message is not None:
        compare_messages(message, slow.message)


def compare_messages(message: Message, slow: SlowMessage) -> None:
    """Every fact that is read of a message."""
    for name in FACTS:
        fast_fact, slow_fact = getattr(message, name), getattr(slow, name)
        assert fast_fact == slow_fact, f"{name}: core {fast_fact!r}, slow framer {slow_fact!r}"
    via = None if message.via is None else tuple(message.via)
    assert via == slow.via, f"via: core {via}, slow framer {slow.via}"


@target(reads(), door=read_of, generate=some_read)
def framer(read: Read) -> Iterable[object]:
    """Any split of a stream gives the same events, those of the slow framer, and memory is bounded."""
    stream = b"".join(read.chunks)
    whole = frame([stream] if stream else [], read.limits)
    events, held, in_message = whole
    again, held_again, in_message_again = frame(read.chunks, read.limits)
    assert again == events, "split differently, read differently"
    assert (held_again, in_message_again) == (held, in_message)
    assert [_defect(event) for event in again] == [_defect(event) for event in events]
    assert not any(isinstance(event, Broken) for event in events[:-1])
    slow = slow_stream(stream, read.limits)
    assert len(events) == len(slow.events), f"core {events}, slow framer {slow.events}"
    for event, slow_event in zip(events, slow.events, strict=True):
        compare(event, slow_event)
    assert (held, in_message) == (slow.held, slow.in_message)
    return [reached(event) for event in events]


@target(pieces(), door=whole_of, generate=some_whole)
def datagram(piece: Whole) -> Iterable[object]:
    """Any datagram is a message, a malformed request or a reason to drop it, as the slow framer says."""
    data, limits = piece.data, piece.limits
    event = frame_datagram(data, limits)
    compare(event, slow_datagram(data, limits))
    if isinstance(event, Message):
        assert event.raw in data
        if len(event.raw) <= MAX_DATAGRAM_BYTES:
            assert check_outgoing(event.raw, stream=False, limits=limits) == event
    elif isinstance(event, Malformed):
        assert event.message.is_request, "nobody can be told about a malformed response"
    return [reached(event)]


@target(pieces(), door=whole_of, generate=some_whole)
def outgoing(piece: Whole) -> Iterable[object]:
    """We send exactly what we would accept: one whole message, to the last byte."""
    data, limits = piece.data, piece.limits
    on_stream = [_raw_of(event) for event in slow_stream(data, limits).events] == [data]
    as_datagram = _raw_of(slow_datagram(data, limits)) == data and len(data) <= MAX_DATAGRAM_BYTES
    seen: list[object] = []
    for stream, is_right in ((True, on_stream), (False, as_datagram)):
        way = "stream" if stream else "datagram"
        try:
            message = check_outgoing(data, stream=stream, limits=limits)
        except InvalidMessage:
            assert not is_right, f"refused what a peer would accept ({way})"
            seen.append(f"refused ({way})")
        else:
            assert is_right, f"sent what a peer would refuse ({way})"
            assert message.raw == data
            seen.append(f"sent ({way})")
    return seen


def _raw_of(event: SlowEvent | DropReason) -> bytes | None:
    """The bytes of a message that nothing is wrong with."""
    if isinstance(event, SlowEvent) and event.kind == "message" and event.message is not None:
        return event.message.raw
    return None


def _defect(event: StreamEvent) -> object:
    return event.defect if isinstance(event, (Malformed, Broken)) else type(event)


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]
