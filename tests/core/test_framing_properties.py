"""Laws of framing, for any bytes in any pieces. The examples are in `test_framing`."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sippool.testing.strategies import hostile, messages, requests, splits, streams
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
from sippool_core.reasons import Defect, DropReason

LIMITS = Limits(
    max_header_bytes=900,
    max_body_bytes=220,
    max_header_lines=40,
    max_keepalive_bytes=64,
    max_queued_bytes=2**16,
)
GENEROUS = Limits()
BOTH = pytest.mark.parametrize("limits", [GENEROUS, LIMITS], ids=["default limits", "small limits"])

FACTS = (
    "is_request",
    "method",
    "uri",
    "status",
    "reason_phrase",
    "via",
    "call_id",
    "cseq_number",
    "cseq_method",
    "from_tag",
    "to_tag",
    "content_length",
    "can_be_answered",
    "transaction_key",
    "client_key",
    "body",
)


def facts(message):
    return {name: getattr(message, name) for name in FACTS}


def drain(framer):
    events = []
    while (event := framer.next_event()) is not None:
        events.append(event)
    return events


def frame(chunks, limits):
    framer = StreamFramer(limits)
    events = []
    for chunk in chunks:
        framer.receive(chunk)
        events += drain(framer)
    return events, framer


def one_by_one(data):
    return [data[at : at + 1] for at in range(len(data))]


@BOTH
@given(data=st.data())
def test_any_split_gives_the_same_events(data, limits):
    stream = data.draw(hostile() | streams().map(lambda pair: pair[0]))
    whole, whole_framer = frame([stream], limits)
    for chunks in (data.draw(splits(stream)), one_by_one(stream)):
        events, framer = frame(chunks, limits)
        assert events == whole
        assert framer.buffered_bytes == whole_framer.buffered_bytes
        assert framer.in_message == whole_framer.in_message


@given(data=st.data())
def test_receiving_everything_before_taking_anything_changes_nothing(data):
    stream = data.draw(hostile())
    framer = StreamFramer(LIMITS)
    for chunk in data.draw(splits(stream)):
        framer.receive(chunk)
    assert drain(framer) == frame([stream], LIMITS)[0]


@BOTH
@given(data=hostile())
def test_any_bytes_are_events_and_never_an_exception(data, limits):
    events, _ = frame([data], limits)
    assert all(isinstance(event, Message | Malformed | Broken | Ping) for event in events)
    assert isinstance(frame_datagram(data, limits), Message | Malformed | DropReason)


@given(data=hostile())
def test_everything_can_be_asked_of_a_message_whatever_is_wrong_with_it(data):
    events = [*frame([data], LIMITS)[0], frame_datagram(data, LIMITS)]
    for event in events:
        message = event if isinstance(event, Message) else getattr(event, "message", None)
        if message is not None:
            facts(message)
            repr(message)
            assert hash(message) == hash(message.raw)
            assert all(isinstance(value, bytes) for value in message.headers("Via"))
            if message.can_be_answered:
                assert message.is_request
                assert message.via is not None
                assert message.call_id


@given(streams(max_messages=3))
def test_a_stream_yields_the_messages_that_were_written(stream):
    data, written = stream
    events, framer = frame([data], GENEROUS)
    assert [event.raw for event in events if isinstance(event, Message)] == [
        message.raw for message in written
    ]
    assert all(isinstance(event, Message | Ping) for event in events)
    assert framer.buffered_bytes == 0


@given(messages() | messages(usual=True))
def test_a_message_is_read_as_it_was_written(written):
    framer = StreamFramer(GENEROUS)
    framer.receive(written.raw)
    message = framer.next_event()
    assert isinstance(message, Message)
    assert bytes(message) == message.raw == written.raw
    assert message.is_request == written.is_request
    assert message.method == message.cseq_method == written.method
    assert message.uri == written.uri
    assert message.status == written.status
    assert message.via is not None
    assert (message.via.host, message.via.port) == (written.host, written.port)
    assert message.via.branch == written.branch
    assert message.via.asks_rport == written.asks_rport
    assert message.call_id == written.call_id
    assert message.cseq_number == written.cseq_number
    assert message.from_tag == written.from_tag
    assert message.to_tag == written.to_tag
    assert message.body == written.body
    assert message.defect is None


@given(messages(content_length=False))
def test_a_datagram_is_read_like_a_stream_and_needs_no_content_length(written):
    message = frame_datagram(written.raw, GENEROUS)
    assert isinstance(message, Message)
    assert message.body == written.body
    streamed = frame([written.raw], GENEROUS)[0]
    if message.content_length is not None:
        assert streamed == [message]
        assert facts(streamed[0]) == facts(message)
    else:
        assert streamed[0].defect is Defect.MISSING_CONTENT_LENGTH
        assert streamed[0].message.via == message.via


@given(hostile() | messages(usual=True).map(bytes))
def test_the_usual_shape_is_read_like_any_other(data):
    """An odd header line more makes the reader take its other way; what it reads must be the same."""
    while data.startswith(b"\r\n"):
        data = data[2:]
    start, line_end, rest = data.partition(b"\r\n")
    odd = start + line_end + b"X-Odd : 1\r\n" + rest
    usual_way, other_way = frame_datagram(data, GENEROUS), frame_datagram(odd, GENEROUS)
    if isinstance(usual_way, DropReason) or isinstance(other_way, DropReason):
        return
    if rest[:1] in (b" ", b"\t"):
        return  # the fold would be another line's
    assert type(usual_way) is type(other_way)
    if isinstance(usual_way, Malformed) and isinstance(other_way, Malformed):
        assert usual_way.defect is other_way.defect
        usual_way, other_way = usual_way.message, other_way.message
    assert facts(usual_way) == facts(other_way)


def accepted(data, *, stream, limits=LIMITS):
    try:
        return check_outgoing(data, stream=stream, limits=limits)
    except InvalidMessage as error:
        assert str(error)
        return None


@given(hostile() | messages().map(bytes))
def test_what_may_be_sent_on_a_stream_is_what_a_stream_accepts(data):
    """Sent bytes are one message to the framer; and each message of the framer could have been sent."""
    outgoing = accepted(data, stream=True)
    events, framer = frame([data], LIMITS)
    assert (outgoing is not None) == (
        len(events) == 1
        and events[0] == outgoing
        and framer.buffered_bytes == 0
        and outgoing.raw == data
    )
    for event in events:
        if isinstance(event, Message):
            assert accepted(event.raw, stream=True) == event


@given(hostile() | messages(content_length=False).map(bytes))
def test_what_may_be_sent_in_a_datagram_is_what_a_datagram_accepts(data):
    outgoing = accepted(data, stream=False)
    received = frame_datagram(data, LIMITS)
    if outgoing is not None:
        assert received == outgoing
        assert outgoing.raw == data
    if isinstance(received, Message):
        assert accepted(received.raw, stream=False) == received


@given(data=st.data())
def test_what_is_held_has_a_bound(data):
    stream = data.draw(hostile() | st.builds(bytes.__mul__, hostile(), st.integers(1, 20)))
    framer = StreamFramer(LIMITS)
    bound = LIMITS.max_header_bytes + 4 + LIMITS.max_body_bytes
    for chunk in data.draw(splits(stream)):
        framer.receive(chunk)
        drain(framer)
        assert 0 <= framer.buffered_bytes < bound
        assert framer.buffered_bytes or not framer.in_message


@given(hostile(), streams().map(lambda pair: pair[0]))
@example(b"\0", b"OPTIONS sip:x SIP/2.0\r\n")
def test_after_broken_nothing_comes(data, more):
    events, framer = frame([data], LIMITS)
    if not any(isinstance(event, Broken) for event in events):
        framer.receive(b"\n")
        framer.receive(b"\0" * 2000)
        events += drain(framer)
    if isinstance(events[-1], Broken):
        framer.receive(more)
        assert framer.next_event() is None
        assert framer.buffered_bytes == 0
        assert not framer.in_message
    assert not any(isinstance(event, Broken) for event in events[:-1])


@given(requests() | requests(usual=True))
def test_a_request_and_its_response_have_the_same_keys(written):
    request = check_outgoing(written.raw, stream=True, limits=GENEROUS)
    names = ("Via", "From", "To", "Call-ID", "CSeq")
    lines = [name.encode() + b": " + value for name in names for value in request.headers(name)]
    lines[-3] += b";tag=added" if not request.to_tag else b""
    answer = b"\r\n".join((b"SIP/2.0 200 OK", *lines, b"Content-Length: 0", b"", b""))
    response = check_outgoing(answer, stream=True, limits=GENEROUS)
    assert response.transaction_key == request.transaction_key
    assert response.client_key == request.client_key
