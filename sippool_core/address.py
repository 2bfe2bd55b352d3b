"""Addresses, transports and targets in their one normal form.

1. Everything compared anywhere in the core is an `Address` made here, so two spellings of one
   place are equal and two places never are.
2. No name is ever looked up: a host is an IP literal, or the text is refused.
3. A scope (zone) is an interface number; names of interfaces are the adapters' to translate.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from typing import Any, NamedTuple


class Transport(enum.Enum):
    """How messages travel: the three of RFC 3261 section 18."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"

    # Enum's own __hash__ is a Python function; members are singletons, and hashing one is on the path
    # of every reuse key.
    __hash__ = object.__hash__

    @property
    def is_stream(self) -> bool:
        """Whether the transport is a byte stream that needs framing by Content-Length."""
        return self is not Transport.UDP

    @property
    def default_port(self) -> int:
        """The port of a SIP URI without one (RFC 3261 section 19.1.2)."""
        return 5061 if self is Transport.TLS else 5060


class Address(NamedTuple):
    """An IP address and port, normalised: IPv4-mapped IPv6 is IPv4, IPv6 is in its shortest form.

    Build it with `Address.of`, `Address.parse` or `Address.from_sockaddr`; the bare constructor
    trusts its arguments.
    """

    host: str
    """An IP literal in normal form, without brackets or zone."""
    port: int
    """0 to 65535; 0 is "any port" and means something only for a local address."""
    scope: int = 0
    """The interface number of a link-local IPv6 address; 0 otherwise."""

    @classmethod
    def of(cls, host: str, port: int, scope: int = 0) -> Address:
        """The normal form of `host` (IP literal, a numeric zone allowed: `fe80::1%2`) and `port`.

        Raises `ValueError` for anything else, host names included.
        """
        if not 0 <= port <= 65535:
            raise ValueError(f"port {port} is not within 0 to 65535")
        text, percent, zone = host.partition("%")
        if percent:
            if not (zone.isascii() and zone.isdigit() and len(zone) <= 10):
                raise ValueError(f"zone {zone!r} of {host!r} is not an interface number")
            scope = int(zone)
        try:
            parsed = ipaddress.ip_address(text)
        except ValueError:
            raise ValueError(
                f"{host!r} is not an IP address; a name is resolved before the pool sees it"
            ) from None
        if isinstance(parsed, ipaddress.IPv6Address):
            mapped = parsed.ipv4_mapped
            if mapped is not None:
                return cls(str(mapped), port)
            return cls(parsed.compressed, port, scope if parsed.is_link_local else 0)
        if percent:
            raise ValueError(f"{host!r}: an IPv4 address has no zone")
        return cls(text, port)

    @classmethod
    def parse(cls, text: str, default_port: int | None = None) -> Address:
        """`192.0.2.1:5060`, `[2001:db8::1]:5060`; the port may be missing if a default is given."""
        host, port = split_host_port(text)
        if port is None:
            port = default_port
        if port is None:
            raise ValueError(f"{text!r} has no port")
        return cls.of(host, port)

    @classmethod
    def from_sockaddr(cls, sockaddr: Any) -> Address:  # noqa: ANN401 - typeshed's own type for it
        """What `recvfrom`, `accept`, `getsockname` and `getpeername` return."""
        host: str = sockaddr[0]
        if ":" not in host:
            return cls(host, sockaddr[1])
        # The kernel writes IPv6 in its shortest form already; only mapped addresses and zones differ.
        if host.startswith("::ffff:") or "%" in host:
            return cls.of(host, sockaddr[1], sockaddr[3])
        return cls(host, sockaddr[1], sockaddr[3])

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.host else 4

    @property
    def is_wildcard(self) -> bool:
        """Whether this is the address a socket binds to when any local address will do."""
        return self.host in ("0.0.0.0", "::")

    @property
    def bracketed(self) -> str:
        """The host as a SIP URI or Via writes it: IPv6 in brackets, never with a zone."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def same_host(self, other: Address) -> bool:
        """Whether both are the same machine's address, whatever the port."""
        return self.host == other.host and self.scope == other.scope

    def __str__(self) -> str:
        if ":" not in self.host:
            return f"{self.host}:{self.port}"
        zone = f"%{self.scope}" if self.scope else ""
        return f"[{self.host}{zone}]:{self.port}"


class Target(NamedTuple):
    """Where a message shall go: how, to which address, and for TLS to whom."""

    transport: Transport
    address: Address
    server_name: str | None = None
    """The SIP domain that a TLS peer's certificate must name (RFC 5922 section 7.1), sent as SNI;
    `None`: the certificate must hold the IP address itself."""

    @classmethod
    def parse(cls, text: str) -> Target:
        """An endpoint (`tcp:192.0.2.1:5060`) or a SIP URI (`sip:192.0.2.1;transport=tcp`).

        Raises `ValueError` where the text is neither, or names a host instead of an address
        (resolve it first: `sippool_sync.resolve`, `sippool_anyio.resolve`).
        """
        named = NamedTarget.parse(text)
        return cls(named.transport, Address.of(named.host, named.port), None)

    def __str__(self) -> str:
        name = f" ({self.server_name})" if self.server_name else ""
        return f"{self.transport.value}:{self.address}{name}"


class NamedTarget(NamedTuple):
    """A target whose host may still be a name: what a user types, before it is resolved."""

    transport: Transport
    host: str
    """A host name or an IP literal, without brackets."""
    port: int

    @classmethod
    def parse(cls, text: str) -> NamedTarget:
        """An endpoint or a SIP URI; raises `ValueError` for anything else.

        `sips:` is TLS whatever `transport=` says (RFC 3261 section 26.2.2).
        """
        scheme, colon, rest = text.strip().partition(":")
        if not colon:
            raise ValueError(
                f"{text!r} is neither a SIP URI nor an endpoint such as udp:192.0.2.1:5060"
            )
        scheme = scheme.lower()
        if scheme in ("sip", "sips"):
            transport, rest = _uri_transport(scheme, rest, text)
        else:
            transport = _transport(scheme, text)
        host, port = split_host_port(rest)
        return cls(transport, host, transport.default_port if port is None else port)

    def at(self, host: str, scope: int = 0) -> Target:
        """The target at one of the addresses the name resolved to; a name becomes the server name."""
        try:
            Address.of(self.host, self.port)
        except ValueError:
            return Target(self.transport, Address.of(host, self.port, scope), self.host)
        return Target(self.transport, Address.of(host, self.port, scope), None)


class Endpoint(NamedTuple):
    """Where a listener shall be: a transport and a local address."""

    transport: Transport
    address: Address

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """`udp:0.0.0.0:5060`, `tcp:[::1]:5060`, `tls:127.0.0.1` (the default port), port 0 for any."""
        scheme, colon, rest = text.partition(":")
        if not colon:
            raise ValueError(f"{text!r} is not an endpoint such as udp:192.0.2.1:5060")
        transport = _transport(scheme.lower(), text)
        return cls(transport, Address.parse(rest, transport.default_port))

    def __str__(self) -> str:
        return f"{self.transport.value}:{self.address}"


_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


def split_host_port(text: str) -> tuple[str, int | None]:
    """Cut `host`, `host:port`, `[v6]` or `[v6]:port`; raises `ValueError` for anything else."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not [address]:port")
        port_text = rest[1:] if rest else None
    else:
        host, colon, rest = text.partition(":")
        if ":" in rest:
            raise ValueError(f"{text!r}: an IPv6 address is written in brackets")
        port_text = rest if colon else None
    if not host:
        raise ValueError(f"{text!r} has no host")
    if port_text is None:
        return host, None
    if not _PORT.fullmatch(port_text) or int(port_text) > 65535:
        raise ValueError(f"{port_text!r} in {text!r} is not a port")
    return host, int(port_text)


def _transport(name: str, text: str) -> Transport:
    try:
        return Transport(name)
    except ValueError:
        raise ValueError(
            f"{name!r} in {text!r} is not a transport; there are udp, tcp and tls"
        ) from None


def _uri_transport(scheme: str, rest: str, text: str) -> tuple[Transport, str]:
    """The transport of a SIP URI, and what is left of it: host and port."""
    rest = rest.partition("?")[0]
    hostport, *parameters = rest.split(";")
    hostport = hostport.rpartition("@")[2]
    transport = Transport.UDP
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.lower() == "transport":
            transport = _transport(value.lower(), text)
    if scheme == "sips":
        transport = Transport.TLS
    return transport, hostport
