"""Why: input refused, a connection closed, a send failed, each as a member of an enum.

1. Tests, counters and applications compare members, never the text of a message.
2. An errno becomes a reason here and nowhere else.
"""

from __future__ import annotations

import enum
import errno


class Defect(enum.Enum):
    """What is wrong with received bytes.

    On a stream the first group is fatal (the end of the message is unknown, so nothing after it can be
    trusted); the second leaves the boundary known and the connection open.
    """

    # The boundary is lost.
    NOT_SIP = "not_sip"
    BARE_CR = "bare_cr"
    BARE_LF = "bare_lf"
    HEADER_TOO_LARGE = "header_too_large"
    TOO_MANY_HEADERS = "too_many_headers"
    MISSING_CONTENT_LENGTH = "missing_content_length"
    INVALID_CONTENT_LENGTH = "invalid_content_length"
    CONFLICTING_CONTENT_LENGTH = "conflicting_content_length"
    SUSPICIOUS_CONTENT_LENGTH = "suspicious_content_length"
    BODY_TOO_LARGE = "body_too_large"
    KEEPALIVE_FLOOD = "keepalive_flood"
    # The boundary is known.
    START_LINE = "start_line"
    VERSION = "version"
    STATUS_CODE = "status_code"
    HEADER_LINE = "header_line"
    HEADER_NAME = "header_name"
    VIA = "via"
    CSEQ = "cseq"
    CALL_ID = "call_id"
    METHOD_MISMATCH = "method_mismatch"
    SHORT_BODY = "short_body"

    @property
    def status_code(self) -> int:
        """The status that a stack may answer a request with this defect (RFC 3261 section 21)."""
        return _STATUS.get(self, 400)


_STATUS = {
    Defect.VERSION: 505,
    Defect.HEADER_TOO_LARGE: 513,
    Defect.TOO_MANY_HEADERS: 513,
    Defect.BODY_TOO_LARGE: 413,
}


class DropReason(enum.Enum):
    """Why input never became a message event."""

    NOT_ALLOWED = "not_allowed"
    """It came from elsewhere than the restricted destination; it was not parsed."""
    BAD_SOURCE = "bad_source"
    """Source port 0, a multicast or wildcard source, or the listener's own address."""
    KEEPALIVE = "keepalive"
    """An empty datagram, line ends, or too few bytes for any SIP message."""
    NOT_SIP = "not_sip"
    MALFORMED_RESPONSE = "malformed_response"
    """A response whose sender could not use an answer (RFC 3261 section 18.3)."""
    TRUNCATED_DATAGRAM = "truncated_datagram"
    OVERLOAD = "overload"
    """The application has not taken earlier events; streams wait instead."""
    TOO_MANY_CONNECTIONS = "too_many_connections"
    TOO_MANY_FROM_SOURCE = "too_many_from_source"


class CloseReason(enum.Enum):
    """Why a connection ended."""

    CLOSED_BY_PEER = "closed_by_peer"
    TRUNCATED = "truncated"
    """The peer closed inside a message, or without TLS close_notify inside one."""
    UNCLEAN_TLS_CLOSE = "unclean_tls_close"
    """EOF between messages, but without close_notify: somebody may have cut the stream."""
    RESET = "reset"
    SYSTEM_ERROR = "system_error"
    CONNECT_FAILED = "connect_failed"
    CONNECT_TIMEOUT = "connect_timeout"
    HANDSHAKE_FAILED = "handshake_failed"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    HANDSHAKE_DISPLACED = "handshake_displaced"
    """It made no progress while others waited for its place."""
    IDENTITY_MISMATCH = "identity_mismatch"
    CERTIFICATE_REFUSED = "certificate_refused"
    """The peer refused our certificate, or asked for one that we do not have."""
    RENEGOTIATION = "renegotiation"
    FRAMING_ERROR = "framing_error"
    TOO_MANY_MALFORMED = "too_many_malformed"
    FIRST_MESSAGE_TIMEOUT = "first_message_timeout"
    MESSAGE_TIMEOUT = "message_timeout"
    WRITE_TIMEOUT = "write_timeout"
    HALF_CLOSED_TIMEOUT = "half_closed_timeout"
    EXPIRED = "expired"
    EVICTED = "evicted"
    """The pool was full, and another connection had the better claim."""
    RECEIVE_OVERLOAD = "receive_overload"
    """All connections together hold too many bytes of unfinished messages; this one was the oldest."""
    CLOSED_LOCALLY = "closed_locally"
    POOL_CLOSED = "pool_closed"


class SendFailure(enum.Enum):
    """Why an accepted send did not end as sent."""

    CONNECTION_REFUSED = "connection_refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect_timeout"
    HANDSHAKE_FAILED = "handshake_failed"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    IDENTITY_MISMATCH = "identity_mismatch"
    CERTIFICATE_REFUSED = "certificate_refused"
    CONNECTION_LOST = "connection_lost"
    WRITE_TIMEOUT = "write_timeout"
    FLOW_FAILED = "flow_failed"
    """The flow of the request is gone (the word of RFC 5626), and no other may be used."""
    TOO_LARGE = "too_large"
    """The datagram is larger than the network takes (EMSGSIZE)."""
    NO_RESOURCES = "no_resources"
    """Out of descriptors, ports or buffers."""
    TOO_MANY_CONNECTIONS = "too_many_connections"
    SYSTEM_ERROR = "system_error"
    POOL_CLOSED = "pool_closed"


_UNREACHABLE = {
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.ENETDOWN,
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
    errno.EACCES,
    errno.EPERM,
    errno.EINVAL,
}
_RESET = {errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ENOTCONN, errno.ESHUTDOWN}
_RESOURCES = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.EAGAIN,
    errno.EADDRINUSE,
}


def errno_name(code: int) -> str:
    """The symbol of an errno, such as `ECONNREFUSED`; empty for 0, which is no error."""
    return errno.errorcode.get(code, f"errno {code}") if code else ""


def send_failure_from_errno(code: int) -> SendFailure:
    """The reason a send failed when the operating system answered `code`."""
    if code == errno.ECONNREFUSED:
        return SendFailure.CONNECTION_REFUSED
    if code == errno.ETIMEDOUT:
        return SendFailure.CONNECT_TIMEOUT
    if code == errno.EMSGSIZE:
        return SendFailure.TOO_LARGE
    if code in _UNREACHABLE:
        return SendFailure.UNREACHABLE
    if code in _RESET:
        return SendFailure.CONNECTION_LOST
    if code in _RESOURCES:
        return SendFailure.NO_RESOURCES
    return SendFailure.SYSTEM_ERROR


def close_reason_from_errno(code: int) -> CloseReason:
    """The reason an open connection ended when the operating system answered `code`."""
    return CloseReason.RESET if code in _RESET else CloseReason.SYSTEM_ERROR


_SEND_FAILURE_OF = {
    CloseReason.CONNECT_TIMEOUT: SendFailure.CONNECT_TIMEOUT,
    CloseReason.HANDSHAKE_FAILED: SendFailure.HANDSHAKE_FAILED,
    CloseReason.HANDSHAKE_TIMEOUT: SendFailure.HANDSHAKE_TIMEOUT,
    CloseReason.HANDSHAKE_DISPLACED: SendFailure.HANDSHAKE_FAILED,
    CloseReason.IDENTITY_MISMATCH: SendFailure.IDENTITY_MISMATCH,
    CloseReason.CERTIFICATE_REFUSED: SendFailure.CERTIFICATE_REFUSED,
    CloseReason.WRITE_TIMEOUT: SendFailure.WRITE_TIMEOUT,
    CloseReason.POOL_CLOSED: SendFailure.POOL_CLOSED,
}


def send_failure_from_close(reason: CloseReason) -> SendFailure:
    """The reason of every send that a closing connection leaves undone."""
    return _SEND_FAILURE_OF.get(reason, SendFailure.CONNECTION_LOST)


def is_out_of_resources(code: int) -> bool:
    """Whether accepting failed for want of descriptors or memory, and trying at once would spin."""
    return code in _RESOURCES
