"""Targets below the pool: streams, datagrams, and what we would send ourselves.

They know the framer by its public functions only; the limits are small, so that they are reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from fuzz import target
from sippool.testing.strategies import hostile, messages, splits, streams
from sippool_core.config import Limits
from sippool_core.errors import InvalidMessage
from sippool_core.framing import (
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

    from sippool_core.framing import StreamEvent
    from sippool_core.reasons import DropReason

SMALL = Limits(
    max_header_bytes=900,
    max_body_bytes=100,
    max_header_lines=30,
    max_keepalive_bytes=64,
)
LIMITS = (Limits(), SMALL)
# The most that a framer may hold once it has nothing more to say.
HELD = {limits: limits.max_header_bytes + 4 + limits.max_body_bytes for limits in LIMITS}


def reached(event: StreamEvent | DropReason) -> object:
    """The defect or the reason, or the kind of event."""
    if isinstance(event, (Malformed, Broken)):
        return event.defect
    return type(event).__name__ if isinstance(event, (Message, Ping)) else event


def frame(chunks: Iterable[bytes], limits: Limits) -> tuple[list[StreamEvent], int, bool]:
    """All events of a stream, and what the framer holds after them."""
    framer = StreamFramer(limits)
    events: list[StreamEvent] = []
    for chunk in chunks:
        framer.receive(chunk)
        while (event := framer.next_event()) is not None:
            events.append(event)
        assert 0 <= framer.buffered_bytes < HELD[limits], "more is held than a message may have"
        broken = bool(events) and isinstance(events[-1], Broken)
        assert not (broken and framer.buffered_bytes), "something is held of a broken stream"
    return events, framer.buffered_bytes, framer.in_message


@st.composite
def chunked(draw: st.DrawFn) -> Sequence[bytes]:
    """A stream as the reads that bring it."""
    return draw(splits(draw(hostile() | streams().map(lambda pair: pair[0]))))


@target(chunked())
def framer(chunks: Sequence[bytes]) -> Iterable[object]:
    """Any split of a stream gives the same events, nothing follows a broken one, and memory is bounded."""
    stream = b"".join(chunks)
    seen: list[object] = []
    for limits in LIMITS:
        whole = frame([stream] if stream else [], limits)
        assert frame(chunks, limits) == whole, "split differently, read differently"
        singly = (stream[at : at + 1] for at in range(len(stream)))
        assert frame(singly, limits) == whole, "byte by byte, read differently"
        events, _, _ = whole
        assert not any(isinstance(event, Broken) for event in events[:-1])
        seen += map(reached, events)
    return seen


@target(hostile() | messages(content_length=False).map(bytes))
def datagram(data: bytes) -> Iterable[object]:
    """Any datagram is a message, a malformed request or a reason to drop it; what is a message may be sent."""
    seen: list[object] = []
    for limits in LIMITS:
        event = frame_datagram(data, limits)
        seen.append(reached(event))
        if isinstance(event, Message):
            assert check_outgoing(event.raw, stream=False, limits=limits) == event
            assert event.raw in data
        elif isinstance(event, Malformed):
            assert event.message.is_request, "nobody can be told about a malformed response"
    return seen


@target(hostile() | messages(content_length=False).map(bytes))
def outgoing(data: bytes) -> Iterable[object]:
    """We send exactly what we would accept: one whole message, to the last byte."""
    seen: list[object] = []
    for limits in LIMITS:
        events, held, _ = frame([data] if data else [], limits)
        one_message = len(events) == 1 and isinstance(events[0], Message) and not held
        one_message = one_message and not data.startswith(b"\r\n")
        try:
            message = check_outgoing(data, stream=True, limits=limits)
        except InvalidMessage:
            assert not one_message, "refused what a peer would accept"
            seen.append("refused")
        else:
            assert one_message, "sent what a peer would refuse"
            assert events == [message]
            assert message.raw == data
            seen.append("sent")
        seen += map(reached, events)
        for event in events:
            if isinstance(event, Message):
                assert check_outgoing(event.raw, stream=True, limits=limits) == event
    return seen
