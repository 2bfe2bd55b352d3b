"""sippool_core: the SIP transport layer (RFC 3261 section 18) as a pure state machine.

Make a `Pool`, report to it what sockets do, do what it says, and read what peers said::

    pool = Pool(PoolConfig(), now=clock())
    pool.handle_datagram(listener_id, data, source, now=clock())
    while (effect := pool.next_effect()) is not None:
        ...                       # perform the command, or hand an outcome to whoever waits for it
    while (event := pool.next_event()) is not None:
        ...                       # MessageReceived, ConnectionClosed, InputDropped, ...
    wait_until(pool.next_deadline())   # then pool.handle_timer(now=clock())

Nothing here touches a socket, a clock, a thread or a logger.
"""

from .address import Address, Endpoint, NamedTarget, Target, Transport
from .config import (
    ClientVerification,
    Limits,
    PoolConfig,
    Restriction,
    Timeouts,
    TlsSettings,
    number_names,
)
from .effects import (
    CloseConnection,
    CloseListener,
    Command,
    Effect,
    OpenConnection,
    Outcome,
    PauseAccepting,
    PauseReading,
    ResumeAccepting,
    ResumeReading,
    SendCancelled,
    SendCompleted,
    SendDatagram,
    SendFailed,
    ShutdownWriting,
    WriteData,
)
from .errors import (
    AmbiguousTransaction,
    ConfigurationError,
    InvalidMessage,
    NoRoute,
    PoolClosed,
    QueueFull,
    SippoolError,
)
from .events import (
    ConnectionClosed,
    ConnectionOpened,
    Event,
    Flow,
    FramingFailed,
    InputDropped,
    MalformedReceived,
    MessageReceived,
    PeerFinished,
    PeerUnreachable,
    PingReceived,
    SendUnawaited,
    TlsFacts,
)
from .framing import Broken, Malformed, Ping, StreamFramer, check_outgoing, frame_datagram
from .message import Message, Via, stamp
from .pool import Pool
from .reasons import (
    CloseReason,
    Defect,
    DropReason,
    SendFailure,
    close_reason_from_errno,
    errno_name,
    is_out_of_resources,
    send_failure_from_errno,
)
from .state import Stats

__all__ = [
    "Pool",
    "PoolConfig",
    "Limits",
    "Timeouts",
    "TlsSettings",
    "ClientVerification",
    "Restriction",
    "number_names",
    "Transport",
    "Address",
    "Target",
    "NamedTarget",
    "Endpoint",
    "Flow",
    "TlsFacts",
    "Message",
    "Via",
    "Event",
    "MessageReceived",
    "MalformedReceived",
    "FramingFailed",
    "PingReceived",
    "ConnectionOpened",
    "PeerFinished",
    "ConnectionClosed",
    "InputDropped",
    "PeerUnreachable",
    "SendUnawaited",
    "Effect",
    "Command",
    "OpenConnection",
    "WriteData",
    "ShutdownWriting",
    "CloseConnection",
    "PauseReading",
    "ResumeReading",
    "PauseAccepting",
    "ResumeAccepting",
    "SendDatagram",
    "CloseListener",
    "Outcome",
    "SendCompleted",
    "SendFailed",
    "SendCancelled",
    "Defect",
    "DropReason",
    "CloseReason",
    "SendFailure",
    "send_failure_from_errno",
    "close_reason_from_errno",
    "errno_name",
    "is_out_of_resources",
    "SippoolError",
    "ConfigurationError",
    "InvalidMessage",
    "NoRoute",
    "AmbiguousTransaction",
    "QueueFull",
    "PoolClosed",
    "Stats",
    "StreamFramer",
    "Ping",
    "Malformed",
    "Broken",
    "frame_datagram",
    "check_outgoing",
    "stamp",
]
