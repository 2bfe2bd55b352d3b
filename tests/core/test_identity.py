"""Which SIP domains a certificate names: RFC 5922 section 7, kind by kind, and against a slow reference."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sippool_core import identity


def certificate(
    *alternatives: tuple[str, object], common_names: tuple[str, ...] = ()
) -> dict[str, object]:
    """As `getpeercert()` gives it, without subjectAltName where there are no alternatives."""
    subject = ((("organizationName", "x"),), *((("commonName", name),) for name in common_names))
    found: dict[str, object] = {"subject": subject, "version": 3}
    if alternatives:
        found["subjectAltName"] = alternatives
    return found


DNS = certificate(("DNS", "example.com"))
URI = certificate(("URI", "sip:example.com"))
LONG = ".".join(["a" * 63] * 3 + ["b" * 61])

# name: certificate, reference, matches
KINDS: dict[str, tuple[dict[str, object], str, bool]] = {
    "dns": (DNS, "example.com", True),
    "dns, other name": (DNS, "example.org", False),
    "dns, reference below it": (DNS, "sip.example.com", False),
    "dns, reference above it": (certificate(("DNS", "sip.example.com")), "example.com", False),
    "dns, other case": (certificate(("DNS", "EXAMPLE.Com")), "eXample.cOM", True),
    "dns, last dot in reference": (DNS, "example.com.", True),
    "dns, last dot in certificate": (certificate(("DNS", "example.com.")), "example.com", True),
    "dns, two last dots": (DNS, "example.com..", False),
    "dns, second of two": (certificate(("DNS", "a.test"), ("DNS", "b.test")), "b.test", True),
    "dns, begins with a digit": (certificate(("DNS", "3cx.test")), "3cx.test", True),
    "dns, one label": (certificate(("DNS", "pbx")), "pbx", True),
    "dns, underscore": (certificate(("DNS", "pbx_1.test")), "pbx_1.test", True),
    "dns, 253 characters": (certificate(("DNS", LONG)), LONG, True),
    "dns, 254 characters": (certificate(("DNS", "b" + LONG)), "b" + LONG, False),
    "dns, label of 64": (certificate(("DNS", "a" * 64 + ".test")), "a" * 64 + ".test", False),
    "dns, hyphen at an end": (certificate(("DNS", "-a.test")), "-a.test", False),
    "dns, empty": (certificate(("DNS", "")), "", False),
    "dns, empty label": (certificate(("DNS", "a..test")), "a..test", False),
    "dns, leading dot": (certificate(("DNS", ".example.com")), "sip.example.com", False),
    "dns, leading dot as reference": (certificate(("DNS", ".example.com")), ".example.com", False),
    "dns, wildcard": (certificate(("DNS", "*.example.com")), "sip.example.com", False),
    "dns, wildcard as reference": (certificate(("DNS", "*.example.com")), "*.example.com", False),
    "dns, wildcard in a label": (certificate(("DNS", "s*.example.com")), "sip.example.com", False),
    "dns, NUL": (certificate(("DNS", "example.com\0.evil.test")), "example.com", False),
    "dns, line end": (certificate(("DNS", "example.com\n")), "example.com", False),
    "dns, space": (certificate(("DNS", " example.com")), "example.com", False),
    "dns, A-label": (certificate(("DNS", "xn--bcher-kva.test")), "xn--bcher-kva.test", True),
    "dns, A-label, U-label wanted": (certificate(("DNS", "xn--bcher-kva.test")), "Bücher.test", True),
    "dns, ideographic dots wanted": (certificate(("DNS", "xn--bcher-kva.test")), "bücher。test。", True),
    "dns, U-label": (certificate(("DNS", "bücher.test")), "bücher.test", False),
    "dns, U-label of 64": (DNS, "ü" * 64 + ".test", False),
    "dns, U-label beyond any length": (DNS, "ü" * 300, False),
    "dns, full-width wildcard wanted": (certificate(("DNS", "*.test")), "\uff0a.test", False),
    "dns, address as text": (certificate(("DNS", "192.0.2.1")), "192.0.2.1", False),
    "dns, v6 address as text": (certificate(("DNS", "2001:db8::1")), "2001:db8::1", False),
    "dns, last label a number": (certificate(("DNS", "a.1")), "a.1", False),
    "uri": (URI, "example.com", True),
    "uri, other name": (URI, "example.org", False),
    "uri, other case": (certificate(("URI", "SIP:EXAMPLE.com")), "example.com", True),
    "uri and the same dns": (certificate(("DNS", "example.com"), ("URI", "sip:example.com")), "example.com", True),
    "uri beside dns, dns wanted": (certificate(("DNS", "a.test"), ("URI", "sip:b.test")), "a.test", False),
    "uri beside dns, uri wanted": (certificate(("DNS", "a.test"), ("URI", "sip:b.test")), "b.test", True),
    "uri, second of two": (certificate(("URI", "sip:a.test"), ("URI", "sip:b.test")), "b.test", True),
    "uri, sips": (certificate(("URI", "sips:example.com")), "example.com", False),
    "uri, sips beside dns": (certificate(("URI", "sips:b.test"), ("DNS", "a.test")), "a.test", True),
    "uri, http beside dns": (certificate(("URI", "http://b.test"), ("DNS", "a.test")), "a.test", True),
    "uri, user": (certificate(("URI", "sip:alice@example.com")), "example.com", False),
    "uri, user beside dns": (certificate(("URI", "sip:a@b.test"), ("DNS", "a.test")), "a.test", True),
    "uri, empty user": (certificate(("URI", "sip:@example.com")), "example.com", False),
    "uri, user behind the host": (certificate(("URI", "sip:example.com;x=@evil.test")), "example.com", False),
    "uri, port": (certificate(("URI", "sip:example.com:5061")), "example.com", True),
    "uri, no port behind the colon": (certificate(("URI", "sip:example.com:")), "example.com", False),
    "uri, port of letters": (certificate(("URI", "sip:example.com:x")), "example.com", False),
    "uri, parameters": (certificate(("URI", "sip:example.com;transport=tls")), "example.com", True),
    "uri, port, parameters, headers": (certificate(("URI", "sip:a.test:1;lr?b=c:d")), "a.test", True),
    "uri, slashes": (certificate(("URI", "sip://example.com")), "example.com", False),
    "uri, no host": (certificate(("URI", "sip:")), "", False),
    "uri, wildcard": (certificate(("URI", "sip:*.example.com")), "a.example.com", False),
    "uri, wildcard beside dns": (certificate(("URI", "sip:*.test"), ("DNS", "a.test")), "a.test", True),
    "uri, address": (certificate(("URI", "sip:192.0.2.1")), "192.0.2.1", False),
    "uri, v6 address": (certificate(("URI", "sip:[2001:db8::1]")), "2001:db8::1", False),
    "uri, NUL": (certificate(("URI", "sip:example.com\0.evil.test")), "example.com", False),
    "uri, bare name": (certificate(("URI", "example.com")), "example.com", False),
    "ip": (certificate(("IP Address", "192.0.2.1")), "192.0.2.1", True),
    "ip, another": (certificate(("IP Address", "192.0.2.1")), "192.0.2.2", False),
    "ip, v6 as OpenSSL writes it": (certificate(("IP Address", "2001:DB8:0:0:0:0:0:1\n")), "2001:db8::1", True),
    "ip, beside a uri": (certificate(("URI", "sip:a.test"), ("IP Address", "192.0.2.1")), "192.0.2.1", True),
    "ip, a name wanted": (certificate(("IP Address", "192.0.2.1")), "example.com", False),
    "ip, unreadable": (certificate(("IP Address", "<invalid>")), "192.0.2.1", False),
    "ip, common name": (certificate(common_names=("192.0.2.1",)), "192.0.2.1", False),
    "common name": (certificate(common_names=("example.com",)), "example.com", False),
    "nothing at all": ({}, "example.com", False),
    "e-mail": (certificate(("email", "a@example.com")), "example.com", False),
    "directory name": (certificate(("DirName", ((("commonName", "a.test"),),))), "a.test", False),
}  # fmt: skip


@pytest.mark.parametrize(("shown", "reference", "matches"), KINDS.values(), ids=KINDS.keys())
def test_each_kind_of_certificate(shown, reference, matches):
    found = identity.match(shown, reference)
    assert (found is not None) == matches


# certificate, reference, matches where common names are allowed
COMMON_NAMES: dict[str, tuple[dict[str, object], str, bool]] = {
    "no subjectAltName": (certificate(common_names=("Example.com",)), "example.com", True),
    "another name": (certificate(common_names=("example.com",)), "example.org", False),
    "beside a dns name": (certificate(("DNS", "b.test"), common_names=("a.test",)), "a.test", False),
    "beside an e-mail": (certificate(("email", "x"), common_names=("a.test",)), "a.test", False),
    "beside nothing": (certificate(common_names=("a.test",)) | {"subjectAltName": ()}, "a.test", False),
    "a person": (certificate(common_names=("Alice Example",)), "alice example", False),
    "a wildcard": (certificate(common_names=("*.test",)), "a.test", False),
    "an address": (certificate(common_names=("192.0.2.1",)), "192.0.2.1", False),
    "two": (certificate(common_names=("a.test", "b.test")), "a.test", False),
    "none": (certificate(), "a.test", False),
    "no subject": ({}, "a.test", False),
}  # fmt: skip


@pytest.mark.parametrize(
    ("shown", "reference", "matches"), COMMON_NAMES.values(), ids=COMMON_NAMES.keys()
)
def test_common_name_where_allowed(shown, reference, matches):
    found = identity.match(shown, reference, allow_common_name=True)
    assert (found is not None) == matches
    assert identity.match(shown, reference) is None


def test_identities_are_in_normal_form_in_order_and_none_twice():
    shown = certificate(
        ("DNS", "B.test."), ("DNS", "a.test"), ("DNS", "b.test"), ("DNS", "*.test"), ("IP Address", "192.0.2.1")
    )  # fmt: skip
    assert identity.identities(shown) == ("b.test", "a.test")


def test_match_returns_the_normal_form():
    assert identity.match(DNS, "Example.COM.") == "example.com"
    shown = certificate(("IP Address", "2001:DB8:0:0:0:0:0:1"))
    assert identity.match(shown, "2001:DB8::0:1") == "2001:db8::1"


@pytest.mark.parametrize(
    ("text", "domain"),
    [("A.test.", "a.test"), ("bücher.test", "xn--bcher-kva.test"), ("192.0.2.1", None), ("::1", None), ("", None)],
)  # fmt: skip
def test_normal_domain(text, domain):
    assert identity.normal_domain(text) == domain


# The reference: character by character, with none of the module's patterns.


def slow_domain(text: str) -> str | None:
    name = text.removesuffix(".")
    if any(ord(character) > 127 for character in text) or not 1 <= len(name) <= 253:
        return None
    name = "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in name)
    labels: list[str] = [""]
    for character in name:
        if character == ".":
            labels.append("")
        elif character in "abcdefghijklmnopqrstuvwxyz0123456789_-":
            labels[-1] += character
        else:
            return None
    for label in labels:
        if not 1 <= len(label) <= 63 or label[0] == "-" or label[-1] == "-":
            return None
    return None if set(labels[-1]) <= set("0123456789") else name


def slow_uri_domain(uri: str) -> str | None:
    if (
        uri[:4] not in ("sip:", "SIP:", "Sip:", "sIp:", "siP:", "SIp:", "SiP:", "sIP:")
        or "@" in uri
    ):
        return None
    host, rest = "", uri[4:]
    while rest and rest[0] not in ":;?":
        host, rest = host + rest[0], rest[1:]
    if rest.startswith(":"):
        rest = rest[1:]
        port = ""
        while rest and rest[0] not in ";?":
            port, rest = port + rest[0], rest[1:]
        if not 1 <= len(port) <= 5 or not set(port) <= set("0123456789"):
            return None
    return slow_domain(host)


def slow_match(shown: dict[str, object], reference: str, allow: bool) -> bool:
    alternatives = shown.get("subjectAltName")
    try:
        wanted = ipaddress.ip_address(reference)
    except ValueError:
        pass
    else:
        for kind, value in alternatives or ():
            if kind == "IP Address":
                try:
                    if ipaddress.ip_address(value) == wanted:
                        return True
                except ValueError:
                    pass
        return False
    domain = slow_domain(reference)
    if domain is None:
        return False
    if alternatives is None:
        names = [v for rdn in shown["subject"] for kind, v in rdn if kind == "commonName"]
        return allow and len(names) == 1 and slow_domain(names[0]) == domain
    from_uris = [slow_uri_domain(value) for kind, value in alternatives if kind == "URI"]
    for found in from_uris:
        if found is not None:
            return domain in from_uris
    return domain in [slow_domain(value) for kind, value in alternatives if kind == "DNS"]


# Few names, so that they meet; with every character that has a meaning somewhere.
labels = st.sampled_from(
    ["a", "B", "b", "3cx", "x-y", "-", "*", "", "1", "xn--bcher-kva", "_sip", "ü", "a\0b", " "]
)
domains = st.lists(labels, max_size=3).map(".".join)
addresses = st.sampled_from(
    ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:DB8:0:0:0:0:0:1", "::ffff:192.0.2.1"]
)
hosts = domains | addresses | st.sampled_from(["[2001:db8::1]"])
uris = st.builds(
    "{}:{}{}{}{}".format,
    st.sampled_from(["sip", "SIP", "sips", "http", "tel", ""]),
    st.sampled_from(["", "", "", "", "alice@", "@", "//"]),
    hosts,
    st.sampled_from(["", "", "", ":5061", ":", ":x", ":123456", ":٣"]),
    st.sampled_from(["", "", ";transport=tls", ";a=b?c=d", "?x=@", ";\n"]),
)
alternative_names = (
    st.tuples(st.just("DNS"), hosts)
    | st.tuples(st.just("URI"), uris)
    | st.tuples(st.just("IP Address"), addresses | st.just("<invalid>"))
    | st.tuples(st.just("email"), domains)
)


@given(
    st.lists(alternative_names, max_size=4),
    st.lists(hosts, max_size=2),
    hosts.filter(lambda host: "ü" not in host),
    st.booleans(),
)
@example([("DNS", "a")], [], "a.", False)
@example([], ["b"], "B", True)
def test_agrees_with_the_slow_reference(alternatives, common_names, reference, allow):
    shown = certificate(*alternatives, common_names=tuple(common_names))
    found = identity.match(shown, reference, allow_common_name=allow)
    assert (found is not None) == slow_match(shown, reference, allow)


@given(st.dictionaries(st.sampled_from(["subject", "subjectAltName", "x"]), st.recursive(
    st.none() | st.text() | st.tuples(st.sampled_from(["DNS", "URI", "commonName"]), st.text()),
    lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=8,
)), st.text(), st.booleans())  # fmt: skip
def test_nothing_raises(shown, reference, allow):
    for name in identity.identities(shown, allow_common_name=allow):
        assert identity.normal_domain(name) == name
    identity.match(shown, reference, allow_common_name=allow)
