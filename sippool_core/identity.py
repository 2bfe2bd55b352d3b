"""Which SIP domains a certificate names, and whether it names the one we want (RFC 5922 section 7).

1. Pure functions over what `getpeercert()` returns; whether the chain is to be trusted was OpenSSL's question.
2. The standard library's `check_hostname` follows the web's rules and is wrong here three ways: it accepts
   wildcards, it accepts DNS names beside a foreign `sip:` URI, and it does not know `sip:` URIs at all.
3. Whatever is not plainly a domain name (wildcards, NUL bytes, spaces, IP addresses as text) names nobody, so
   that a doubtful certificate is refused, never half understood.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MAX_DOMAIN = 253
"""Characters of a domain name without its last dot (RFC 1035 section 2.3.4: 255 octets on the wire)."""

# The underscore is no host name's character, but DNS has it and so have the names of real PBXes; it can
# stand for nothing but itself.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")

# What may follow the host of a SIP URI: port, parameters and headers say nothing about who somebody is
# (RFC 5922 section 7.2 compares "only the DNS name component").
_HOST_AND_REST = re.compile(r"([^:;?]*)(?::[0-9]{1,5})?(?:[;?].*)?", re.DOTALL)


def identities(
    certificate: Mapping[str, object], *, allow_common_name: bool = False
) -> tuple[str, ...]:
    """The SIP domains that `certificate` (as `getpeercert()` gives it) names, in normal form, none twice.

    RFC 5922 section 7.1: the hosts of its `sip:` URIs without a user; where it has none of these, its DNS
    names; where it has no subjectAltName at all, and only if `allow_common_name`, its one common name.
    """
    if "subjectAltName" not in certificate:
        names = _common_names(certificate) if allow_common_name else []
    else:
        alternatives = list(_pairs(certificate["subjectAltName"]))
        names = [_host_of_sip_uri(value) for kind, value in alternatives if kind == "URI"]
        if not any(names):
            names = [_domain(value) for kind, value in alternatives if kind == "DNS"]
    return tuple(dict.fromkeys(name for name in names if name is not None))


def match(
    certificate: Mapping[str, object], reference: str, *, allow_common_name: bool = False
) -> str | None:
    """The identity of `certificate` that is `reference`, a SIP domain or an IP literal; `None` if none is.

    RFC 5922 section 7.2: domains are equal as a whole, without regard to case or a last dot, and no wildcard
    is a match. An IP literal is matched by an `IP Address` entry only: an address written as a DNS name
    or as the host of a URI proves nothing.
    """
    address = _address(reference)
    if address is not None:
        alternatives = _pairs(certificate.get("subjectAltName"))
        if any(kind == "IP Address" and _address(value) == address for kind, value in alternatives):
            return str(address)
        return None
    domain = normal_domain(reference)
    found = identities(certificate, allow_common_name=allow_common_name)
    return domain if domain in found else None


def normal_domain(text: str) -> str | None:
    """The domain name `text` in the form that is compared and sent as SNI; `None` if it is not one.

    Lower case, A-labels (RFC 5890), without a last dot. IP literals and wildcards are no domain names.
    """
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    return _domain(text)


def _domain(text: str) -> str | None:
    """`normal_domain` for names in a certificate, which are A-labels already (RFC 5280 section 7.2)."""
    name = text.removesuffix(".").lower()
    if not text.isascii() or len(name) > _MAX_DOMAIN:
        return None
    labels = name.split(".")
    # A name whose last label is a number could be taken for an address somewhere (RFC 3696 section 2).
    if labels[-1].isdigit() or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    return name


def _host_of_sip_uri(uri: str) -> str | None:
    """The domain of a `sip:` URI that names a domain; `sips:` is another scheme (RFC 5922 section 7.1)."""
    scheme, _, rest = uri.partition(":")
    # With an "@" the URI names a user, who does not speak for the domain.
    if scheme.lower() != "sip" or "@" in rest:
        return None
    parts = _HOST_AND_REST.fullmatch(rest)
    return _domain(parts[1]) if parts else None


def _common_names(certificate: Mapping[str, object]) -> list[str | None]:
    """The common name; several are as good as none, for nobody has said which one counts."""
    subject = certificate.get("subject")
    parts = subject if isinstance(subject, tuple) else ()
    names = [value for part in parts for kind, value in _pairs(part) if kind == "commonName"]
    return [_domain(names[0])] if len(names) == 1 else []


def _pairs(value: object) -> Iterator[tuple[str, str]]:
    """The (kind, text) pairs of a tuple; a directory name's value is no text, and is passed over."""
    if isinstance(value, tuple):
        for item in value:
            match item:
                case (str(kind), str(text)):
                    yield kind, text
                case _:
                    pass


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        # OpenSSL writes IPv6 in capitals and in full, older Pythons leave a line end behind it.
        return ipaddress.ip_address(text.strip())
    except ValueError:
        return None
