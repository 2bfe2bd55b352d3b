"""What the application learns: everything peers did, in the past tense.

1. An event is a fact about a peer; the outcome of a send is an effect (`effects`), and becomes an event
   only where nobody awaits it.
2. Plain slotted dataclasses: one is made for each message, and frozen ones cost four times as much. Treat
   them as constants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .address import Address, Transport
    from .effects import SendFailed
    from .message import Message
    from .reasons import CloseReason, Defect, DropReason


@dataclass(frozen=True, slots=True, eq=False)
class TlsFacts:
    """What the handshake proved, kept after the connection has gone."""

    version: str
    """`TLSv1.2` or `TLSv1.3`."""
    cipher: str
    identities: tuple[str, ...]
    """The SIP identities of the peer's verified certificate (RFC 5922 section 7.1); empty if it showed none."""
    matched_identity: str | None
    """The one that made us trust the server we connected to; `None` in the server role."""
    peer_certificate: dict[str, Any] | None
    """As `ssl.SSLSocket.getpeercert()` gives it; `None` if the peer showed no certificate."""
    peer_certificate_der: bytes | None


class Flow(NamedTuple):
    """The way between us and one peer (the word of RFC 5626 section 2): the origin of a message.

    It holds no socket, so it may be kept as long as one likes.
    """

    id: int
    """A connection's or, over UDP, a listener's number; never used twice in a pool."""
    transport: Transport
    peer: Address
    local: Address
    """Our end; port 0 and a wildcard host where it is not known (yet)."""
    listener_id: int | None
    """The listener that received or accepted it, or whose address was used to open it."""
    outbound: bool = False
    """Whether we opened the connection."""
    tls: TlsFacts | None = None

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.peer.family


@dataclass(slots=True)
class MessageReceived:
    """A whole, well-formed message. A request's top Via is stamped (RFC 3261 section 18.2.1)."""

    message: Message
    flow: Flow


@dataclass(slots=True)
class MalformedReceived:
    """A message whose boundary is known but which cannot be used; the connection stays.

    `message` may be given to `reply` if `can_reply`; it is for answering, not for acting on.
    """

    defect: Defect
    message: Message
    flow: Flow

    @property
    def can_reply(self) -> bool:
        """Whether it is a request with enough of a Via to answer to (never an ACK)."""
        return self.message.can_be_answered

    @property
    def status_code(self) -> int:
        """The status that a stack may answer with."""
        return self.defect.status_code


@dataclass(slots=True)
class FramingFailed:
    """The end of a message is unknown: nothing after it is parsed, and the connection closes.

    Where `message` (its header) is there and `can_reply`, one answer may be sent within `close_seconds`.
    """

    defect: Defect
    message: Message | None
    flow: Flow

    @property
    def can_reply(self) -> bool:
        """Whether enough of the header is known to answer to."""
        return self.message is not None and self.message.can_be_answered

    @property
    def status_code(self) -> int:
        """The status that a stack may answer with."""
        return self.defect.status_code


@dataclass(slots=True)
class PingReceived:
    """A peer sent CRLFCRLF between messages; the pong is on its way (RFC 5626 section 4.4.1)."""

    flow: Flow


@dataclass(slots=True)
class ConnectionOpened:
    """A connection can carry messages: accepted or connected, and over TLS verified."""

    flow: Flow


@dataclass(slots=True)
class PeerFinished:
    """The peer will send nothing more, but answers to its requests still go out."""

    flow: Flow


@dataclass(slots=True)
class ConnectionClosed:
    """A connection has ended, whether it ever opened or not; nothing about it comes later."""

    flow: Flow
    reason: CloseReason
    detail: str = ""
    """The system's or OpenSSL's words, printable."""


@dataclass(slots=True)
class InputDropped:
    """Input was thrown away, and counted; told only while there is room for events."""

    reason: DropReason
    flow: Flow
    size: int
    """Bytes; 0 for a refused connection."""


@dataclass(slots=True)
class PeerUnreachable:
    """The network said, after a datagram had been sent, that nobody is there (ICMP)."""

    flow: Flow
    """`peer` is where the datagram went, as far as the system tells."""
    detail: str


@dataclass(slots=True)
class SendUnawaited:
    """A send failed whose outcome nobody holds any more."""

    failed: SendFailed


Event = (
    MessageReceived
    | MalformedReceived
    | FramingFailed
    | PingReceived
    | ConnectionOpened
    | PeerFinished
    | ConnectionClosed
    | InputDropped
    | PeerUnreachable
    | SendUnawaited
)
