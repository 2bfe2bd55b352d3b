"""The source of a request in its top Via, and where the answer goes (RFC 3261 section 18.2, RFC 3581)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sippool.testing.strategies import requests
from sippool_core.address import Address
from sippool_core.config import Limits
from sippool_core.framing import Malformed, check_outgoing, frame_datagram
from sippool_core.message import Message, Via, answer_address, stamp

SOURCE = Address("192.0.2.1", 40000)
V6 = Address("2001:db8::1", 40000)
START = b"OPTIONS sip:b SIP/2.0\r\nMax-Forwards: 70\r\n"
REST = (
    b"From: <sip:a>;tag=1\r\nTo: <sip:b>\r\nCall-ID: a\r\nCSeq: 1 OPTIONS\r\n"
    b"Via: SIP/2.0/UDP second;rport\r\nContent-Length: 4\r\n\r\nVia:"
)


def request(line, start=START):
    message = frame_datagram(start + line + b"\r\n" + REST, Limits())
    assert isinstance(message, Message)
    return message


def stamped(line, source=SOURCE):
    """The stamped Via line, after checking that nothing else has changed."""
    message = stamp(request(line), source)
    assert message.raw.startswith(START)
    assert message.raw.endswith(b"\r\n" + REST)
    assert message.body == b"Via:"
    assert message == frame_datagram(message.raw, Limits())
    assert message.via == frame_datagram(message.raw, Limits()).via
    return message.raw[len(START) : -len(REST) - 2]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # received: where sent-by does not hold the source
        (
            b"Via: SIP/2.0/UDP a.example;branch=1",
            b"Via: SIP/2.0/UDP a.example;branch=1;received=192.0.2.1",
        ),
        (b"Via: SIP/2.0/UDP 192.0.2.9", b"Via: SIP/2.0/UDP 192.0.2.9;received=192.0.2.1"),
        (
            b"v:SIP/2.0/UDP [2001:db8::1]:5060",
            b"v:SIP/2.0/UDP [2001:db8::1]:5060;received=192.0.2.1",
        ),
        # rport: received too, even where it says what sent-by says
        (
            b"Via: SIP/2.0/UDP 192.0.2.1;rport;branch=1",
            b"Via: SIP/2.0/UDP 192.0.2.1;rport=40000;branch=1;received=192.0.2.1",
        ),
        (
            b"Via: SIP/2.0/UDP a;branch=1;rport",
            b"Via: SIP/2.0/UDP a;branch=1;rport=40000;received=192.0.2.1",
        ),
        # what the peer says about itself does not count
        (
            b"Via: SIP/2.0/UDP a;received=192.0.2.66;branch=1;rport=66",
            b"Via: SIP/2.0/UDP a;received=192.0.2.1;branch=1;rport=40000",
        ),
        (
            b"Via: SIP/2.0/UDP a;RPort = 66 ;x; Received = [::1]",
            b"Via: SIP/2.0/UDP a;rport=40000 ;x;received=192.0.2.1",
        ),
        (b"Via: SIP/2.0/UDP 192.0.2.1;received=192.0.2.66;x", b"Via: SIP/2.0/UDP 192.0.2.1;x"),
        (b"Via: SIP/2.0/UDP 192.0.2.1;received=192.0.2.1", b"Via: SIP/2.0/UDP 192.0.2.1"),
        # only the first value, and its folds stay
        (
            b"Via: SIP/2.0/UDP a ;x , SIP/2.0/UDP b;rport",
            b"Via: SIP/2.0/UDP a ;x;received=192.0.2.1 , SIP/2.0/UDP b;rport",
        ),
        (b"Via: SIP/2.0/UDP a,b", b"Via: SIP/2.0/UDP a;received=192.0.2.1,b"),
        (
            b"VIA :\r\n SIP / 2.0\r\n\t/ UDP a\r\n ;\r\n rport\r\n ;x\r\n ",
            b"VIA :\r\n SIP / 2.0\r\n\t/ UDP a\r\n ;\r\n rport=40000\r\n ;x;received=192.0.2.1\r\n ",
        ),
        (
            b'Via: SIP/2.0/UDP a;x=",;rport;received=b"',
            b'Via: SIP/2.0/UDP a;x=",;rport;received=b";received=192.0.2.1',
        ),
    ],
)
def test_the_stamp(line, expected):
    assert stamped(line) == expected


def test_ipv6_is_written_without_brackets():
    line = b"Via: SIP/2.0/TCP a;rport"
    assert stamped(line, V6) == b"Via: SIP/2.0/TCP a;rport=40000;received=2001:db8::1"


@pytest.mark.parametrize(
    ("line", "source"),
    [
        (b"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=1", SOURCE),
        (b"Via: SIP/2.0/UDP [2001:db8::1]", V6),
        (b"Via: SIP/2.0/UDP [2001:DB8:0::1]", V6),
        (b"Via: SIP/2.0/UDP [::ffff:192.0.2.1]", SOURCE),
        (b"Via: SIP/2.0/UDP a;rport=40000;received=192.0.2.1", SOURCE),
        (b"Via: SIP/2.0/UDP a;received=[2001:db8::1]", V6),
    ],
)
def test_what_is_true_already_stays_the_same_object(line, source):
    message = request(line)
    assert stamp(message, source) is message


def test_a_stamped_message_is_what_it_was():
    message = request(b"Via: SIP/2.0/UDP a;rport;branch=z9hG4bK1")
    after = stamp(message, SOURCE)
    assert after is not message
    assert message.via == Via("UDP", "a", None, b"z9hG4bK1", None, None, True)
    assert after.via == Via("UDP", "a", None, b"z9hG4bK1", "192.0.2.1", 40000, True)
    same = (
        "is_request method uri status reason_phrase call_id cseq_number cseq_method from_tag to_tag"
    )
    for name in [*same.split(), "content_length", "defect", "body", "can_be_answered"]:
        assert getattr(after, name) == getattr(message, name)
    assert after.transaction_key == message.transaction_key
    assert after.client_key == message.client_key
    assert after.headers("CSeq") == [b"1 OPTIONS"]
    assert stamp(after, SOURCE) is after


def test_responses_and_messages_without_a_via_are_not_stamped():
    response = request(b"Via: SIP/2.0/UDP a;rport", b"SIP/2.0 200 OK\r\n")
    assert stamp(response, SOURCE) is response
    event = frame_datagram(START + REST.replace(b"Via: SIP/2.0/UDP", b"Via:"), Limits())
    assert isinstance(event, Malformed)
    assert stamp(event.message, SOURCE) is event.message


@given(requests() | requests(usual=True), st.sampled_from([SOURCE, V6, Address("192.0.2.9", 5060)]))
def test_any_request_can_be_stamped(written, source):
    message = check_outgoing(written.raw, stream=True, limits=Limits())
    after = stamp(message, source)
    assert check_outgoing(after.raw, stream=True, limits=Limits()).via == after.via
    assert after.body == written.body
    assert after.transaction_key == message.transaction_key
    assert stamp(after, source) is after
    assert after.via is not None
    assert after.via.received in (None, source.host)
    assert after.via.rport == (source.port if written.asks_rport else None)
    assert answer_address(after.via, None) == answer_address(after.via, source)


# -- where the answer goes


@pytest.mark.parametrize(
    ("value", "source", "expected"),
    [
        (b"a", SOURCE, Address("192.0.2.1", 5060)),
        (b"a:5070", SOURCE, Address("192.0.2.1", 5070)),
        (b"192.0.2.9:5070", SOURCE, Address("192.0.2.1", 5070)),
        (b"a:5070;rport", SOURCE, SOURCE),
        (b"a:5070;maddr=192.0.2.66", SOURCE, Address("192.0.2.1", 5070)),
        (b"a;rport", Address("fe80::1", 7, 3), Address("fe80::1", 7, 3)),
        (b"a;received=192.0.2.9", None, Address("192.0.2.9", 5060)),
        (b"a:5070;received=192.0.2.9", None, Address("192.0.2.9", 5070)),
        (b"a:5070;received=192.0.2.9;rport=7", None, Address("192.0.2.9", 7)),
        (b"a:5070;received=[2001:db8::1];rport=7", None, Address("2001:db8::1", 7)),
        (b"192.0.2.9", None, Address("192.0.2.9", 5060)),
        (b"[2001:DB8::1]:5070;rport", None, Address("2001:db8::1", 5070)),
        (b"192.0.2.9;maddr=192.0.2.66", None, Address("192.0.2.9", 5060)),
        (b"a", None, None),
        (b"a;received=b", None, None),
        (b"[:::]", None, None),
        (b"255.255.255.255", None, None),
        (b"224.0.1.75", None, None),
        (b"[ff02::1]", None, None),
        (b"0.0.0.0", None, None),
        (b"a;received=255.255.255.255", None, None),
    ],
)
def test_where_an_answer_goes(value, source, expected):
    via = request(b"Via: SIP/2.0/UDP " + value).via
    assert via is not None
    assert answer_address(via, source) == expected
