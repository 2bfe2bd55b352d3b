"""Every number of a pool, with its unit and its reason; settings belong to one pool, never to the process.

All dataclasses here are frozen and validated when made; `ConfigurationError` says what is wrong.
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from .address import Address, split_host_port
from .errors import ConfigurationError

if TYPE_CHECKING:
    import os
    import ssl


@dataclass(frozen=True)
class Limits:
    """What a peer or an application can make the pool hold, at most."""

    max_header_bytes: int = 2**14
    """Header of one message, start line to the last line end before the empty line (the seed's number)."""
    max_body_bytes: int = 2**16
    """Body of one message (the seed's number)."""
    max_header_lines: int = 256
    """Header lines of one message, folded ones counted: stops bombs of thousands of tiny headers."""
    max_keepalive_bytes: int = 2**16
    """Bytes of line ends between messages within `keepalive_window_seconds`: stops ping floods."""
    max_malformed: int = 8
    """Malformed but well framed messages of one connection within `malformed_window_seconds`."""
    max_open_requests: int = 30
    """Requests remembered a connection, to route the answers (the seed's number)."""
    read_bytes: int = 2**16
    """Bytes taken from a socket at once (the seed's number)."""
    max_connections: int = 1024
    """Connections of the pool in all, accepted and opened."""
    max_connections_per_source: int = 256
    """Accepted connections from one IPv4 address or one IPv6 /64."""
    max_handshakes: int = 64
    """Accepted TLS handshakes under way (42 KiB each); the next one waits unread."""
    max_queued_bytes: int = 2**18
    """Bytes queued for one connection, TLS output counted: bounds what a peer that never reads costs."""
    max_queued_messages: int = 256
    """Messages queued for one connection."""
    max_queued_bytes_total: int = 2**24
    """Bytes queued for all connections."""
    max_events: int = 1024
    """Events the application has not taken."""
    max_event_bytes: int = 2**23
    """Bytes of the messages in those events."""
    max_partial_bytes: int = 2**25
    """Bytes of unfinished messages, all connections together."""
    spare_descriptors: int = 64
    """Descriptors left to the rest of the process when `max_connections` is checked against its limit."""

    def __post_init__(self) -> None:
        _require_positive(self, zero_allowed=("spare_descriptors",))
        if self.max_queued_bytes < self.max_header_bytes + self.max_body_bytes:
            raise ConfigurationError(
                "max_queued_bytes is smaller than one message may be"
                " (max_header_bytes + max_body_bytes)"
            )


@dataclass(frozen=True)
class Timeouts:
    """How long the pool waits, in seconds."""

    connect_seconds: float = 10.0
    """Opening a TCP connection (the seed's number)."""
    handshake_seconds: float = 10.0
    """A TLS handshake, in either role."""
    handshake_stall_seconds: float = 1.0
    """A handshake without progress for this long may lose its place to one that waits."""
    first_message_seconds: float = 20.0
    """The first whole message after accept; keep-alives do not count (slowloris)."""
    message_seconds: float = 20.0
    """One message, from its first byte (slowloris)."""
    write_seconds: float = 10.0
    """A write without any progress: the peer has stopped reading."""
    close_seconds: float = 1.0
    """The last bytes of a connection that is closing, and one answer after a framing error."""
    min_idle_seconds: float = 15.0
    """Idle time of a connection in a crowded pool (the seed's number)."""
    max_idle_seconds: float = 120.0
    """Idle time of a connection alone (the seed's number)."""
    transaction_seconds: float = 32.0
    """64*T1: a connection that owes or awaits an answer lives at least this long (RFC 3261 section 18)."""
    ringing_seconds: float = 181.0
    """More than Timer C: the same after a provisional answer to an INVITE (RFC 3261 section 16.6)."""
    keepalive_window_seconds: float = 20.0
    """The span in which `max_keepalive_bytes` is counted."""
    malformed_window_seconds: float = 32.0
    """The span in which `max_malformed` is counted."""
    accept_retry_seconds: float = 0.1
    """The first pause of a listener after accept failed for want of descriptors; doubles ..."""
    accept_retry_max_seconds: float = 1.0
    """... up to this."""

    def __post_init__(self) -> None:
        _require_positive(self)
        if self.max_idle_seconds < self.min_idle_seconds:
            raise ConfigurationError("max_idle_seconds is smaller than min_idle_seconds")
        if self.accept_retry_max_seconds < self.accept_retry_seconds:
            raise ConfigurationError(
                "accept_retry_max_seconds is smaller than accept_retry_seconds"
            )


class ClientVerification(enum.Enum):
    """Whether TLS clients must show a certificate (the seed's `verify_client`)."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True)
class TlsSettings:
    """One certificate, key and CA for both roles, or the caller's own contexts.

    A context that is given is used as it is, and never changed; the files then serve the other role.
    """

    certificate: str | os.PathLike[str] | None = None
    """File with our certificate chain (PEM): shown as server, and as client when the peer asks."""
    key: str | os.PathLike[str] | None = None
    """File with its private key (PEM); `None`: it is in the certificate's file."""
    ca: str | os.PathLike[str] | None = None
    """File with the CAs that peers must be signed by; `None`: the system's, for servers we connect to."""
    verify_client: ClientVerification = ClientVerification.NONE
    """Whether clients must show a certificate; stays `NONE` also where a CA is given."""
    server_context: ssl.SSLContext | None = None
    """For accepted connections, instead of the files; TLS 1.2 at least."""
    client_context: ssl.SSLContext | None = None
    """For opened connections, instead of the files; TLS 1.2 at least, `CERT_REQUIRED`, and
    `check_hostname` off, for SIP has its own rules (RFC 5922 section 7)."""
    allow_common_name: bool = False
    """Whether a certificate without any subjectAltName may be known by its common name."""

    def __post_init__(self) -> None:
        if self.key is not None and self.certificate is None:
            raise ConfigurationError("a TLS key was given without its certificate")
        needs_ca = self.verify_client is not ClientVerification.NONE and self.server_context is None
        if needs_ca and self.ca is None:
            raise ConfigurationError(
                f"verify_client is {self.verify_client.value}, but there is no CA to verify against: set ca"
            )


@dataclass(frozen=True)
class Restriction:
    """The one place a pool may talk to: forced on every send, checked on everything received."""

    host: Address
    """The address; its port is 0 where any port of that host will do."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """`192.0.2.1`, `192.0.2.1:5060`, `[2001:db8::1]:5060`."""
        host, port = split_host_port(text)
        return cls(Address.of(host, port or 0))

    @classmethod
    def to(cls, address: Address) -> Self:
        """The restriction to `address`, and to its port unless that is 0."""
        return cls(Address.of(address.host, address.port, address.scope))

    def force(self, address: Address) -> Address:
        """The address a send really goes to, whatever was asked."""
        return self.host if self.host.port else self.host._replace(port=address.port)

    def allows_connection_from(self, source: Address) -> bool:
        """An accepted connection comes from an ephemeral port, so the address alone counts."""
        return self.host.same_host(source)

    def allows_datagram_from(self, source: Address) -> bool:
        """A datagram comes from the port that is written to."""
        return self.host.same_host(source) and self.host.port in (0, source.port)


@dataclass(frozen=True)
class PoolConfig:
    """The settings of one pool."""

    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    restrict_to: Restriction | None = None
    tls: TlsSettings | None = None

    def __post_init__(self) -> None:
        restriction: object = self.restrict_to
        if restriction is not None and not isinstance(restriction, Restriction):
            # Else it would be noticed by the first datagram, and not by the caller.
            raise ConfigurationError(
                f"restrict_to is {restriction!r}: use Restriction.parse(text) or Restriction.to(address)"
            )

    def replace(self, **numbers: Any) -> PoolConfig:  # noqa: ANN401 - int or float, checked by the field
        """A copy with some of the numbers of `Limits` and `Timeouts` changed by their flat names.

        Raises `ConfigurationError` for a name that is neither's.
        """
        limits = {name: numbers.pop(name) for name in number_names(Limits) if name in numbers}
        timeouts = {name: numbers.pop(name) for name in number_names(Timeouts) if name in numbers}
        if numbers:
            raise ConfigurationError(f"no such setting: {', '.join(sorted(numbers))}")
        return dataclasses.replace(
            self,
            limits=dataclasses.replace(self.limits, **limits),
            timeouts=dataclasses.replace(self.timeouts, **timeouts),
        )


def number_names(group: type[Limits | Timeouts]) -> tuple[str, ...]:
    """The flat names of a group of settings, in their order."""
    return tuple(item.name for item in dataclasses.fields(group))


def _require_positive(group: Limits | Timeouts, zero_allowed: tuple[str, ...] = ()) -> None:
    for name in number_names(type(group)):
        value = getattr(group, name)
        kind = int if isinstance(group, Limits) else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind):
            raise ConfigurationError(f"{name} is {value!r}, not a number of the right kind")
        if not (value > 0 or (value == 0 and name in zero_allowed)) or value == float("inf"):
            raise ConfigurationError(f"{name} is {value!r}; it must be positive and finite")
