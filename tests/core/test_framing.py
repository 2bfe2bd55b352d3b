"""What becomes of odd and hostile input on a stream and in a datagram, case by case.

The laws that hold for any input are in `test_framing_properties`.
"""

from __future__ import annotations

import pytest

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
from sippool_core.reasons import Defect, DropReason

LIMITS = Limits()
REQUEST_LINE = b"OPTIONS sip:bob@example.com SIP/2.0\r\n"
FIELDS = (
    b"Via: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1\r\n"
    b"From: <sip:alice@example.com>;tag=1\r\n"
    b"To: <sip:bob@example.com>\r\n"
    b"Call-ID: a@192.0.2.1\r\n"
    b"CSeq: 1 OPTIONS\r\n"
)
HEADER = REQUEST_LINE + FIELDS
WHOLE = HEADER + b"Content-Length: 0\r\n\r\n"
RESPONSE_HEADER = b"SIP/2.0 200 OK\r\n" + FIELDS


def events_of(data, limits=LIMITS, chunk_bytes=None):
    framer = StreamFramer(limits)
    events = []
    step = chunk_bytes or max(1, len(data))
    for at in range(0, len(data), step):
        framer.receive(data[at : at + step])
        while (event := framer.next_event()) is not None:
            events.append(event)
    return events


def only(data, limits=LIMITS):
    """The one event of a stream, which is the same in one read and byte by byte."""
    events = events_of(data, limits)
    assert events_of(data, limits, 1) == events
    (event,) = events
    return event


def accepted(data, limits=LIMITS):
    """The message of a stream that is nothing but one message."""
    event = only(data, limits)
    assert isinstance(event, Message)
    assert event.raw == data
    return event


def broken(data, limits=LIMITS):
    """The defect that ends a stream, and nothing is parsed behind it."""
    event = only(data + WHOLE, limits)
    assert isinstance(event, Broken)
    return event.defect


def malformed(data, limits=LIMITS):
    """The defect of a message after which the stream goes on."""
    first, second = events_of(data + WHOLE, limits)
    assert events_of(data + WHOLE, limits, 1) == [first, second]
    assert isinstance(first, Malformed)
    assert first.message.raw == data
    assert isinstance(second, Message)
    return first.defect


# -- Content-Length on a stream: who sees another length sees another message


def test_missing_content_length():
    event = only(HEADER + b"\r\n")
    assert event.defect is Defect.MISSING_CONTENT_LENGTH
    assert event.defect.status_code == 400
    assert event.message is not None
    assert event.message.can_be_answered
    assert event.message.body == b""
    assert broken(HEADER + b"\r\n") is Defect.MISSING_CONTENT_LENGTH


def test_a_broken_header_without_a_usable_via_is_not_handed_out():
    event = only(REQUEST_LINE + b"Call-ID: a\r\nCSeq: 1 OPTIONS\r\n\r\n")
    assert event == Broken(Defect.MISSING_CONTENT_LENGTH, None)


def test_equal_content_lengths_are_one():
    message = accepted(HEADER + b"Content-Length: 5\r\nX: y\r\nl:5\r\n\r\nhello")
    assert message.body == b"hello"


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 6\r\nX: y\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nl: 6\r\n",
        b"Content-Length : 5\r\nL: 600\r\n",
        b"Content-Length: 5\r\nContent-Length: 05\r\n",
    ],
)
def test_conflicting_content_lengths(lines):
    assert broken(HEADER + lines + b"\r\nhello") is Defect.CONFLICTING_CONTENT_LENGTH


@pytest.mark.parametrize(
    "value",
    [
        b"-1",
        b"five",
        b"",
        b"5 5",
        b"5, 5",
        b"5;q",
        b"0x5",
        b"+5",
        b"1_0",
        b"5.0",
        "\u0663".encode(),
        b"5\x0b",
        b"5\x00",
        b"1\r\n 2",
    ],
)
def test_a_content_length_is_digits_and_nothing_else(value):
    assert (
        broken(HEADER + b"Content-Length: " + value + b"\r\n\r\n") is Defect.INVALID_CONTENT_LENGTH
    )
    twice = b"l: 5\r\nContent-Length: " + value + b"\r\n\r\nhello"
    assert broken(HEADER + twice) is Defect.INVALID_CONTENT_LENGTH


@pytest.mark.parametrize("value", [b"4294967328", b"1" + b"0" * 400, b"9" * 5000])
def test_a_huge_content_length_is_never_converted_nor_waited_for(value):
    event = only(HEADER + b"Content-Length: " + value + b"\r\n\r\n")
    assert event.defect is Defect.BODY_TOO_LARGE
    assert event.defect.status_code == 413
    assert event.message.can_be_answered


def test_the_limit_of_the_body():
    limits = Limits(max_body_bytes=10)
    assert accepted(HEADER + b"l: 10\r\n\r\n" + b"x" * 10, limits).body == b"x" * 10
    assert broken(HEADER + b"l: 11\r\n\r\n" + b"x" * 11, limits) is Defect.BODY_TOO_LARGE


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length: 0000000005",
        b"Content-Length:" + b"0" * 60 + b"5",
        b"Content-Length \t : 5",
        b"Content-Length: 5 \t",
        b"l:5",
        b"L : 5",
        b"CONTENT-length:5",
        b"Content-Length:\r\n 5",
        b"Content-Length: 5\r\n ",
        b"Subject: x\r\n l: 99\r\nl: 5",
    ],
)
def test_legal_spellings_of_content_length(line):
    assert accepted(HEADER + line + b"\r\n\r\nhello").body == b"hello"


@pytest.mark.parametrize(
    "name",
    [
        b"Content-Length\x00",
        b"Content-Length\x0b",
        b"Content-Length \x01",
        b"Content-\x7fLength",
        b"Content-Length\xc2\xa0",
        b"\x00l",
        b"Content Length\r\n ".replace(b" ", b"-", 1),
    ],
)
def test_what_somebody_else_may_take_for_content_length(name):
    data = HEADER + b"l: 0\r\n" + name + b": 5\r\n\r\nhello"
    assert broken(data) is Defect.SUSPICIOUS_CONTENT_LENGTH


def test_another_token_is_another_header():
    assert accepted(HEADER + b"Content_Length: x\r\nl: 0\r\n\r\n")


# -- the lines of a header


@pytest.mark.parametrize(
    ("data", "defect"),
    [
        (HEADER.replace(b"\r\n", b"\n") + b"\n", Defect.BARE_LF),
        (HEADER + b"X: y\nl: 0\r\n\r\n", Defect.BARE_LF),
        (HEADER + b"l: 0\n\n", Defect.BARE_LF),
        (HEADER + b"l: 0\n\r\n", Defect.BARE_LF),
        (HEADER + b"X: y\rl: 0\r\n\r\n", Defect.BARE_CR),
        (HEADER + b"l: 0\r\n\r\r\n", Defect.BARE_CR),
        (HEADER + b"l: 0\r\r\n", Defect.BARE_CR),
        (b"OPTIONS\nsip:x SIP/2.0\r\n", Defect.BARE_LF),
        (b"\n", Defect.BARE_LF),
        (b"\rX", Defect.BARE_CR),
        (b"\r\n\r\r\n", Defect.BARE_CR),
    ],
)
def test_bare_line_ends(data, defect):
    assert [event.defect for event in events_of(data) if isinstance(event, Broken)] == [defect]
    assert events_of(data, chunk_bytes=1) == events_of(data)


@pytest.mark.parametrize(
    ("line", "defect"),
    [
        (b"no colon", Defect.HEADER_LINE),
        (b"no colon\r\n but a fold", Defect.HEADER_LINE),
        (b"Content-Length", Defect.HEADER_LINE),
        (b"", None),
        (b": no name", Defect.HEADER_NAME),
        (b"bad name: x", Defect.HEADER_NAME),
        (b"Route\x01: x", Defect.HEADER_NAME),
        (b"n\xc3\xa4me: x", Defect.HEADER_NAME),
        (b"X\r\n : folded before its colon", Defect.HEADER_NAME),
    ],
)
def test_a_bad_line_leaves_the_end_of_the_message_known(line, defect):
    data = HEADER + (line + b"\r\n" if line else b"") + b"Content-Length: 5\r\n\r\nhello"
    if defect is None:
        assert accepted(data)
    else:
        assert malformed(data) is defect
        assert defect.status_code == 400


def test_a_start_line_cannot_be_folded():
    data = REQUEST_LINE + b" \r\n" + FIELDS + b"l: 0\r\n\r\n"
    assert malformed(data) is Defect.START_LINE


def test_values_are_any_bytes_but_line_ends():
    line = b'Subject: \xff\xfe "\x00\x7f\\\x00" \xc3\xa9\r\n'
    assert accepted(HEADER + line + b"l: 2\r\n\r\n\x00\xff").body == b"\x00\xff"


def padded(header_bytes):
    """A message whose header has exactly that many bytes before the CRLFCRLF."""
    head = HEADER + b"l: 0\r\nX: "
    return head + b"x" * (header_bytes - len(head)) + b"\r\n\r\n"


@pytest.mark.parametrize("chunk_bytes", [None, 1, 2**14, 2**14 + 1, 2**14 + 2, 2**14 + 3])
def test_the_limit_of_the_header_does_not_depend_on_the_reads(chunk_bytes):
    (message,) = events_of(padded(2**14), chunk_bytes=chunk_bytes)
    assert message.raw == padded(2**14)
    assert events_of(padded(2**14 + 1), chunk_bytes=chunk_bytes) == [
        Broken(Defect.HEADER_TOO_LARGE, None)
    ]
    assert Defect.HEADER_TOO_LARGE.status_code == 513


def test_an_endless_header_is_not_held():
    framer = StreamFramer(LIMITS)
    framer.receive(REQUEST_LINE)
    most = 0
    event = None
    while event is None:
        framer.receive(b"X" * 100)
        event = framer.next_event()
        most = max(most, framer.buffered_bytes)
    assert event == Broken(Defect.HEADER_TOO_LARGE, None)
    assert most <= 2**14 + 4


def test_a_start_line_without_end():
    assert broken(b"OPTIONS " + b"x" * 2**14) is Defect.HEADER_TOO_LARGE


def test_the_limit_of_lines():
    rest = FIELDS.count(b"\r\n") + 1
    fits = HEADER + b"a:\r\n" * (256 - rest) + b"l: 0\r\n\r\n"
    assert accepted(fits)
    assert broken(HEADER + b"a:\r\n" * (257 - rest) + b"l: 0\r\n\r\n") is Defect.TOO_MANY_HEADERS
    folded = HEADER + b"a:" + b"\r\n b" * (256 - rest) + b"\r\nl: 0\r\n\r\n"
    assert broken(folded) is Defect.TOO_MANY_HEADERS
    assert Defect.TOO_MANY_HEADERS.status_code == 513


def test_what_comes_first_counts():
    one_too_many = HEADER + b"a:\r\n" * (257 - FIELDS.count(b"\r\n"))
    assert broken(one_too_many + b"\n") is Defect.TOO_MANY_HEADERS
    assert broken(one_too_many[:-4] + b"\n") is Defect.BARE_LF
    many = HEADER + b"a:\r\n" * 300
    assert broken(many + b"\n") is Defect.TOO_MANY_HEADERS
    assert broken(HEADER + b"\n" + b"a:\r\n" * 300) is Defect.BARE_LF
    assert broken(HEADER + b"a: \n" + b"x" * 2**14) is Defect.BARE_LF
    assert broken(b"GET / HTTP/1.1\r\n\n") is Defect.NOT_SIP


def test_many_usual_lines_before_a_bad_one_take_no_longer():
    """A pattern that can match a line in two ways would try two to the power of all these lines."""
    lines = b"Contact: <sip:a>\r\nTimestamp: 1\r\nX: y\r\n" * 80
    assert malformed(HEADER + b"l: 0\r\n" + lines + b"no colon\r\n\r\n") is Defect.HEADER_LINE
    via = b"v: SIP/2.0/UDP a" + b";x=y;z" * 2000 + b";\r\n"
    assert malformed(REQUEST_LINE + via + FIELDS + b"l: 0\r\n\r\n") is Defect.VIA


# -- other protocols, other versions


@pytest.mark.parametrize(
    "line",
    [
        b"POST / HTTP/1.1\r\n",
        b"GET /\r\n",
        b"OPTIONS\r\n",
        b"OPTIONS \r\n",
        b"OPTIONS sip:x\r\n",
        b"OPTIONS sip:x SIP\r\n",
        b"OPTIONS sip:x SIP/2\r\n",
        b"OPTIONS\x01sip:x SIP/2.0\r\n",
        b"SIP/2.0x 200 OK\r\n",
        b"SIP/2 200 OK\r\n",
    ],
)
def test_another_protocol_is_refused_at_its_first_line(line):
    assert only(line) == Broken(Defect.NOT_SIP, None)


@pytest.mark.parametrize("first", [b"\x16", b"\x00", b"\x80", b" ", b":", b"\xff"])
def test_another_protocol_is_refused_at_its_first_byte(first):
    assert only(first) == Broken(Defect.NOT_SIP, None)


@pytest.mark.parametrize(
    ("start_line", "defect", "is_request", "method"),
    [
        (b"INVITE sip:x SIP/7.0", Defect.VERSION, True, "INVITE"),
        (b"INVITE sip:x SIP/2.00", Defect.VERSION, True, "INVITE"),
        (b"SIP/3.0 200 OK", Defect.VERSION, False, "OPTIONS"),
        (b"SIP/2.0 99 Low", Defect.STATUS_CODE, False, "OPTIONS"),
        (b"SIP/2.0 099 Low", Defect.STATUS_CODE, False, "OPTIONS"),
        (b"SIP/2.0 700 High", Defect.STATUS_CODE, False, "OPTIONS"),
        (b"SIP/2.0 4294967301 Long", Defect.STATUS_CODE, False, "OPTIONS"),
        (b"SIP/2.0 200", Defect.START_LINE, False, "OPTIONS"),
        (b"SIP/2.0", Defect.START_LINE, False, "OPTIONS"),
        (b"SIP/2.0  200 OK", Defect.START_LINE, False, "OPTIONS"),
        (b"SIP/2.0 200 N\x00L", Defect.START_LINE, False, "OPTIONS"),
        (b"INVITE  sip:x SIP/2.0", Defect.START_LINE, True, "INVITE"),
        (b"INVITE sip:x  SIP/2.0", Defect.START_LINE, True, "INVITE"),
        (b"INVITE sip:x y SIP/2.0", Defect.START_LINE, True, "INVITE"),
        (b"INVITE\tsip:x\tSIP/2.0", Defect.START_LINE, True, "INVITE"),
        (b"INVITE sip:x SIP/2.0 ", Defect.START_LINE, True, "INVITE"),
        (b"INVITE sip:\x00 SIP/2.0", Defect.START_LINE, True, "INVITE"),
        (b"INVITE SIP/2.0", Defect.START_LINE, True, "INVITE"),
    ],
)
def test_start_lines_with_a_mistake(start_line, defect, is_request, method):
    data = start_line + b"\r\n" + FIELDS + b"l: 0\r\n\r\n"
    assert malformed(data) is defect
    message = events_of(data)[0].message
    assert (message.is_request, message.method) == (is_request, method)


def test_another_version_may_be_told_so():
    event = only(HEADER.replace(b"SIP/2.0\r", b"SIP/7.0\r", 1) + b"l: 0\r\n\r\n")
    assert event.defect.status_code == 505
    assert event.message.can_be_answered


@pytest.mark.parametrize("version", [b"SIP/2.0", b"sip/2.0", b"Sip/2.0"])
def test_the_version_has_no_case(version):
    assert accepted(b"OPTIONS sip:x " + version + b"\r\n" + FIELDS + b"l: 0\r\n\r\n")
    assert accepted(version + b" 200 \r\n" + FIELDS + b"l: 0\r\n\r\n").status == 200


# -- keep-alives


def test_two_line_ends_between_messages_are_a_ping():
    assert only(b"\r\n\r\n") is Ping.PING
    assert events_of(b"\r\n\r\n" * 2 + b"\r\n") == [Ping.PING, Ping.PING]
    data = WHOLE + b"\r\n\r\n" + WHOLE
    assert [type(event) for event in events_of(data)] == [Message, Ping, Message]
    assert events_of(data, chunk_bytes=1) == events_of(data)


def test_one_line_end_is_nothing_and_a_message_starts_the_count_anew():
    data = b"\r\n" + WHOLE + b"\r\n" + WHOLE
    assert [type(event) for event in events_of(data)] == [Message, Message]
    assert events_of(data, chunk_bytes=1) == events_of(data)


def test_line_ends_within_a_message_are_its_own():
    assert accepted(HEADER + b"l: 8\r\n\r\n" + b"\r\n" * 4).body == b"\r\n" * 4


def test_half_a_keepalive_is_no_message():
    framer = StreamFramer(LIMITS)
    framer.receive(b"\r\n\r")
    assert framer.next_event() is None
    assert framer.buffered_bytes == 1
    assert not framer.in_message
    framer.receive(b"\n")
    assert framer.next_event() is Ping.PING


def test_a_flood_of_keepalives():
    events = events_of(b"\r\n" * 2**19)
    assert events == [Ping.PING] * 2**14 + [Broken(Defect.KEEPALIVE_FLOOD, None)]


def test_forgiven_keepalives_are_not_counted():
    framer = StreamFramer(Limits(max_keepalive_bytes=4))
    for _ in range(3):
        framer.receive(b"\r\n\r\n" + WHOLE)
        assert framer.next_event() is Ping.PING
        assert isinstance(framer.next_event(), Message)
        framer.forgive_keepalives()
    framer.receive(b"\r\n\r\n" + WHOLE + b"\r\n")
    assert framer.next_event() is Ping.PING
    assert isinstance(framer.next_event(), Message)
    assert framer.next_event() == Broken(Defect.KEEPALIVE_FLOOD, None)


# -- pieces


def test_a_message_in_two_pieces_at_every_place():
    data = HEADER + b"l: 5\r\n\r\nhello"
    for at in range(1, len(data)):
        framer = StreamFramer(LIMITS)
        framer.receive(data[:at])
        assert framer.next_event() is None
        assert framer.in_message
        assert framer.buffered_bytes == at
        framer.receive(data[at:])
        message = framer.next_event()
        assert isinstance(message, Message)
        assert message.raw == data
        assert framer.next_event() is None
        assert not framer.in_message
        assert framer.buffered_bytes == 0


def test_a_thousand_messages_in_one_read_come_in_order():
    written = [WHOLE.replace(b"CSeq: 1 ", b"CSeq: %d " % number) for number in range(1000)]
    events = events_of(b"".join(written))
    assert [event.raw for event in events] == written


def test_what_is_left_over_is_told():
    framer = StreamFramer(LIMITS)
    framer.receive(WHOLE + WHOLE[:30])
    assert isinstance(framer.next_event(), Message)
    assert framer.next_event() is None
    assert framer.in_message
    assert framer.buffered_bytes == 30


def test_a_message_behind_another_may_come_in_pieces():
    second = HEADER + b"l: 5\r\n\r\nhello"
    framer = StreamFramer(LIMITS)
    framer.receive(WHOLE + second[:-3])
    assert isinstance(framer.next_event(), Message)
    assert framer.next_event() is None
    for piece in (b"l", b"lo"):
        framer.receive(piece)
        event = framer.next_event()
    assert isinstance(event, Message)
    assert event.raw == second


def test_after_broken_everything_is_discarded():
    framer = StreamFramer(LIMITS)
    framer.receive(b"\x00" + WHOLE)
    assert framer.next_event() == Broken(Defect.NOT_SIP, None)
    assert framer.next_event() is None
    framer.receive(WHOLE)
    assert framer.next_event() is None
    assert framer.buffered_bytes == 0
    assert not framer.in_message


# -- datagrams


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"\r\n\r\n",
        b"\0\0\0\0",
        b"\r\n\0" * 10,
        b"jaK\0",
        b"x" * 12,
        b"\r\n\r\nOPTIONS",
    ],
)
def test_keepalive_datagrams(data):
    assert frame_datagram(data, LIMITS) is DropReason.KEEPALIVE


def test_what_follows_the_body_of_a_datagram_is_cut_off():
    message = frame_datagram(HEADER + b"l: 5\r\n\r\nhello" + WHOLE, LIMITS)
    assert isinstance(message, Message)
    assert message.raw == HEADER + b"l: 5\r\n\r\nhello"


def test_a_datagram_shorter_than_its_content_length():
    event = frame_datagram(HEADER + b"l: 6\r\n\r\nhello", LIMITS)
    assert isinstance(event, Malformed)
    assert event.defect is Defect.SHORT_BODY
    assert event.defect.status_code == 400
    assert event.message.can_be_answered
    short = RESPONSE_HEADER + b"l: 6\r\n\r\nhello"
    assert frame_datagram(short, LIMITS) is DropReason.MALFORMED_RESPONSE
    huge = frame_datagram(HEADER + b"l: 4294967301\r\n\r\nhello", LIMITS)
    assert isinstance(huge, Malformed)
    assert huge.defect is Defect.SHORT_BODY


def test_a_datagram_without_content_length_ends_where_it_ends():
    message = frame_datagram(HEADER + b"\r\nhello\r\n\r\n", LIMITS)
    assert isinstance(message, Message)
    assert message.body == b"hello\r\n\r\n"
    assert message.content_length is None


@pytest.mark.parametrize(
    ("lines", "defect"),
    [
        (b"l: -1\r\n", Defect.INVALID_CONTENT_LENGTH),
        (b"l: 5\r\nl: 6\r\n", Defect.CONFLICTING_CONTENT_LENGTH),
        (b"l\x00: 5\r\n", Defect.SUSPICIOUS_CONTENT_LENGTH),
        (b"no colon\r\n", Defect.HEADER_LINE),
        (b"X: y\nZ: y\r\n", Defect.BARE_LF),
        (b"X: y\rZ: y\r\n", Defect.BARE_CR),
        (b"a:\r\n" * 300, Defect.TOO_MANY_HEADERS),
        (b"a: " + b"x" * 2**14 + b"\r\n", Defect.HEADER_TOO_LARGE),
        (b"a:\r\n" * 5000, Defect.TOO_MANY_HEADERS),
    ],
)
def test_a_datagram_with_a_defect(lines, defect):
    """A request may be answered; a response is dropped, for its sender could not use an answer."""
    event = frame_datagram(HEADER + lines + b"\r\nhello", LIMITS)
    assert isinstance(event, Malformed)
    assert event.defect is defect
    assert event.message.can_be_answered
    assert (
        frame_datagram(RESPONSE_HEADER + lines + b"\r\n", LIMITS) is DropReason.MALFORMED_RESPONSE
    )


@pytest.mark.parametrize("beyond", [-4, -3, -2, -1, 0, 1])
def test_an_oversized_header_of_a_datagram_may_have_a_line_end_anywhere(beyond):
    """A CR that is the last byte looked at is not bare."""
    lines = b"X: " + b"x" * (2**14 - len(HEADER) - 3 + 4 + beyond) + b"\r\nY: y\r\n"
    event = frame_datagram(HEADER + lines + b"\r\n", LIMITS)
    assert isinstance(event, Malformed)
    assert event.defect is Defect.HEADER_TOO_LARGE
    assert only(HEADER + lines + b"\r\n") == Broken(Defect.HEADER_TOO_LARGE, None)


def test_of_an_oversized_header_only_the_limits_are_read():
    limits = Limits(max_header_bytes=len(HEADER) + 10, max_header_lines=6)
    event = frame_datagram(HEADER + b"A: b\r\nC: d\r\n\r\n", limits)
    assert isinstance(event, Malformed)
    assert event.message.raw == HEADER + b"A: b\r\n\r\n"
    event = frame_datagram(HEADER + b"A: 345678901\r\n\r\nbody", limits)
    assert event == Malformed(Defect.HEADER_TOO_LARGE, event.message)
    assert event.message.raw == HEADER + b"\r\n"


@pytest.mark.parametrize(
    "data",
    [
        HEADER,
        WHOLE.replace(b"\r\n", b"\n"),
        WHOLE.replace(b"SIP/2.0\r", b"HTTP/1.1\r", 1),
        b"\x00\x01\x00\x00\x21\x12\xa4\x42" + b"\x07" * 12,
        b"\x16\x03\x01" + b"\x02" * 100 + b"\r\n\r\n",
        b"x" * 100,
        b"\r\n" * 2000 + b"x" * 100,
        b"\0" + WHOLE,
    ],
)
def test_datagrams_that_are_not_sip(data):
    assert frame_datagram(data, LIMITS) is DropReason.NOT_SIP


def test_a_datagram_may_begin_with_line_ends():
    message = frame_datagram(b"\r\n\r\n" + WHOLE, LIMITS)
    assert isinstance(message, Message)
    assert message.raw == WHOLE


def test_the_largest_datagram_full_of_spaces():
    data = b"OPTIONS " + b" " * 60000 + b"sip:x SIP/2.0\r\n" + FIELDS + b"\r\n"
    data += b"x" * (MAX_DATAGRAM_BYTES - len(data))
    event = frame_datagram(data, LIMITS)
    assert isinstance(event, Malformed)
    assert event.defect is Defect.HEADER_TOO_LARGE


def test_the_body_of_a_datagram_has_the_same_limit():
    event = frame_datagram(HEADER + b"\r\n" + b"x" * 11, Limits(max_body_bytes=10))
    assert isinstance(event, Malformed)
    assert event.defect is Defect.BODY_TOO_LARGE


# -- what we send


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (WHOLE + WHOLE, "behind the body"),
        (HEADER + b"l: 4\r\n\r\nhello", "1 bytes behind the body"),
        (HEADER + b"l: 6\r\n\r\nhello", "not whole|short_body"),
        (HEADER + b"l: 0\r\nX: y\nl: 5\r\n\r\n", "bare_lf"),
        (HEADER + b"l: x\r\n\r\n", "invalid_content_length"),
        (HEADER + b"no colon\r\nl: 0\r\n\r\n", "header_line"),
        (HEADER + b"l: 0\r\n", "not whole|not_sip"),
        (b"\r\n" + WHOLE, "empty line"),
        (b"\r\n\r\n", "empty line"),
        (b"", "not whole|keepalive"),
        (b"\n" + WHOLE, "bare_lf|not_sip"),
        (HEADER + b"X: y\rZ: y\r\nl: 0\r\n\r\n", "bare_cr"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_not_sent(data, words, stream):
    with pytest.raises(InvalidMessage, match=words):
        check_outgoing(data, stream=stream, limits=LIMITS)
    with pytest.raises(ValueError, match=words):
        check_outgoing(data, stream=stream, limits=LIMITS)


def test_content_length_may_be_missing_only_in_a_datagram():
    assert check_outgoing(HEADER + b"\r\nhello", stream=False, limits=LIMITS).body == b"hello"
    with pytest.raises(InvalidMessage, match="missing_content_length"):
        check_outgoing(HEADER + b"\r\nhello", stream=True, limits=LIMITS)


def test_a_datagram_that_no_network_takes():
    body = b"x" * (MAX_DATAGRAM_BYTES - len(HEADER) - 2)
    assert check_outgoing(HEADER + b"\r\n" + body, stream=False, limits=LIMITS).body == body
    with pytest.raises(InvalidMessage, match="65508 bytes"):
        check_outgoing(HEADER + b"\r\n" + body + b"x", stream=False, limits=LIMITS)
