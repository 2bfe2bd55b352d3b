"""The pool for plain Python: what waits takes a `timeout`, and any other loop can wait in its place.

1. Whatever waits drives the whole pool meanwhile: every socket is served, every deadline kept.
2. Or a foreign loop waits: for `fileno()` to be readable or `next_deadline()` to pass, and then calls `process()`.
   Taking the descriptor out of that loop again is all it needs to detach.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Self

from sippool_core import MessageReceived, PoolClosed

from .base import BasePool, listen_at_all, make_config
from .driver import Driver
from .outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from sippool_core import Address, Event, PoolConfig, Restriction, TlsSettings

    from .listeners import ListenAt
    from .sockets import SocketLayer

# An application that takes long over each event still gets pongs and deadlines done in between.
_LONGEST_NEGLECT_SECONDS = 0.01


class SyncPool(BasePool[Outcome]):
    """A SIP transport layer: listeners, connections and their messages. Iterating gives the messages."""

    def __init__(
        self,
        *listen_at: ListenAt,
        tls: TlsSettings | None = None,
        config: PoolConfig | None = None,
        restrict_to: Restriction | Address | str | None = None,
        handler: Callable[[SyncPool, Event], None] | None = None,
        sockets: SocketLayer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open it; `tls` and `restrict_to` replace those of `config`.

        `handler` is called with each event while the pool is driven; then there is nothing to iterate over.
        Raises `ConfigurationError`, `ValueError` for a bad endpoint, and `OSError`.
        """
        bound_handler = None if handler is None else functools.partial(handler, self)
        config = make_config(config, tls, restrict_to)
        driver = Driver(config, handler=bound_handler, sockets=sockets, clock=clock)
        super().__init__(driver, Outcome)
        listen_at_all(driver, listen_at)
        driver.on_change = self._end_if_finished
        self._driven_at = driver.now

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        self._require_no_handler()
        return self

    def __next__(self) -> MessageReceived:
        while not self.is_closed:
            try:
                return self.receive()
            except InterruptedError:
                continue
        raise StopIteration

    def receive(self, timeout: float | None = None) -> MessageReceived:
        """The next message, other events being skipped; `timeout` is in seconds. Raises like `next_event`."""
        ends_at = None if timeout is None else self.clock() + timeout
        while True:
            left = None if ends_at is None else max(0.0, ends_at - self.clock())
            event = self.next_event(left)
            if isinstance(event, MessageReceived):
                return event

    def next_event(self, timeout: float | None = None) -> Event:
        """The next event, of whatever kind; `timeout` is in seconds.

        Raises `TimeoutError`; `InterruptedError` when `wake` was called and no event is there; `PoolClosed` when
        the pool is closed and all events are taken; `RuntimeError` in a pool with a handler.
        """
        self._require_no_handler()
        driver = self._driver
        now = driver.enter()
        if now - self._driven_at > _LONGEST_NEGLECT_SECONDS:
            self._driven_at = now
            self.process()
        event = driver.next_event()
        if event is None:
            driver.drive(self._is_worth_returning, timeout)
            self._driven_at = driver.now
            event = driver.next_event()
        if event is not None:
            return event
        if driver.is_shut:
            raise PoolClosed("the pool is closed")
        if driver.take_wake():
            raise InterruptedError("wake() was called")
        raise TimeoutError(f"no event within {timeout} s")

    def run(self, timeout: float | None = None) -> None:
        """Drive a pool with a handler until it is closed, `wake` is called, or `timeout` seconds have passed."""
        self._driver.drive(self._driver.take_wake, timeout)

    def process(self) -> None:
        """Do what is to be done, without ever waiting: for a foreign loop. In a handler it does nothing."""
        if not self._driver.is_busy and not self._driver.is_shut:
            self._driver.step()

    def fileno(self) -> int:
        """The descriptor that is readable when `process` has work.

        Raises `NoDescriptor` where the system's selector has none.
        """
        return self._driver.fileno()

    def next_deadline(self) -> float | None:
        """The instant of `clock` at which `process` is to be called in any case; may have passed already."""
        return self._driver.next_deadline()

    def close(self, timeout: float | None = None) -> None:
        """Close everything in order; what is queued goes out first, within `close_seconds`, or `timeout` if shorter.

        In a handler it only begins to close.
        """
        driver = self._driver
        driver.core.close(now=driver.enter())
        driver.perform()
        if driver.is_busy or driver.is_shut:
            return
        try:
            driver.drive(lambda: driver.is_finished, timeout)
        finally:
            # Time has passed, or somebody pressed Ctrl-C.
            if not driver.is_shut:
                driver.finish()

    def _is_worth_returning(self) -> bool:
        return self._driver.has_event() or self._driver.was_woken

    def _end_if_finished(self) -> None:
        if self._driver.is_finished:
            self._driver.shut()


def open_pool(
    *listen_at: ListenAt,
    tls: TlsSettings | None = None,
    config: PoolConfig | None = None,
    restrict_to: Restriction | Address | str | None = None,
    handler: Callable[[SyncPool, Event], None] | None = None,
    sockets: SocketLayer | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> SyncPool:
    """`with open_pool("udp:0.0.0.0:5060", "tcp:0.0.0.0:5060") as pool: ...`; see `SyncPool`."""
    return SyncPool(
        *listen_at,
        tls=tls,
        config=config,
        restrict_to=restrict_to,
        handler=handler,
        sockets=sockets,
        clock=clock,
    )
