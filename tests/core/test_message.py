"""What is read of a message: start line, top Via, CSeq, Call-ID, tags, and the keys made of them."""

from __future__ import annotations

import pytest

from sippool_core.config import Limits
from sippool_core.framing import Malformed, frame_datagram
from sippool_core.message import OVERSIZED, Message, Via
from sippool_core.reasons import Defect

VIA = b"SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK1"


def datagram(
    *,
    start=b"OPTIONS sip:bob@example.com SIP/2.0",
    via=VIA,
    from_=b"<sip:alice@example.com>;tag=1",
    to=b"<sip:bob@example.com>",
    call_id=b"a@192.0.2.1",
    cseq=b"1 OPTIONS",
    length=b"0",
    more=b"",
):
    """A message with one field changed; `None` leaves it out."""
    named = (
        (b"Via", via),
        (b"From", from_),
        (b"To", to),
        (b"Call-ID", call_id),
        (b"CSeq", cseq),
        (b"Content-Length", length),
    )
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in named if value is not None)
    return start + b"\r\n" + lines + more + b"\r\n"


def event_of(data):
    """What a datagram is, checked to be the same if one line of its header is not written as usual."""
    event = frame_datagram(data, Limits())
    odd = frame_datagram(data.replace(b"\r\n", b"\r\nX-Odd : 1\r\n", 1), Limits())
    assert type(odd) is type(event)
    message, odd_message = event, odd
    if isinstance(event, Malformed) and isinstance(odd, Malformed):
        assert odd.defect is event.defect
        message, odd_message = event.message, odd.message
    for name in FACTS:
        assert getattr(odd_message, name) == getattr(message, name)
    return event


FACTS = (
    *("is_request", "method", "uri", "status", "reason_phrase", "via", "call_id"),
    *("cseq_number", "cseq_method", "from_tag", "to_tag", "content_length", "can_be_answered"),
    *("transaction_key", "client_key", "body"),
)


def read(data):
    event = event_of(data)
    assert isinstance(event, Message)
    return event


def malformed(data):
    event = event_of(data)
    assert isinstance(event, Malformed)
    return event


def defect_of(data):
    return malformed(data).defect


def via_of(value):
    return read(datagram(via=value)).via


# -- the message itself


def test_a_request():
    message = read(datagram())
    assert message.is_request
    assert message.method == message.cseq_method == "OPTIONS"
    assert message.uri == b"sip:bob@example.com"
    assert message.status == 0
    assert message.reason_phrase == b""
    assert message.cseq_number == 1
    assert message.call_id == b"a@192.0.2.1"
    assert message.content_length == 0
    assert repr(message) == (
        "<Message OPTIONS b'sip:bob@example.com', Call-ID b'a@192.0.2.1', 210 bytes>"
    )


def test_a_response():
    message = read(datagram(start=b"SIP/2.0 404 Not  Found \xff", length=None))
    assert not message.is_request
    assert message.method == "OPTIONS"
    assert message.uri == b""
    assert message.status == 404
    assert message.reason_phrase == b"Not  Found \xff"
    assert message.content_length is None
    assert "404 to OPTIONS" in repr(message)


def test_messages_are_their_bytes():
    data = datagram()
    assert read(data) == read(data)
    assert read(data) != read(datagram(call_id=b"b"))
    assert read(data) != data
    assert {read(data), read(data)} == {read(data)}
    assert bytes(read(data)) == data


def test_methods_are_tokens_with_a_case():
    method = b"!x-Method0_*+`.%'~"
    message = read(datagram(start=method + b" sip:x SIP/2.0", cseq=b"7 " + method))
    assert message.method == method.decode()
    assert defect_of(datagram(start=b"options sip:x SIP/2.0")) is Defect.METHOD_MISMATCH


def test_headers_are_found_by_any_name_and_unfolded():
    more = b"s : one\r\nX-Subject: no\r\nSUBJECT:\r\n  two \r\n\t three \r\nSubject:\r\n"
    message = read(datagram(more=more + b"no colon: ?\r\n".replace(b" c", b"-c")))
    assert message.headers("Subject") == [b"one", b"two three", b""]
    assert message.headers("s") == message.headers("subject") == message.headers("Subject")
    assert message.headers("Record-Route") == []
    assert message.headers("not a name") == []
    assert message.headers("From") == [b"<sip:alice@example.com>;tag=1"]


def test_headers_of_a_malformed_message():
    event = malformed(datagram(more=b"no colon\r\nbad name: x\r\n"))
    assert event.message.headers("no colon") == event.message.headers("bad name") == []
    assert event.message.headers("no") == []
    assert event.message.headers("i") == [b"a@192.0.2.1"]


def test_headers_stop_at_the_body():
    message = read(datagram(length=b"10") + b"Subject: x")
    assert message.headers("Subject") == []
    assert message.body == b"Subject: x"


def test_a_content_length_of_many_digits():
    event = malformed(datagram(length=b"12345678901"))
    assert event.message.content_length == OVERSIZED
    event = malformed(datagram(length=b"1234567890"))
    assert event.message.content_length == 1234567890


# -- the top Via


def test_a_usual_via():
    assert via_of(VIA) == Via("UDP", "192.0.2.1", 5062, b"z9hG4bK1", None, None, False)


@pytest.mark.parametrize(
    ("value", "via"),
    [
        (b"SIP/2.0/tcp a.example", Via("TCP", "a.example", None, b"", None, None, False)),
        (
            b"SIP / 2.0\r\n / UDP\t192.0.2.2 : 70 ;\r\n branch = 390skdjuw ; x",
            Via("UDP", "192.0.2.2", 70, b"390skdjuw", None, None, False),
        ),
        (b"SIP/2.0/UNKNOWN a_b;x=y", Via("UNKNOWN", "a_b", None, b"", None, None, False)),
        (
            b"SIP/2.0/UDP [2001:db8::9:1]:5060;rport;received=[2001:db8::9:255]",
            Via("UDP", "2001:db8::9:1", 5060, b"", "2001:db8::9:255", None, True),
        ),
        (
            b"SIP/2.0/UDP a;RPORT=9;Received=2001:db8::9;BRANCH=b",
            Via("UDP", "a", None, b"b", "2001:db8::9", 9, True),
        ),
        (b"SIP/2.0/UDP a;rport=;branch=b", Via("UDP", "a", None, b"b", None, None, True)),
        (
            b'SIP/2.0/UDP a;x="\\",;branch=no";branch=yes, SIP/2.0/UDP b;branch=second',
            Via("UDP", "a", None, b"yes", None, None, False),
        ),
        (b"SIP/2.0/UDP a,SIP/2.0/UDP b;rport", Via("UDP", "a", None, b"", None, None, False)),
        (b"SIP/2.0/UDP a;branched=1;rports", Via("UDP", "a", None, b"", None, None, False)),
        (b"SIP/2.0/UDP a;branch=a=b:c@[d]", Via("UDP", "a", None, b"a=b:c@[d]", None, None, False)),
    ],
)
def test_legal_vias(value, via):
    assert via_of(value) == via


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"SIP/2.0 a",
        b"SIP/2.0/UDP",
        b"SIP/2.0/UDP ;branch=x",
        b"SIP/2.0/UDP 2001:db8::1",
        b"SIP/2.0/UDP [2001:db8::1",
        b"SIP/2.0/UDP a:0",
        b"SIP/2.0/UDP a:65536",
        b"SIP/2.0/UDP a:123456",
        b"SIP/2.0/UDP a:",
        b"SIP/2.0/UDP a:-1",
        b"SIP/2.0/UDP a;;",
        b"SIP/2.0/UDP a;branch",
        b"SIP/2.0/UDP a;branch=",
        b"SIP/2.0/UDP a;branch=x;branch=x",
        b"SIP/2.0/UDP a;rport;rport=1",
        b"SIP/2.0/UDP a;received=192.0.2.1;received=192.0.2.1",
        b"SIP/2.0/UDP a;rport=x",
        b"SIP/2.0/UDP a;rport=0",
        b"SIP/2.0/UDP a;rport=65536",
        b"SIP/2.0/UDP a;rport=000005060",
        b"SIP/2.0/UDP a (comment)",
        b'SIP/2.0/UDP a;x="open',
        b"SIP/2.0/UDP a\x00",
        None,
    ],
)
def test_malformed_vias(value):
    event = malformed(datagram(via=value))
    assert event.defect is Defect.VIA
    assert event.message.via is None
    assert not event.message.can_be_answered
    assert event.message.client_key == (b"", "OPTIONS")
    assert event.message.transaction_key == ("OPTIONS", b"a@192.0.2.1", 1, b"1")


@pytest.mark.parametrize(
    "line", [b"From: <sip:c>;tag=2", b"To: <sip:d>;tag=3", b"Via: SIP/2.0/UDP b"]
)
def test_of_a_repeated_field_the_first_counts(line):
    message = read(datagram(more=line + b"\r\n"))
    assert (message.from_tag, message.to_tag) == (b"1", b"")
    assert message.via is not None
    assert message.via.branch == b"z9hG4bK1"


def test_only_the_first_via_is_read():
    message = read(datagram(more=b"Via: nonsense\r\nv: more of it\r\n"))
    assert message.via is not None
    assert message.via.host == "192.0.2.1"


# -- CSeq and Call-ID


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"0 OPTIONS", 0),
        (b"0009\r\n OPTIONS", 9),
        (b"2147483647 \t OPTIONS ", 2**31 - 1),
        (b"0" * 40 + b"12 OPTIONS", 12),
    ],
)
def test_cseq(value, number):
    message = read(datagram(cseq=value))
    assert (message.cseq_number, message.cseq_method) == (number, "OPTIONS")


@pytest.mark.parametrize(
    ("value", "number", "method"),
    [
        (None, 0, ""),
        (b"", 0, ""),
        (b"1", 0, ""),
        (b"OPTIONS", 0, ""),
        (b"-1 OPTIONS", 0, ""),
        (b"x OPTIONS", 0, ""),
        (b"1 OPT IONS", 0, ""),
        (b"1OPTIONS", 0, ""),
        (b"2147483648 OPTIONS", 2**31, "OPTIONS"),
        (b"36893488147419103232 OPTIONS", 2**31, "OPTIONS"),
        (b"9" * 5000 + b" OPTIONS", 2**31, "OPTIONS"),
        (b"1 OPTIONS\r\nCSeq: 1 OPTIONS", 1, "OPTIONS"),
        (b"1 OPTIONS\r\ncseq : 2 INVITE", 1, "OPTIONS"),
    ],
)
def test_malformed_cseqs(value, number, method):
    event = malformed(datagram(cseq=value))
    assert event.defect is Defect.CSEQ
    assert (event.message.cseq_number, event.message.cseq_method) == (number, method)
    # A response would have to copy it, and we send only what we would accept.
    assert event.message.can_be_answered == (bool(method) and number < 2**31)


@pytest.mark.parametrize("value", [b"a", b" a@b \t", b"\r\n a@b", b'f81d"<>[]{}@/?'])
def test_call_id(value):
    assert read(datagram(call_id=value)).call_id == value.strip()


@pytest.mark.parametrize(
    "value",
    [None, b"", b"  ", b"a b", b"a\r\n b", b"a\x00b", b"a\r\nCall-ID: a", b"a\r\ni: b"],
)
def test_malformed_call_ids(value):
    assert defect_of(datagram(call_id=value)) is Defect.CALL_ID


# -- From and To


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        (b"<sip:a@b>;tag=x", b"x"),
        (b"<sip:a@b> ; TAG = x ;y", b"x"),
        (b"<sip:a@b>\r\n ;\r\n tag\r\n =\r\n x", b"x"),
        (b"sip:a@b;tag=x", b"x"),
        (b"<sip:a@b;tag=uri>", b""),
        (b'"A;tag=no" <sip:a@b;tag=uri>;y="a;tag=no";z;tag=x', b"x"),
        (b'"A \\" ;tag=no" <sip:a@b>;tag=x', b"x"),
        (b"Alice <sip:a@b?Subject=y>;tag=x;tag=z", b"x"),
        (b"<sip:a@b>;tags=y", b""),
        (b"<sip:a@b>;tag", b""),
        (b'"open <sip:a@b>;tag=x', b""),
        (b"<sip:a@b;tag=x", b""),
        (b"", b""),
        (None, b""),
    ],
)
def test_tags(value, tag):
    assert read(datagram(from_=value)).from_tag == tag
    assert read(datagram(to=value)).to_tag == tag


# -- answers


@pytest.mark.parametrize("field", ["via", "from_", "to", "call_id", "cseq"])
def test_what_an_answer_must_copy_must_be_there(field):
    event = event_of(datagram(**{field: None}))
    message = event if isinstance(event, Message) else event.message
    assert not message.can_be_answered


def test_requests_can_be_answered_but_ack_cannot():
    assert read(datagram()).can_be_answered
    assert not read(datagram(start=b"SIP/2.0 200 OK")).can_be_answered
    assert not read(datagram(start=b"ACK sip:x SIP/2.0", cseq=b"1 ACK")).can_be_answered


def test_a_message_with_a_repeated_field_can_be_answered_by_the_first():
    event = malformed(datagram(cseq=b"1 OPTIONS\r\nCSeq: 2 OPTIONS"))
    assert event.message.can_be_answered


# -- transaction keys


def request_key(**fields):
    return read(datagram(**fields)).transaction_key


def test_the_key_of_a_retransmission_and_of_a_response():
    key = request_key()
    assert key == request_key(more=b"X: y\r\n", call_id=b"another", from_=b"<sip:c>;tag=2")
    assert key == request_key(start=b"SIP/2.0 200 OK", to=b"<sip:b>;tag=new")
    assert key == request_key(start=b"SIP/2.0 200 OK", via=VIA + b";received=192.0.2.9;rport=7")
    assert hash(key) == hash(request_key())


@pytest.mark.parametrize(
    "via",
    [
        VIA + b"2",
        VIA.replace(b"5062", b"5063"),
        VIA.replace(b":5062", b""),
        VIA.replace(b"192.0.2.1", b"192.0.2.2"),
    ],
)
def test_what_makes_another_transaction(via):
    assert request_key() != request_key(via=via)
    assert request_key() != request_key(start=b"CANCEL sip:x SIP/2.0", cseq=b"1 CANCEL")


def test_the_host_of_sent_by_has_no_case():
    upper, lower = (
        VIA.replace(b"192.0.2.1", b"EXAMPLE.com"),
        VIA.replace(b"192.0.2.1", b"example.COM"),
    )
    assert request_key(via=upper) == request_key(via=lower)


def test_an_ack_has_the_key_of_its_invite():
    invite = request_key(start=b"INVITE sip:x SIP/2.0", cseq=b"1 INVITE")
    assert request_key(start=b"ACK sip:x SIP/2.0", cseq=b"1 ACK") == invite
    assert request_key(start=b"CANCEL sip:x SIP/2.0", cseq=b"1 CANCEL") != invite


@pytest.mark.parametrize("branch", [b"", b";branch=1", b";branch=z9hG4bK", b";branch=z9hg4bk1"])
def test_without_a_unique_branch_the_key_holds_more(branch):
    via = b"SIP/2.0/UDP 192.0.2.1" + branch
    key = request_key(via=via)
    assert key == request_key(via=via, start=b"SIP/2.0 200 OK", to=b"<sip:b>;tag=new")
    assert key != request_key(via=via, call_id=b"another")
    assert key != request_key(via=via, cseq=b"2 OPTIONS")
    assert key != request_key(via=via, from_=b"<sip:alice@example.com>;tag=2")
    assert key != request_key(via=via.replace(b"2.1", b"2.2"))
    invite = request_key(via=via, start=b"INVITE sip:x SIP/2.0", cseq=b"1 INVITE")
    assert request_key(via=via, start=b"ACK sip:x SIP/2.0", cseq=b"1 ACK") == invite


def test_the_key_of_a_client_transaction():
    request = read(datagram())
    assert request.client_key == (b"z9hG4bK1", "OPTIONS")
    response = read(datagram(start=b"SIP/2.0 200 OK", via=VIA + b";received=192.0.2.9"))
    assert response.client_key == request.client_key
