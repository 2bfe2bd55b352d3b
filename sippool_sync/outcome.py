"""The coming outcome of one send: what `send` and `reply` return, to be waited for where it matters.

1. The pool holds it weakly. Where nobody holds it when the send fails, or lets go of it before having looked,
   the failure becomes an event (`SendUnawaited`) instead.
2. It ends exactly once, at latest when the pool closes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sippool_core import SendCompleted, SendFailed

from .errors import SendCancelledError, send_error

if TYPE_CHECKING:
    from sippool_core import Outcome as Ending

    from .driver import Driver


class BaseOutcome:
    """What the outcomes of all adapters have in common."""

    __slots__ = ("__weakref__", "_driver", "_ending", "_unseen", "send_id")

    def __init__(self, driver: Driver, send_id: int) -> None:
        self._driver = driver
        self._ending: Ending | None = None
        self._unseen: SendFailed | None = None
        self.send_id = send_id
        """The number of the send within its pool."""

    @property
    def done(self) -> bool:
        """Whether the send has ended."""
        return self._ending is not None

    def result(self) -> SendCompleted:
        """How it was sent; raises `SendError` or `SendCancelledError` if it was not, `RuntimeError` if not `done`."""
        ending = self._ending
        if ending is None:
            raise RuntimeError("the send has not ended yet")
        self._unseen = None
        if isinstance(ending, SendCompleted):
            return ending
        if isinstance(ending, SendFailed):
            raise send_error(ending)
        raise SendCancelledError(ending)

    def cancel(self) -> None:
        """Give the send up: it is taken back, or, where bytes of it are on their way, goes on unwatched."""
        if self._ending is None:
            now = self._driver.enter()
            self._driver.core.cancel_send(self.send_id, now=now)
            self._driver.perform()

    def end(self, ending: Ending) -> None:
        """The driver says how it ended."""
        self._ending = ending
        if isinstance(ending, SendFailed):
            self._unseen = ending

    def __del__(self) -> None:
        if self._unseen is not None:
            self._driver.note_unawaited(self._unseen)

    def __repr__(self) -> str:
        ending = "pending" if self._ending is None else self._ending
        return f"<{type(self).__name__} {self.send_id}: {ending}>"


class Outcome(BaseOutcome):
    """The coming outcome of a send of a `SyncPool`."""

    __slots__ = ()

    def wait(self, timeout: float | None = None) -> SendCompleted:
        """Drive the pool until the send has ended; `timeout` is in seconds.

        Raises `SendError` if it failed, `SendCancelledError`, and the built-in `TimeoutError` when time has passed:
        then the send is cancelled. In a handler it raises `RuntimeError`.
        """
        self._driver.drive(lambda: self.done, timeout)
        if not self.done:
            self.cancel()
            raise TimeoutError(f"the send has not ended within {timeout} s, and is cancelled")
        return self.result()
