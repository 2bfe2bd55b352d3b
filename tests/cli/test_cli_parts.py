"""The parts of the command line that need no pool: what it writes, reads, escapes and remembers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sippool._messages import Options, answer, asked_delay
from sippool._numbers import with_numbers
from sippool._report import NO_ANSWER, Result, as_json, as_text
from sippool._show import escape
from sippool.listen import Answerer
from sippool.ping import request_uri
from sippool_core import (
    Address,
    ConfigurationError,
    Flow,
    Limits,
    Message,
    MessageReceived,
    PoolConfig,
    QueueFull,
    Target,
    Transport,
    check_outgoing,
    frame_datagram,
)
from tests.commands import request

LOCAL = Address("127.0.0.1", 5060)
PEER = Address("127.0.0.1", 5999)


def parsed(data):
    message = frame_datagram(data, Limits())
    assert isinstance(message, Message)
    return message


@given(st.binary(max_size=300))
def test_what_is_escaped_is_one_printable_ascii_line(data):
    shown = escape(data)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 4 * 200 + len("... (300 bytes)")
    assert ("... (" in shown) or len(data) <= 200 or b"... (" in data


def test_escapes_can_be_told_from_what_looks_like_one():
    assert escape(b"\\x1b") != escape(b"\x1b")
    assert escape("naïve") == "na\\xc3\\xafve"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("250", 0.25),
        ("0", 0),
        ("0000000000000060000", 60),
        ("60001", 60),
        ("9" * 5000, 60),
        ("-5", 0),
        ("1e3", 0),
        ("", 0),
        ("\u0663", 0),
    ],
)
def test_how_long_an_answer_is_delayed(value, seconds):
    data = request("UDP").replace(
        b"Max-Forwards", b"X-Delay: " + value.encode() + b"\r\nMax-Forwards"
    )
    assert asked_delay(parsed(data)) == seconds


def test_an_answer_copies_what_it_must_and_no_more():
    received = request("TCP", "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK-below", "Subject: x")
    response = answer(parsed(received))
    lines = response.decode().split("\r\n")
    assert lines[0] == "SIP/2.0 200 OK"
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "Via",
        "Via",
        "From",
        "To",
        "Call-ID",
        "CSeq",
        "Content-Length",
        "",
        "",
    ]
    assert check_outgoing(response, stream=True, limits=Limits()).status == 200


def test_an_answer_to_compact_folded_and_repeated_headers():
    written = (
        request(
            "TCP", "F: <sip:second@test>;tag=x", "v : SIP/2.0/UDP 192.0.2.9\r\n\t;branch=z9hG4bK-b"
        )
        .replace(b"Call-ID:", b"i \t:")
        .replace(b"To: <sip", b't:\r\n "Folded\r\n   name" <sip')
        .replace(b"CSeq: 1", b"cSEQ:1")
    )
    message = parsed(written)
    response = parsed(answer(message))
    for name in ("via", "to", "call-id", "cseq"):
        assert [
            value.partition(b";tag=")[0] for value in response.headers(name)
        ] == message.headers(name)
    assert response.headers("from") == [b"<sip:a@127.0.0.1>;tag=from"]
    assert response.transaction_key == message.transaction_key


def test_a_retransmission_gets_the_same_tag_and_another_call_another():
    one, other = request("UDP"), request("UDP").replace(b"Call-ID: call@", b"Call-ID: case@")
    tags = [parsed(answer(parsed(data))).to_tag for data in (one, one, other)]
    assert tags[0] == tags[1] != tags[2]
    assert {len(tag) for tag in tags} == {16}


@pytest.mark.parametrize("transport", list(Transport))
def test_an_options_request_is_one_the_pool_accepts_and_knows_its_answer(transport):
    options = Options.new("sip:host.test", transport, LOCAL, number=7)
    message = check_outgoing(bytes(options), stream=True, limits=Limits())
    assert (message.method, message.cseq_number, message.uri) == ("OPTIONS", 7, b"sip:host.test")
    assert options.is_answered_by(parsed(answer(message)))
    assert not options.is_answered_by(message)
    another = Options.new("sip:host.test", transport, LOCAL, number=7, call_id=options.call_id)
    assert not another.is_answered_by(parsed(answer(message)))


class FakePool:
    """Remembers what is replied; refuses when told so."""

    def __init__(self):
        self.replied = []
        self.refuses = False

    def reply(self, received, response):
        if self.refuses:
            raise QueueFull("no more")
        self.replied.append(received.message.cseq_number)


class Rig:
    def __init__(self, max_delayed=3):
        self.now = 100.0
        self.lines = []
        self.touched = 0
        self.pool = FakePool()
        self.answerer = Answerer(
            show=self.lines.append, clock=lambda: self.now, max_delayed=max_delayed
        )
        self.answerer.touch = self._touch

    def _touch(self):
        self.touched += 1

    def ask(self, number, delay):
        message = parsed(request("UDP", f"X-Delay: {delay}", number=number))
        flow = Flow(1, Transport.UDP, PEER, LOCAL, 1)
        self.answerer.handle(self.pool, MessageReceived(message, flow))


def test_delayed_answers_go_out_in_the_order_of_their_times():
    rig = Rig()
    for number, delay in ((1, 300), (2, 100), (3, 300)):
        rig.ask(number, delay)
    assert rig.touched == 2, "the third brought the next time no nearer"
    assert rig.answerer.next_due() == 100.1
    rig.answerer.answer_due(rig.pool)
    assert rig.pool.replied == []
    rig.now = 100.1
    rig.answerer.answer_due(rig.pool)
    assert rig.pool.replied == [2]
    rig.now = 200.0
    rig.answerer.answer_due(rig.pool)
    assert rig.pool.replied == [2, 1, 3]
    assert rig.answerer.next_due() is None
    assert rig.answerer.answered == 3


def test_beyond_the_bound_answers_go_out_at_once():
    rig = Rig(max_delayed=2)
    for number in (1, 2, 3):
        rig.ask(number, 1000)
    assert rig.pool.replied == [3]
    assert rig.answerer.owed == 2


def test_the_end_hastens_only_what_lies_beyond_it():
    rig = Rig()
    rig.ask(1, 4000)
    rig.ask(2, 6000)
    rig.answerer.hasten(105.0)
    rig.answerer.answer_due(rig.pool)
    assert rig.pool.replied == [2]
    rig.ask(3, 6000)
    assert rig.pool.replied == [2, 3]
    rig.now = 104.0
    rig.answerer.answer_due(rig.pool)
    assert rig.pool.replied == [2, 3, 1]


def test_an_answer_that_the_pool_refuses_is_counted_and_shown():
    rig = Rig()
    rig.pool.refuses = True
    rig.ask(1, 0)
    assert (rig.answerer.answered, rig.answerer.unanswerable) == (0, 1)
    assert rig.lines[0] == "not answered: no more"


def test_numbers_of_both_kinds_reach_the_configuration():
    config = with_numbers(PoolConfig(), ["max_connections=4000", "connect_seconds = 2.5"])
    assert config.limits.max_connections == 4000
    assert config.timeouts.connect_seconds == 2.5
    with pytest.raises(ConfigurationError, match=r"max_connections: '4\.5' is not a whole number"):
        with_numbers(PoolConfig(), ["max_connections=4.5"])


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("sip:host.test", "sip:host.test"),
        ("sips:alice@host.test:5071;lr?Subject=x", "sips:alice@host.test:5071;lr"),
        ("udp:192.0.2.1", "sip:192.0.2.1"),
        ("tcp:[2001:db8::1]:5070", "sip:[2001:db8::1]:5070;transport=tcp"),
        ("tls:host.test:5061", "sip:host.test;transport=tls"),
    ],
)
def test_the_uri_that_is_asked(text, uri):
    assert request_uri(text) == uri


@pytest.mark.parametrize(
    "text",
    [
        "sip:a b@host",
        "sip:a\r\nX: y@host",
        "sip:b\u00fccher.test",
        "udp:b\u00fccher.test",
        "sip:<x>@h",
    ],
)
def test_a_target_cannot_write_header_lines_of_its_own(text):
    with pytest.raises(ValueError, match="ASCII"):
        request_uri(text)


def test_a_failure_is_one_line_and_one_object():
    target = Target(Transport.TLS, PEER, "host.test")
    result = Result(NO_ANSWER, 3, target, "timeout", "bell \x07")
    assert as_text(result) == [
        "no answer: tls:127.0.0.1:5999 (host.test)  seq 3  (timeout: bell \\x07)"
    ]
    assert json.loads(as_json(result)) == {
        "seq": 3,
        "target": "tls:127.0.0.1:5999 (host.test)",
        "result": "no_answer",
        "why": "timeout",
        "detail": "bell \\x07",
    }
