"""Whom certificates name (RFC 5922 section 7), for dictionaries that say anything, against a slow second opinion.

The byte door: one byte of flags, then texts behind a separator that no name has: the reference first, then the
entries, each behind a letter for its kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from fuzz import target
from fuzz.slow_identity import slow_identities, slow_match
from sippool_core.identity import identities, match

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuzz.mutation import Mutator

SEPARATOR = b"\x1e"
KINDS = {
    "U": "URI",
    "D": "DNS",
    "I": "IP Address",
    "E": "email",
    "N": "DirName",
}
DOMAINS = (
    "example.com",
    "EXAMPLE.com.",
    "sip.example.com",
    "example.org",
    "*.example.com",
    "example.com\0.evil.org",
    "xn--bcher-kva.example",
    "b\u00fccher.example",
    "a_b",
    "-a.example",
    "a..example",
    "a.1",
    "192.0.2.1",
    "[2001:db8::1]",
    "x" * 63 + ".example",
    "x" * 64 + ".example",
    ".".join(["abcdefg"] * 31) + ".example",
    ".".join(["abcdefg"] * 31) + ".examples",
    "ex\u0430mple.com",
    "example\u3002com",
    "",
)
ADDRESSES = (
    "192.0.2.1",
    "192.0.2.1\n",
    "192.0.2.01",
    "2001:db8::1",
    "2001:0DB8:0:0:0:0:0:1",
    "::ffff:192.0.2.1",
    "fe80::1%eth0",
    "fe80::1",
    "::1%",
)
URIS = (
    "sip:{}",
    "SIP:{}:5061",
    "sip:{};transport=tls",
    "sip:{}:5061;lr?x=y",
    "sips:{}",
    "sip:user@{}",
    "sip:{}@evil.example",
    "sip:{};x=@",
    "sip:{}:123456",
    "sip:{}:",
    "sip:{}:5x",
    "sip:{}?x=y",
    "https://{}",
    "sip://{}",
    "sip:{}\n",
    " sip:{}",
)
FLAG_COMMON_NAME_ALLOWED, FLAG_HAS_ALTERNATIVES, FLAG_ODD = 1, 2, 4


@dataclass(frozen=True)
class Case:
    """A certificate and whom we want."""

    certificate: dict[str, object]
    reference: str
    allow_common_name: bool


def case_of(data: bytes) -> Case:
    """The byte door."""
    flags = data[0] if data else 0
    texts = [text.decode("utf-8", "replace") for text in data[1:].split(SEPARATOR)]
    alternatives: list[object] = []
    subject: list[object] = []
    for text in texts[1:]:
        letter, name = text[:1], text[1:]
        if letter == "C":
            subject.append((("organizationName", "x"), ("commonName", name)))
        elif letter == "N":
            alternatives.append(("DirName", ((("commonName", name),),)))
        elif letter in KINDS:
            alternatives.append((KINDS[letter], name))
    certificate: dict[str, object] = {"subject": tuple(subject)}
    if alternatives or flags & FLAG_HAS_ALTERNATIVES:
        certificate["subjectAltName"] = tuple(alternatives)
    if flags & FLAG_ODD:  # nothing that getpeercert() gives, but its type promises nothing
        certificate["subject"] = None
        certificate["subjectAltName"] = (*alternatives, ("DNS",), "DNS", ("URI", None))
    return Case(certificate, texts[0], bool(flags & FLAG_COMMON_NAME_ALLOWED))


def some_case(mutator: Mutator) -> bytes:
    """Entries and a reference that have much to do with each other."""
    pick, rng = mutator.pick, mutator.rng
    some = [pick(DOMAINS), pick(DOMAINS)]
    texts = [pick(ADDRESSES) if rng.random() < 0.15 else pick(some)]
    for _ in range(rng.randrange(5)):
        letter = pick("UUUDDDICNE")
        if letter == "U":
            text = pick(URIS).format(pick(some))
        elif letter == "I":
            text = pick(ADDRESSES)
        else:
            text = pick(some)
        texts.append(letter + text)
    flags = rng.randrange(4) + FLAG_ODD * (rng.random() < 0.05)
    data = bytes((flags,)) + SEPARATOR.join(text.encode() for text in texts)
    if rng.random() < 0.3:
        data = data[:1] + mutator.change_bytes(data[1:])
    return data


def _cases() -> st.SearchStrategy[Case]:
    some = st.sampled_from(DOMAINS) | st.text(max_size=8)
    uris = st.builds(str.format, st.sampled_from(URIS), some)
    entries = st.one_of(
        uris.map("U".__add__),
        some.map("D".__add__),
        some.map("C".__add__),
        st.sampled_from(ADDRESSES).map("I".__add__),
        st.text(max_size=12),
    )
    references = some | st.sampled_from(ADDRESSES)
    return st.builds(_joined, st.integers(0, 7), references, st.lists(entries, max_size=4))


def _joined(flags: int, reference: str, entries: list[str]) -> Case:
    texts = [text.encode("utf-8", "replace") for text in (reference, *entries)]
    return case_of(bytes((flags,)) + SEPARATOR.join(texts))


@target(_cases(), door=case_of, generate=some_case)
def identity(case: Case) -> Iterable[object]:
    """A certificate names whom RFC 5922 says, and matches nobody else, as a slow second reader finds."""
    certificate, lenient = case.certificate, case.allow_common_name
    found = identities(certificate, allow_common_name=lenient)
    assert list(found) == slow_identities(certificate, allow_common_name=lenient)
    matched = match(certificate, case.reference, allow_common_name=lenient)
    expected = slow_match(certificate, case.reference, allow_common_name=lenient)
    assert (matched is not None) == expected, f"core {matched}, second reader {expected}"
    if matched is not None:
        assert match(certificate, matched, allow_common_name=lenient) == matched
    return ["matched" if matched else "no match", f"{min(len(found), 3)} identities"]
