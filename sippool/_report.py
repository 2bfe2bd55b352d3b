"""What `sippool ping` says about one request: as a line for people, as JSON for programs."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._show import escape

if TYPE_CHECKING:
    from sippool_core import Flow, Message, Target, TlsFacts

ANSWERED = 0
NO_ANSWER = 1
UNREACHABLE = 2
REFUSED = 3

_WORDS = {
    ANSWERED: "answered",
    NO_ANSWER: "no_answer",
    UNREACHABLE: "unreachable",
    REFUSED: "tls_refused",
}
_LEAD = {
    NO_ANSWER: "no answer",
    UNREACHABLE: "not reachable",
    REFUSED: "TLS refused",
}


@dataclass(frozen=True)
class Result:
    """How one request ended."""

    code: int
    """The exit code it would give."""
    number: int
    target: Target
    why: str = ""
    """The reason of a failure, as the member of an enum is written."""
    detail: str = ""
    """The system's, OpenSSL's or the certificate's words, not escaped yet."""
    response: Message | None = None
    seconds: float = 0.0
    """From sending to the final response."""
    reused: bool = False
    flow: Flow | None = None


def as_text(result: Result) -> list[str]:
    """One line, and for a new TLS connection another one with what was verified."""
    place = escape(str(result.target))
    if result.response is None:
        detail = f": {escape(result.detail)}" if result.detail else ""
        return [f"{_LEAD[result.code]}: {place}  seq {result.number}  ({result.why}{detail})"]
    phrase = escape(result.response.reason_phrase)
    took = f"{result.seconds * 1000:.1f} ms{_connection_words(result)}"
    lines = [f"{result.response.status} {phrase}  {place}  seq {result.number}  {took}"]
    if result.flow is not None and result.flow.tls is not None and not result.reused:
        facts = result.flow.tls
        seconds_left = _seconds_left(facts)
        left = f", {seconds_left / 86_400:.0f} days left" if seconds_left is not None else ""
        lines.append(
            f"    {facts.version} {facts.cipher}, identity {escape(facts.matched_identity or '')},"
            f" certificate valid until {_expiry(facts)}{left}"
        )
    return lines


def as_json(result: Result) -> str:
    """One JSON object; the keys `status` and later ones are there only where it was answered."""
    told: dict[str, object] = {
        "seq": result.number,
        "target": escape(str(result.target)),
        "result": _WORDS[result.code],
    }
    if result.response is None:
        told |= {"why": result.why, "detail": escape(result.detail)}
        return json.dumps(told)
    told |= {
        "status": result.response.status,
        "reason": escape(result.response.reason_phrase),
        "seconds": round(result.seconds, 6),
        "reused": result.reused,
    }
    if result.flow is not None and result.flow.tls is not None:
        facts = result.flow.tls
        told["tls"] = {
            "version": facts.version,
            "cipher": facts.cipher,
            "identity": escape(facts.matched_identity or ""),
            "certificate_expires": _expiry(facts),
            "certificate_seconds_left": _seconds_left(facts),
        }
    return json.dumps(told)


def _connection_words(result: Result) -> str:
    if result.flow is None or not result.flow.transport.is_stream:
        return ""
    return "  connection reused" if result.reused else "  new connection"


def _expires_at(facts: TlsFacts) -> int | None:
    """Seconds since the epoch."""
    import ssl

    not_after = (facts.peer_certificate or {}).get("notAfter")
    return ssl.cert_time_to_seconds(not_after) if isinstance(not_after, str) else None


def _seconds_left(facts: TlsFacts) -> int | None:
    at = _expires_at(facts)
    return None if at is None else int(at - time.time())


def _expiry(facts: TlsFacts) -> str | None:
    """The end of the certificate's validity, ISO 8601."""
    at = _expires_at(facts)
    return None if at is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
