"""Whom a certificate names, from RFC 5922 section 7 alone: slow, obvious, and the judge of `sippool_core.identity`.

1. No pattern and no function of the core is used here; IP addresses are read by the C library.
2. Whatever is not plainly a domain name names nobody.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LETTERS_AND_DIGITS = "abcdefghijklmnopqrstuvwxyz0123456789_"
"""The underscore too, for real PBXes have it in their names."""


def slow_identities(certificate: Mapping[str, object], *, allow_common_name: bool) -> list[str]:
    """The domains a certificate names, in order, none twice (section 7.1)."""
    found: list[str] = []
    if "subjectAltName" in certificate:
        entries = pairs_of(certificate["subjectAltName"])
        for kind, text in entries:
            if kind == "URI":
                add(found, domain_of_uri(text))
        if not found:
            for kind, text in entries:
                if kind == "DNS":
                    add(found, domain_of(text))
    elif allow_common_name:
        subject = certificate.get("subject")
        names = []
        for part in subject if isinstance(subject, tuple) else ():
            names += [text for kind, text in pairs_of(part) if kind == "commonName"]
        if len(names) == 1:
            add(found, domain_of(names[0]))
    return found


def slow_match(
    certificate: Mapping[str, object], reference: str, *, allow_common_name: bool
) -> bool:
    """Whether the certificate is that one's (section 7.2); an IP address is proved by its own kind of entry only."""
    address = address_of(reference)
    if address is not None:
        for kind, text in pairs_of(certificate.get("subjectAltName")):
            if kind == "IP Address" and address_of(text) == address:
                return True
        return False
    wanted = reference_domain(reference)
    if wanted is None:
        return False
    return wanted in slow_identities(certificate, allow_common_name=allow_common_name)


def pairs_of(value: object) -> list[tuple[str, str]]:
    """The entries that are two texts."""
    pairs = []
    for item in value if isinstance(value, tuple) else ():
        if isinstance(item, (tuple, list)) and len(item) == 2:
            kind, text = item
            if isinstance(kind, str) and isinstance(text, str):
                pairs.append((kind, text))
    return pairs


def add(found: list[str], name: str | None) -> None:
    """Put it behind the others, if it is one, and not there yet."""
    if name is not None and name not in found:
        found.append(name)


def domain_of(text: str) -> str | None:
    """Labels of letters, digits, `_` and inner hyphens, joined by dots (RFC 1035 section 2.3); in lower case."""
    if not text.isascii():
        return None
    name = text.removesuffix(".")
    name = name.lower()
    if len(name) > 253:
        return None
    labels = name.split(".")
    for label in labels:
        if not 1 <= len(label) <= 63 or label[0] == "-" or label[-1] == "-":
            return None
        for character in label:
            if character != "-" and character not in LETTERS_AND_DIGITS:
                return None
    if all(character in "0123456789" for character in labels[-1]):
        return None  # it could be taken for an address
    return name


def domain_of_uri(uri: str) -> str | None:
    """The host of `sip:host[:port][;parameters][?headers]`; a user is not the domain, `sips` is another scheme."""
    if uri[:4].lower() != "sip:" or "@" in uri:
        return None
    rest = uri[4:]
    end = min(at for at in (rest.find(":"), rest.find(";"), rest.find("?"), len(rest)) if at >= 0)
    host, behind = rest[:end], rest[end:]
    if behind.startswith(":"):
        digits = 0
        while digits + 1 < len(behind) and behind[digits + 1] in "0123456789":
            digits += 1
        if not 1 <= digits <= 5:
            return None
        behind = behind[digits + 1 :]
    if behind and behind[0] not in ";?":
        return None
    return domain_of(host)


def reference_domain(text: str) -> str | None:
    """What we look for; U-labels become A-labels (RFC 5890)."""
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    return domain_of(text)


def address_of(text: str) -> tuple[bytes, str] | None:
    """The bytes of an IP address, and its scope."""
    text = text.strip()
    address, percent, scope = text.partition("%")
    if percent and (not scope or "%" in scope):
        return None
    for family in (socket.AF_INET6,) if percent else (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, address), scope
        except (OSError, ValueError):
            continue
    return None
