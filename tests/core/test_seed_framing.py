"""What Net::SIP::SocketPool reads well, and what it reads wrongly, read right: one test id for each probe.

The ids are those of the table in docs/from-net-sip.md.
"""

import time

import pytest

from sippool_core import (
    ConnectionClosed,
    DropReason,
    FramingFailed,
    InputDropped,
    MalformedReceived,
    MessageReceived,
    PingReceived,
    PoolConfig,
)
from tests.core.rig import Rig, request, response

LIMIT = 2**14
BODY = b"hello"


def with_lines(*lines, body=BODY, first=b"OPTIONS sip:b@example.com SIP/2.0", cseq=b"1 OPTIONS"):
    """A request with these lines behind its Via, From, To, Call-ID and CSeq."""
    usual = (
        b"Via: SIP/2.0/TCP client.example.com;branch=z9hG4bKa",
        b"From: <sip:a@example.com>;tag=f",
        b"To: <sip:b@example.com>",
        b"Call-ID: c1",
        b"CSeq: " + cseq,
    )
    return b"\r\n".join((first, *usual, *lines)) + b"\r\n\r\n" + body


def without(line):
    return request().replace(line, b"", 1)


def status_line(line, *lines):
    return with_lines(b"Content-Length: 0", *lines, body=b"", first=line)


def of_header_size(size, **kwargs):
    """A request whose header is of that size, the empty line not counted."""
    empty = request(extra="X: \r\n", **kwargs)
    padding = size - (len(empty) - 4)
    return request(extra=f"X: {'x' * padding}\r\n", **kwargs)


GOOD = request()
FULL = of_header_size(LIMIT)


def read_stream(*segments, config=None):
    """What a connection delivers of these segments, and the rig."""
    rig = Rig(config)
    connection = rig.accept(rig.listen())
    for segment in segments:
        rig.data(connection, segment)
    return rig, connection


def read_datagrams(*datagrams):
    rig = Rig()
    listener = rig.listen("udp:192.0.2.1:5060")
    for datagram in datagrams:
        rig.datagram(listener, datagram)
    return rig


DELIVERED = [
    pytest.param((b"\r\n" + GOOD, b"\r\n" * 4 + GOOD), 2, id="F01"),
    pytest.param((b"\r", b"\n" + GOOD), 1, id="F02"),
    pytest.param(tuple(with_lines(b"l: 5")[n : n + 1] for n in range(len(with_lines(b"l: 5")))), 1, id="F04"),
    pytest.param((GOOD * 2,), 2, id="F06"),
    pytest.param((GOOD * 100,), 100, id="F07"),
    pytest.param((GOOD + GOOD[:90], GOOD[90:]), 2, id="F08"),
    pytest.param((with_lines(b"Content-Length: 5", b"Content-Length: 5"),), 1, id="F14"),
    pytest.param(
        tuple(with_lines(line) for line in (b"l: 5", b"L: 5", b"content-length: 5", b"CONTENT-LENGTH:5")),
        4,
        id="F16",
    ),
    pytest.param((with_lines(b"Content-Length : 5"),), 1, id="F18"),
    pytest.param((with_lines(b"Content-Length\t:\t5\t"),), 1, id="F19"),
    pytest.param((with_lines(b"Content-Length: 0005"),), 1, id="F23"),
    pytest.param((with_lines(b"Content-Length: " + b"0" * 60 + b"5"),), 1, id="F29"),
    pytest.param((FULL,), 1, id="F32"),
    pytest.param((FULL[: LIMIT + 2], FULL[LIMIT + 2 :]), 1, id="F34"),
    pytest.param((FULL[: LIMIT + 3], FULL[LIMIT + 3 :]), 1, id="F34-one-byte-left"),
    pytest.param((FULL[:LIMIT], FULL[LIMIT:]), 1, id="F35"),
    pytest.param((GOOD + FULL,), 2, id="F36"),
    pytest.param((request(body=bytes(2**16)),), 1, id="F37"),
    pytest.param((with_lines(b"Subject: one", b" two", b"l: 5"),), 1, id="F43"),
    pytest.param((with_lines(b"Content-Length:", b" 5"),), 1, id="F44"),
    pytest.param((with_lines(b"Subject: one", b" l: 99", b"l: 5"),), 1, id="F45"),
    pytest.param((with_lines(b"X: a\0b", b"l: 5", body=b"\0\0\0\0\0"),), 1, id="F47-value-and-body"),
    pytest.param((with_lines(b"Subject: \xff\xfe", b"l: 5", body=b"\xff\xfe\x80\x81\x82"),), 1, id="F48"),
    pytest.param((GOOD.replace(b"SIP/2.0\r", b"sip/2.0\r", 1),), 1, id="F53"),
    pytest.param((GOOD.replace(b"OPTIONS", b"X-Y.Z"),), 1, id="F54"),
    pytest.param((request("A-B"),), 1, id="F63"),
    pytest.param((with_lines(b'Contact: "open <sip:a@example.com>', b"l: 5"),), 1, id="F65"),
    pytest.param((status_line(b"SIP/2.0 200 "),), 1, id="F67"),
]  # fmt: skip


@pytest.mark.parametrize(("segments", "count"), DELIVERED)
def test_good_messages_are_delivered_and_the_connection_stays(segments, count):
    rig, connection = read_stream(*segments)
    received = rig.take(MessageReceived)
    assert len(received) == count
    assert not rig.take(MalformedReceived) and not rig.take(FramingFailed)
    assert not rig.wires[connection].shut and not rig.wires[connection].closed
    for event in received:
        if event.message.is_request:
            rig.reply(event, response(event.message))
            assert event.message.content_length == len(event.message.body)
    assert rig.wires[connection].written.count(b" OK\r\n") == sum(
        event.message.is_request for event in received
    )


@pytest.mark.parametrize("tail", [pytest.param(GOOD, id="F05")])
def test_a_message_split_in_two_at_any_byte_is_the_same_message(tail):
    message = with_lines(b"Content-Length: 5")
    for at in range(1, len(message)):
        rig, _ = read_stream(message[:at], message[at:] + tail)
        assert [event.message.body for event in rig.take(MessageReceived)] == [BODY, b""]


BROKEN = [
    pytest.param((b"\n" + GOOD,), 0, "bare_lf", id="F03"),
    pytest.param((without(b"Content-Length: 0\r\n"),), 0, "missing_content_length", id="F09"),
    pytest.param((GOOD + without(b"Content-Length: 0\r\n"),), 1, "missing_content_length", id="F10"),
    pytest.param((with_lines(b"l: 5", b"X: y", b"l: 6"),), 0, "conflicting_content_length", id="F11"),
    pytest.param((with_lines(b"l: 5", b"l: 6"),), 0, "conflicting_content_length", id="F12"),
    pytest.param((with_lines(b"l: 6", b"l: 500"),), 0, "conflicting_content_length", id="F13"),
    pytest.param((with_lines(b"l: 500", b"l: 6"),), 0, "conflicting_content_length", id="F13-larger-first"),
    pytest.param((with_lines(b"l: 5", b"l: 05"),), 0, "conflicting_content_length", id="F15"),
    pytest.param((with_lines(b"l: 5", b"Content-Length: 6"),), 0, "conflicting_content_length", id="F17"),
    pytest.param((with_lines(b"l: -5"),), 0, "invalid_content_length", id="F20"),
    pytest.param((with_lines(b"l: 1" + b"0" * 30),), 0, "body_too_large", id="F21"),
    pytest.param((with_lines(b"l: 0x5"),), 0, "invalid_content_length", id="F22"),
    pytest.param((with_lines(b"l: +5"),), 0, "invalid_content_length", id="F24"),
    pytest.param((with_lines(b"l: 5, 5"),), 0, "invalid_content_length", id="F25"),
    pytest.param((with_lines(b"l:"),), 0, "invalid_content_length", id="F26"),
    pytest.param((with_lines(b"l: 5;x=1"),), 0, "invalid_content_length", id="F27"),
    pytest.param((with_lines("l: \u0665".encode()),), 0, "invalid_content_length", id="F28"),
    pytest.param((with_lines(b"l: 5", b"l: abc"),), 0, "invalid_content_length", id="F30"),
    pytest.param((with_lines(b"l: 5", b"Content-Length : 6"),), 0, "conflicting_content_length", id="F31"),
    pytest.param((of_header_size(LIMIT + 1),), 0, "header_too_large", id="F33"),
    # Before the body arrives.
    pytest.param((with_lines(b"l: %d" % (2**16 + 1), body=b""),), 0, "body_too_large", id="F38"),
    pytest.param((GOOD.replace(b"\r\n", b"\n"),), 0, "bare_lf", id="F39"),
    pytest.param((GOOD.replace(b"\r\n", b"\r"),), 0, "bare_cr", id="F40"),
    pytest.param((GOOD[:-4].replace(b"\r\n", b"\n") + b"\r\n\r\n",), 0, "bare_lf", id="F41"),
    pytest.param((with_lines(b"X: y\n\nl: 36", b"l: 0", body=b""),), 0, "bare_lf", id="F42"),
    pytest.param((b"garbage, not a start line\r\n" + GOOD,), 0, "not_sip", id="F49"),
    pytest.param((b"GET / HTTP/1.1\r\nHost: a\r\n",), 0, "not_sip", id="F51"),
    pytest.param((b"\r\n" * 2**19 + GOOD,), 0, "keepalive_flood", id="F68"),
]  # fmt: skip


@pytest.mark.parametrize(("segments", "before", "defect"), BROKEN)
def test_where_the_end_is_unknown_nothing_after_it_is_believed(segments, before, defect):
    rig, connection = read_stream(*segments, GOOD)
    assert len(rig.take(MessageReceived)) == before
    [failed] = rig.take(FramingFailed)
    assert failed.defect.value == defect
    rig.advance(1.0)
    assert rig.wires[connection].closed
    assert not rig.take(MessageReceived) and rig.pool.stats.connections == 0


MALFORMED = [
    pytest.param((with_lines(b"X\0: y", b"l: 5"),), ["header_name"], id="F47-name"),
    pytest.param((GOOD.replace(b"SIP/2.0\r", b"SIP/3.0\r", 1),), ["version"], id="F52"),
    pytest.param((GOOD.replace(b"OPTIONS sip", b"OPTIONS  sip", 1),), ["start_line"], id="F55"),
    pytest.param((with_lines(b"no colon at all", b"l: 5"),), ["header_line"], id="F56"),
    pytest.param((with_lines(b"X Y: z", b"l: 5"),), ["header_name"], id="F57"),
    pytest.param((without(b"Call-ID: c1\r\n"),), ["call_id"], id="F58"),
    pytest.param((without(b"CSeq: 1 OPTIONS\r\n"),), ["cseq"], id="F59"),
    pytest.param((without(b"Via: SIP/2.0/TCP client.example.com:5060;branch=z9hG4bKa\r\n"),), ["via"], id="F60"),
    pytest.param((request(cseq=2**32), request(cseq=10**40)), ["cseq", "cseq"], id="F61"),
    pytest.param((GOOD.replace(b"1 OPTIONS", b"1 INVITE"),), ["method_mismatch"], id="F62"),
    pytest.param((with_lines(b"i: c2", b"l: 5"),), ["call_id"], id="F64"),
    pytest.param(
        (status_line(b"SIP/2.0 99 x"), status_line(b"SIP/2.0 2000 x")), ["status_code"] * 2, id="F66"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("segments", "defects"), MALFORMED)
def test_a_malformed_message_is_its_own_event_and_the_next_one_is_read(segments, defects):
    rig, connection = read_stream(*segments, request(branch="z9hG4bKnext"))
    malformed = rig.take(MalformedReceived)
    assert [event.defect.value for event in malformed] == defects
    [received] = rig.take(MessageReceived)
    assert received.message.via.branch == b"z9hG4bKnext"
    assert not rig.wires[connection].closed


@pytest.mark.parametrize(("segments", "defects"), MALFORMED)
def test_a_malformed_message_that_can_be_replied_to_can_be_replied_to(segments, defects):
    rig, connection = read_stream(*segments)
    answerable = [event for event in rig.take(MalformedReceived) if event.can_reply]
    for event in answerable:
        send_id = rig.reply(event, response(event.message, event.status_code))
        assert rig.outcomes[send_id].flow == event.flow
    assert rig.wires[connection].written.count(b" OK\r\n") == len(answerable)


@pytest.mark.parametrize("fold", [pytest.param(b"\r\n ", id="F46")])
def test_commas_after_a_fold_divide_values_like_those_before_it(fold):
    vias = b"Via: SIP/2.0/TCP b.example.com," + fold + b"SIP/2.0/TCP a.example.com"
    rig, _ = read_stream(with_lines(vias, b"l: 5"))
    [received] = rig.take(MessageReceived)
    first, second = received.message.headers("Via")
    assert received.message.via.host == "client.example.com" and first.endswith(b"192.0.2.9")
    assert second == b"SIP/2.0/TCP b.example.com, SIP/2.0/TCP a.example.com"


@pytest.mark.parametrize(
    "call_id",
    [
        pytest.param(b"\r\n c1", id="F69"),
        pytest.param(b" c1  ", id="F70"),
    ],
)
def test_blanks_around_a_call_id_are_no_part_of_it(call_id):
    message = GOOD.replace(b" c1\r\n", call_id + b"\r\n")
    rig, connection = read_stream(message)
    [received] = rig.take(MessageReceived)
    assert received.message.call_id == b"c1"
    # The answer finds its connection, though the stack wrote the Call-ID without the blanks.
    rig.send(response(message.replace(call_id + b"\r\n", b" c1\r\n")))
    assert rig.wires[connection].written.startswith(b"SIP/2.0 200")


@pytest.mark.parametrize("padding", [pytest.param(b"A" * 300, id="F50")])
def test_bytes_that_never_become_a_start_line_have_a_deadline(padding):
    rig, connection = read_stream(GOOD, padding)
    rig.take(object)
    rig.advance(20.1)
    [closed] = rig.take(ConnectionClosed)
    assert closed.reason.value == "message_timeout" and rig.wires[connection].closed


@pytest.mark.parametrize(
    "behind",
    [pytest.param(b"", id="F71"), pytest.param(bytes(100_000), id="F72")],
)
def test_good_requests_are_answered_and_the_bad_one_gets_its_400(behind):
    bad = without(b"Content-Length: 0\r\n").replace(b"z9hG4bKa", b"z9hG4bKbad")
    rig, connection = read_stream(GOOD + bad + behind)
    [good] = rig.take(MessageReceived)
    [failed] = rig.take(FramingFailed)
    rig.reply(failed, response(failed.message, failed.status_code))
    rig.reply(good, response(good.message))
    wire = rig.wires[connection]
    assert wire.written.startswith(b"SIP/2.0 400") and b"SIP/2.0 200" in wire.written
    # FIN first, and reading on: a close with unread bytes would be an RST that destroys the answers.
    assert wire.shut and not wire.closed and not wire.paused
    rig.data(connection, bytes(100_000))
    rig.eof(connection)
    assert wire.closed and not wire.aborted


@pytest.mark.parametrize(
    "segments",
    [
        pytest.param((b"\r\n\r\n",), id="F73"),
        pytest.param((b"\r", b"\n\r", b"\n"), id="F73-split"),
    ],
)
def test_a_ping_gets_its_pong(segments):
    rig, connection = read_stream(GOOD, *segments)
    assert rig.wires[connection].written == b"\r\n"
    assert len(rig.take(PingReceived)) == 1


def cpu_seconds(work):
    """CPU time of this process, so that a busy machine is no failure; every bound is a hundred times too wide."""
    started = time.process_time()
    work()
    return time.process_time() - started


@pytest.mark.parametrize(
    "where",
    [pytest.param("body", id="F74"), pytest.param("header", id="F75")],
)
def test_a_byte_dripped_behind_a_long_header_costs_no_second_look_at_it(where):
    megabytes = 4 * 2**20
    config = PoolConfig().replace(max_header_bytes=megabytes + 1000, max_queued_bytes=2**24)
    message = of_header_size(megabytes, body=bytes(3000))
    start = message.index(b"\r\n\r\n") + (4 if where == "body" else -3000)
    rig, connection = read_stream(message[:start], config=config)

    def drip():
        for at in range(start, start + 2500):
            rig.data(connection, message[at : at + 1])

    # Looking through 4 MiB for each of 2,500 bytes takes more than 1 s even of a memchr.
    assert cpu_seconds(drip) < 0.5
    rig.data(connection, message[start + 2500 :])
    assert len(rig.take(MessageReceived)) == 1


SPACES = b" " * 60_000
LONG_LINES = [
    pytest.param(b"SIP/2.0 200 x" + SPACES + b"y", id="F77-status-line"),
    pytest.param(b"OPTIONS x" + SPACES + b"y", id="F77-request-line"),
    pytest.param(b"OPTIONS x" + SPACES + b"SIP/2.0 y", id="F78"),
    pytest.param(b"OPTIONS x" + SPACES + b"SIP/2.0", id="F78-version-last"),
]


@pytest.mark.parametrize("line", LONG_LINES)
def test_a_start_line_full_of_spaces_is_read_in_no_time_from_a_datagram(line):
    datagram = with_lines(b"l: 5", first=line)
    rig = Rig()
    listener = rig.listen("udp:192.0.2.1:5060")
    assert cpu_seconds(lambda: rig.datagram(listener, datagram)) < 0.1
    assert not rig.take(MessageReceived)
    rig.datagram(listener, request(transport="UDP"))
    assert len(rig.take(MessageReceived)) == 1


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"OPTIONS x" + b" " * 16_000 + b"y", id="F76"),
        pytest.param(b"OPTIONS x" + b" " * 16_000 + b"SIP/2.0 y", id="F78"),
        pytest.param(b"SIP/2.0 200 x" + b" " * 16_000 + b"y", id="F77"),
    ],
)
def test_a_start_line_full_of_spaces_is_read_in_no_time_from_a_stream(line):
    rig = Rig()
    connection = rig.accept(rig.listen())
    assert cpu_seconds(lambda: rig.data(connection, with_lines(b"l: 5", first=line))) < 0.1


UDP_GOOD = request(transport="UDP", body=b"eleven byte")
UDP_DELIVERED = [
    pytest.param((b"", b"jaK\0", b"x" * 12, UDP_GOOD), b"eleven byte", id="U01"),
    pytest.param((UDP_GOOD.replace(b"Length: 11", b"Length: 5"),), b"eleve", id="U02"),
    pytest.param((UDP_GOOD.replace(b"Content-Length: 11\r\n", b""),), b"eleven byte", id="U04"),
    pytest.param((request(transport="UDP") * 2,), b"", id="U05"),
    pytest.param((b"\r\n" + UDP_GOOD,), b"eleven byte", id="U06"),
    pytest.param((UDP_GOOD.replace(b"Length:", b"Length :"),), b"eleven byte", id="U13"),
    pytest.param((b"g" * 100, UDP_GOOD), b"eleven byte", id="U14"),
    pytest.param((b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12), UDP_GOOD), b"eleven byte", id="U15"),
]


@pytest.mark.parametrize(("datagrams", "body"), UDP_DELIVERED)
def test_a_datagram_holds_one_message_and_its_body_ends_where_it_says(datagrams, body):
    rig = read_datagrams(*datagrams)
    [received] = rig.take(MessageReceived)
    assert received.message.body == body
    assert not rig.take(MalformedReceived)


@pytest.mark.parametrize("size", [pytest.param(65507, id="U12")])
def test_the_largest_datagram_is_delivered(size):
    head = len(request(transport="UDP", body=bytes(65000))) - 65000
    rig = read_datagrams(request(transport="UDP", body=bytes(size - head)))
    [received] = rig.take(MessageReceived)
    assert len(received.message.raw) - len(b";received=192.0.2.9") == size


UDP_MALFORMED = [
    pytest.param(UDP_GOOD.replace(b"Length: 11", b"Length: 50"), "short_body", 400, id="U03"),
    pytest.param(UDP_GOOD.replace(b"\r\nContent", b"\r\nl: 5\r\nContent"), "conflicting_content_length", 400, id="U09"),
    pytest.param(UDP_GOOD.replace(b"Length: 11", b"Length: -5"), "invalid_content_length", 400, id="U10"),
    pytest.param(of_header_size(30_000, transport="UDP"), "header_too_large", 513, id="U11"),
]  # fmt: skip


@pytest.mark.parametrize(("datagram", "defect", "status"), UDP_MALFORMED)
def test_a_bad_datagram_is_no_message_but_can_be_answered(datagram, defect, status):
    rig = read_datagrams(datagram)
    assert not rig.take(MessageReceived)
    [malformed] = rig.take(MalformedReceived)
    assert (malformed.defect.value, malformed.status_code) == (defect, status)
    assert malformed.can_reply
    rig.reply(malformed, response(malformed.message, status))
    assert len(rig.datagrams) == 1


@pytest.mark.parametrize(
    "datagram",
    [
        pytest.param(UDP_GOOD.replace(b"\r\n", b"\n"), id="U07"),
        pytest.param(request(transport="UDP")[:-2], id="U08"),
    ],
)
def test_a_datagram_without_an_empty_line_is_dropped(datagram):
    rig = read_datagrams(datagram)
    [dropped] = rig.take(InputDropped)
    assert dropped.reason is DropReason.NOT_SIP and not rig.take(MessageReceived)
