"""How a send that was not sent looks to whoever waited for it: an exception for each kind of failure.

Each is an `OSError`, and where a script would catch a narrower built-in one, that one as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sippool_core import SendFailure, SippoolError

if TYPE_CHECKING:
    from sippool_core import SendCancelled, SendFailed


class SendError(SippoolError, OSError):
    """A message was not sent, or not wholly."""

    def __init__(self, failed: SendFailed) -> None:
        super().__init__(_text(failed))
        self.failed = failed
        """Why, over which flow, and whether bytes of it may be out."""


class SendRefusedError(SendError, ConnectionRefusedError):
    """Nobody listens there."""


class SendTimeoutError(SendError, TimeoutError):
    """Connecting, the TLS handshake or a write took longer than the pool's settings allow."""


class SendConnectionError(SendError, ConnectionError):
    """The connection was lost, or the flow of the message is gone."""


class SendCancelledError(SippoolError):
    """The send was cancelled by somebody else than the one who waits for it."""

    def __init__(self, cancelled: SendCancelled) -> None:
        super().__init__("the send was cancelled")
        self.cancelled = cancelled


class NoDescriptor(SippoolError, NotImplementedError):
    """This system's selector has no descriptor that another loop could wait for."""


_KINDS: dict[SendFailure, type[SendError]] = {
    SendFailure.CONNECTION_REFUSED: SendRefusedError,
    SendFailure.CONNECT_TIMEOUT: SendTimeoutError,
    SendFailure.HANDSHAKE_TIMEOUT: SendTimeoutError,
    SendFailure.WRITE_TIMEOUT: SendTimeoutError,
    SendFailure.CONNECTION_LOST: SendConnectionError,
    SendFailure.FLOW_FAILED: SendConnectionError,
}


def send_error(failed: SendFailed) -> SendError:
    """The exception of a failure."""
    return _KINDS.get(failed.reason, SendError)(failed)


def _text(failed: SendFailed) -> str:
    where = "" if failed.flow is None else f" to {failed.flow.transport.value}:{failed.flow.peer}"
    detail = f" ({failed.detail})" if failed.detail else ""
    return f"sending{where} failed: {failed.reason.value.replace('_', ' ')}{detail}"
