"""The coming outcome of one send, as an awaitable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from sippool_sync import BaseOutcome, Driver

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from sippool_core import Outcome as Ending
    from sippool_core import SendCompleted


class Outcome(BaseOutcome):
    """What `send` and `reply` of an `AsyncPool` return."""

    __slots__ = ("_ended",)

    def __init__(self, driver: Driver, send_id: int) -> None:
        super().__init__(driver, send_id)
        self._ended: anyio.Event | None = None

    def __await__(self) -> Generator[Any, Any, SendCompleted]:
        return self._wait().__await__()

    def end(self, ending: Ending) -> None:
        """The driver says how it ended."""
        super().end(ending)
        if self._ended is not None:
            self._ended.set()

    async def _wait(self) -> SendCompleted:
        """Wait until the send has ended.

        Raises `SendError` or `SendCancelledError` if it was not sent. If the waiting is cancelled, so is the send: it is
        taken back, or, where bytes of it are on their way, goes on unwatched, so the stream stays whole.
        """
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
            if self._ended is None:
                self._ended = anyio.Event()
            if self.done:
                # A datagram is sent at once; without this a loop of sends would starve everybody else.
                await anyio.lowlevel.cancel_shielded_checkpoint()
            else:
                await self._ended.wait()
        except anyio.get_cancelled_exc_class():
            self.cancel()
            raise
        return self.result()
