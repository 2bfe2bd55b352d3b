"""The pool for asyncio and trio: one task drives it, and its words are awaited.

1. Sockets are touched only inside `Driver.step` and in the calls that queue, none of which awaits; so no
   cancellation can fall between a command of the core and the system call.
2. The driver task waits for one descriptor and one deadline. It is shielded, so the pool serves whatever the
   body of `async with` still does while it is cancelled, and ends with it.
3. Nobody's timeout is here: deadlines are the core's, or the caller's cancel scopes.
4. Events stay in the core until somebody takes them; a cancelled `receive` has taken none.
"""

from __future__ import annotations

import functools
import math
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import anyio
import anyio.lowlevel

from sippool_core import MessageReceived, PoolClosed
from sippool_sync import BasePool, Driver, listen_at_all, make_config

from .outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sippool_core import Address, Event, PoolConfig, Restriction, TlsSettings
    from sippool_sync import ListenAt, SocketLayer

# Events that are there are taken without waiting, but others get their turn this often.
_EVENTS_A_TURN = 16


class AsyncPool(BasePool[Outcome]):
    """A SIP transport layer; made by `open_pool`. Iterating gives the messages."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver, Outcome)
        self._fileno = driver.fileno()
        self._scope: anyio.CancelScope | None = None
        self._wakes_at = math.inf
        """The core's time at which the driver task wakes at latest."""
        self._arrival = anyio.Event()
        self._someone_waits = False
        self._ended = anyio.Event()
        self._taken = 0
        driver.on_change = self._changed

    def __aiter__(self) -> Self:
        self._require_no_handler()
        return self

    async def __anext__(self) -> MessageReceived:
        try:
            return await self.receive()
        except PoolClosed:
            raise StopAsyncIteration from None

    async def receive(self) -> MessageReceived:
        """The next message, other events being skipped. Raises `PoolClosed`."""
        while True:
            event = await self.next_event()
            if isinstance(event, MessageReceived):
                return event

    async def next_event(self) -> Event:
        """The next event, of whatever kind.

        Raises `PoolClosed` when the pool is closed and all events are taken, `RuntimeError` in a pool with a handler.
        """
        self._require_no_handler()
        driver = self._driver
        driver.enter()
        self._taken += 1
        if self._taken % _EVENTS_A_TURN == 0:
            await anyio.lowlevel.checkpoint()
        while (event := driver.next_event()) is None:
            if self._ended.is_set():
                raise PoolClosed("the pool is closed")
            self._someone_waits = True
            await self._arrival.wait()
        # Room in the inbox may be what the core waits for.
        self._arm()
        return event

    def events(self) -> EventIterator:
        """All events, whatever their kind: `async for event in pool.events()`."""
        self._require_no_handler()
        return EventIterator(self)

    async def aclose(self) -> None:
        """Close everything in order, within `close_seconds`; if cancelled, at once."""
        self.close_soon()
        try:
            await self._ended.wait()
        except anyio.get_cancelled_exc_class():
            # The driver task may be waiting for the descriptor, so giving it back is left to that.
            if not self._driver.is_shut:
                self._driver.finish()
            raise

    def close_soon(self) -> None:
        """Begin to close, as `aclose` does, without waiting."""
        driver = self._driver
        driver.core.close(now=driver.enter())
        driver.perform()

    async def drive(self) -> None:
        """The driver task."""
        driver = self._driver
        try:
            while not driver.is_finished:
                # A scope whose deadline comes is used up; until then it is only ever set earlier.
                self._wakes_at = math.inf
                with anyio.CancelScope(shield=True) as self._scope:
                    while not driver.is_finished:
                        if driver.step():
                            await anyio.lowlevel.checkpoint()
                        else:
                            await anyio.wait_readable(self._fileno)
        finally:
            self._scope = None
            self.give_up()

    def give_up(self) -> None:
        """End whatever has not ended; the driver task has."""
        driver = self._driver
        if not driver.is_shut:
            try:
                driver.finish()
            finally:
                driver.shut()
        self._ended.set()
        self._arrival.set()

    def _changed(self) -> None:
        """The pool has been driven, or called."""
        if self._someone_waits and (self._driver.has_event() or self._driver.is_finished):
            self._someone_waits = False
            self._arrival.set()
            self._arrival = anyio.Event()
        self._arm()

    def _arm(self) -> None:
        """See that the driver task wakes at the core's next deadline, and when there is nothing left to drive."""
        if self._scope is None:
            return
        if self._driver.is_finished:
            self._scope.cancel()
            return
        deadline = self._driver.next_deadline()
        if deadline is not None and deadline < self._wakes_at:
            self._wakes_at = deadline
            self._scope.deadline = anyio.current_time() + max(0.0, deadline - self._driver.clock())


class EventIterator:
    """What `AsyncPool.events` returns."""

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self._pool.next_event()
        except PoolClosed:
            raise StopAsyncIteration from None


@asynccontextmanager
async def open_pool(
    *listen_at: ListenAt,
    tls: TlsSettings | None = None,
    config: PoolConfig | None = None,
    restrict_to: Restriction | Address | str | None = None,
    handler: Callable[[AsyncPool, Event], None] | None = None,
    sockets: SocketLayer | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[AsyncPool]:
    """`async with open_pool("udp:0.0.0.0:5060", "tcp:0.0.0.0:5060") as pool: ...`

    `tls` and `restrict_to` replace those of `config`. `handler` is a plain function that is called with each event;
    then there is nothing to iterate over. Raises `ConfigurationError`, `ValueError` for a bad endpoint, `OSError`,
    and `NoDescriptor` where the system has neither epoll nor kqueue. Exceptions of the body pass unwrapped.
    """
    pool = _open(listen_at, make_config(config, tls, restrict_to), handler, sockets, clock)
    error: BaseException | None = None

    async def drive() -> None:
        nonlocal error
        try:
            await pool.drive()
        except Exception as bug:  # noqa: BLE001 - raised below, without the group of a task nobody knows of
            error = bug
            tasks.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drive)
            try:
                yield pool
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as raised:  # noqa: BLE001 - the same
                error = error or raised
            finally:
                await pool.aclose()
    finally:
        pool.give_up()
        if error is not None:
            raise error


def _open(
    listen_at: tuple[ListenAt, ...],
    config: PoolConfig,
    handler: Callable[[AsyncPool, Event], None] | None,
    sockets: SocketLayer | None,
    clock: Callable[[], float],
) -> AsyncPool:
    driver = Driver(config, sockets=sockets, clock=clock)
    try:
        pool = AsyncPool(driver)
    except BaseException:
        driver.shut()
        raise
    if handler is not None:
        driver.handler = functools.partial(handler, pool)
    listen_at_all(driver, listen_at)
    return pool
