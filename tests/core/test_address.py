"""Addresses, targets and endpoints: one normal form, and a clear answer to everything else."""

import pytest

from sippool_core import Address, Endpoint, NamedTarget, Target, Transport


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1:5060", Address("192.0.2.1", 5060)),
        ("[2001:DB8:0:0::0001]:5060", Address("2001:db8::1", 5060)),
        ("[::ffff:192.0.2.1]:5060", Address("192.0.2.1", 5060)),
        ("[fe80::1%7]:5060", Address("fe80::1", 5060, 7)),
        (
            "[2001:db8::1%7]:5060",
            Address("2001:db8::1", 5060),
        ),  # a zone means something on links only
        ("[::1]:0", Address("::1", 0)),
    ],
)
def test_two_spellings_of_one_place_are_equal(text, address):
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("192.0.2.1", "no port"),
        ("192.0.2.1:", "not a port"),
        ("192.0.2.1:65536", "not a port"),
        ("192.0.2.1:+5", "not a port"),
        ("192.0.2.1:\u0665", "not a port"),
        (":5060", "no host"),
        ("2001:db8::1", "in brackets"),
        ("[2001:db8::1", "not \\[address\\]:port"),
        ("[2001:db8::1]5060", "not \\[address\\]:port"),
        ("example.com:5060", "resolved before"),
        ("192.0.2.1%1:5060", "no zone"),
        ("[fe80::1%eth0]:5060", "not an interface number"),
        ("192.000.2.1:5060", "not an IP address"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text, why):
    with pytest.raises(ValueError, match=why):
        Address.parse(text)


def test_a_port_is_checked_also_where_it_is_a_number():
    with pytest.raises(ValueError, match="port 70000"):
        Address.of("192.0.2.1", 70000)


@pytest.mark.parametrize(
    ("sockaddr", "address"),
    [
        (("192.0.2.1", 5060), Address("192.0.2.1", 5060)),
        (("2001:db8::1", 5060, 0, 0), Address("2001:db8::1", 5060)),
        (("::ffff:192.0.2.1", 5060, 0, 0), Address("192.0.2.1", 5060)),
        (("fe80::1", 5060, 0, 3), Address("fe80::1", 5060, 3)),
        (("fe80::1%3", 5060, 0, 3), Address("fe80::1", 5060, 3)),
    ],
)
def test_what_sockets_say(sockaddr, address):
    assert Address.from_sockaddr(sockaddr) == address


def test_how_it_is_written():
    assert Address("2001:db8::1", 5060).bracketed == "[2001:db8::1]"
    assert Address("192.0.2.1", 5060).bracketed == "192.0.2.1"
    assert str(Address("fe80::1", 5060, 3)) == "[fe80::1%3]:5060"
    assert Address("::", 0).is_wildcard and not Address("::1", 0).is_wildcard


@pytest.mark.parametrize(
    ("text", "transport", "address"),
    [
        ("sip:192.0.2.1", Transport.UDP, "192.0.2.1:5060"),
        ("sip:alice@192.0.2.1:5070;transport=TCP?Subject=x", Transport.TCP, "192.0.2.1:5070"),
        ("sips:192.0.2.1", Transport.TLS, "192.0.2.1:5061"),
        ("sips:a:b@[2001:db8::1];lr;transport=tcp", Transport.TLS, "[2001:db8::1]:5061"),
        ("SIP:192.0.2.1;transport=tls", Transport.TLS, "192.0.2.1:5061"),
        (" tcp:192.0.2.1:5070 ", Transport.TCP, "192.0.2.1:5070"),
        ("udp:192.0.2.1", Transport.UDP, "192.0.2.1:5060"),
    ],
)
def test_targets(text, transport, address):
    assert Target.parse(text) == Target(transport, Address.parse(address), None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("192.0.2.1", "neither a SIP URI"),
        ("http:192.0.2.1", "not a transport"),
        ("sip:192.0.2.1;transport=sctp", "not a transport"),
        ("sip:example.com", "resolved before"),
        ("sip:", "no host"),
    ],
)
def test_what_is_no_target(text, why):
    with pytest.raises(ValueError, match=why):
        Target.parse(text)


def test_a_name_becomes_the_server_name_and_an_address_does_not():
    named = NamedTarget.parse("sips:example.com")
    assert named == NamedTarget(Transport.TLS, "example.com", 5061)
    assert named.at("2001:db8::1") == Target(
        Transport.TLS, Address("2001:db8::1", 5061), "example.com"
    )
    assert str(named.at("192.0.2.1")) == "tls:192.0.2.1:5061 (example.com)"
    plain = NamedTarget.parse("tls:192.0.2.1").at("192.0.2.1")
    assert plain.server_name is None and str(plain) == "tls:192.0.2.1:5061"


def test_endpoints():
    assert Endpoint.parse("tls:127.0.0.1") == Endpoint(Transport.TLS, Address("127.0.0.1", 5061))
    assert str(Endpoint.parse("udp:[::]:0")) == "udp:[::]:0"
    with pytest.raises(ValueError, match="not an endpoint"):
        Endpoint.parse("5060")
    with pytest.raises(ValueError, match="not a transport"):
        Endpoint.parse("sctp:127.0.0.1:5060")


def test_transports():
    assert [transport.is_stream for transport in Transport] == [False, True, True]
    assert len({Transport.UDP, Transport.TCP, Transport("tls")}) == 3
