"""What an adapter must do now: commands in the imperative, and the outcomes of sends.

1. An adapter takes them in order from `Pool.next_effect` and performs each at once.
2. Every accepted send has exactly one of `SendCompleted`, `SendFailed`, `SendCancelled`.
3. Plain slotted dataclasses, for speed; treat them as constants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .address import Address
    from .events import Flow
    from .reasons import SendFailure


@dataclass(slots=True)
class OpenConnection:
    """Connect a TCP socket; report `handle_connected` or `handle_lost`. TLS is the core's own work."""

    connection_id: int
    peer: Address
    local: Address | None
    """The address to bind to (port 0), or `None` for the system's choice."""


@dataclass(slots=True)
class WriteData:
    """Write all of `data`, report each part that the kernel took by `handle_written`.

    There is at most one outstanding for each connection.
    """

    connection_id: int
    data: bytes


@dataclass(slots=True)
class ShutdownWriting:
    """Send FIN; go on reading."""

    connection_id: int


@dataclass(slots=True)
class CloseConnection:
    """Close the socket and forget the number; no report is expected."""

    connection_id: int
    abort: bool
    """With RST, throwing away what is unsent."""


@dataclass(slots=True)
class PauseReading:
    """Read nothing from this connection until `ResumeReading`."""

    connection_id: int


@dataclass(slots=True)
class ResumeReading:
    """Read again."""

    connection_id: int


@dataclass(slots=True)
class PauseAccepting:
    """Accept nothing on this listener until `ResumeAccepting`."""

    listener_id: int


@dataclass(slots=True)
class ResumeAccepting:
    """Accept again."""

    listener_id: int


@dataclass(slots=True)
class SendDatagram:
    """Send one datagram; report `handle_datagram_sent` or `handle_datagram_failed`, at once."""

    listener_id: int
    send_id: int
    data: bytes
    peer: Address


@dataclass(slots=True)
class CloseListener:
    """Close the listening socket if the adapter opened it, or hand it back, and forget the number."""

    listener_id: int


@dataclass(slots=True)
class SendCompleted:
    """The kernel has taken the last byte of this message."""

    send_id: int
    flow: Flow
    reused: bool
    """Whether it went over a connection that was open before."""


@dataclass(slots=True)
class SendFailed:
    """This message was not sent, or not wholly."""

    send_id: int
    reason: SendFailure
    bytes_may_be_out: bool
    """Whether the peer may have seen a part of it, or all."""
    flow: Flow | None
    detail: str = ""
    """The system's or OpenSSL's words, printable."""


@dataclass(slots=True)
class SendCancelled:
    """The application gave up waiting. Bytes that were on their way finish or the connection closes."""

    send_id: int
    bytes_may_be_out: bool


Outcome = SendCompleted | SendFailed | SendCancelled
Command = (
    OpenConnection
    | WriteData
    | ShutdownWriting
    | CloseConnection
    | PauseReading
    | ResumeReading
    | PauseAccepting
    | ResumeAccepting
    | SendDatagram
    | CloseListener
)
Effect = Command | Outcome
