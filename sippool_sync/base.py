"""The words that the pools of all adapters have in common: the plain calls that never wait."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Generic, SupportsBytes, TypeVar

from sippool_core import Address, PoolConfig, Restriction

from .outcome import BaseOutcome

if TYPE_CHECKING:
    from sippool_core import (
        Event,
        Flow,
        FramingFailed,
        MalformedReceived,
        MessageReceived,
        Stats,
        Target,
        TlsSettings,
    )

    from .driver import Driver
    from .listeners import ListenAt, Listener

OutcomeT = TypeVar("OutcomeT", bound=BaseOutcome)


class BasePool(Generic[OutcomeT]):
    """A pool over a `Driver`."""

    def __init__(self, driver: Driver, outcome_type: type[OutcomeT]) -> None:
        self._driver = driver
        self._outcome_type = outcome_type

    def send(
        self,
        message: bytes | SupportsBytes,
        target: Target | str | None = None,
        *,
        flow: Flow | None = None,
    ) -> OutcomeT:
        """Queue a message: by `flow`, or for a response on the flow of its request, or to `target`.

        A target in words is an endpoint (`tcp:192.0.2.1:5060`) or a SIP URI with an address in it. Raises, with
        nothing queued: `InvalidMessage`, `NoRoute`, `AmbiguousTransaction`, `QueueFull`, `PoolClosed`, and `ValueError`
        for a target that cannot be read.
        """
        driver = self._driver
        send_id = driver.core.send(message, target, flow=flow, now=driver.enter())
        return self._track(send_id)

    def reply(
        self,
        received: MessageReceived | MalformedReceived | FramingFailed,
        response: bytes | SupportsBytes,
    ) -> OutcomeT:
        """Queue the answer to a received request, on the flow it came by. Raises like `send`."""
        driver = self._driver
        send_id = driver.core.reply(received, response, now=driver.enter())
        return self._track(send_id)

    def take_event(self) -> Event | None:
        """The next event if it is there already. Raises `RuntimeError` in a pool with a handler."""
        self._require_no_handler()
        self._driver.enter()
        event = self._driver.next_event()
        # Room in the inbox may be what the core waits for.
        self._driver.perform()
        return event

    def close_flow(self, flow: Flow) -> None:
        """Close a connection in order: what is queued for it goes out first, within `close_seconds`."""
        driver = self._driver
        driver.core.close_flow(flow, now=driver.enter())
        driver.perform()

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """The sockets that receive datagrams or accept connections, in the order they were given."""
        return self._driver.listeners

    def add_listener(self, where: ListenAt) -> Listener:
        """Open or adopt one more. Raises `ConfigurationError`, `ValueError`, `OSError` and `PoolClosed`."""
        listener = self._driver.listen(where)
        self._driver.perform()
        return listener

    def remove_listener(self, listener: Listener) -> None:
        """Receive and accept nothing more there; connections that were accepted live on."""
        driver = self._driver
        driver.core.remove_listener(listener.id, now=driver.enter())
        driver.perform()

    @property
    def stats(self) -> Stats:
        """A snapshot of the counters."""
        return self._driver.core.stats

    @property
    def handler_errors(self) -> int:
        """How many exceptions the handler has raised; each is logged to "sippool"."""
        return self._driver.handler_errors

    @property
    def is_closed(self) -> bool:
        """Whether the pool was closed and everything has ended."""
        return self._driver.is_finished

    def clock(self) -> float:
        """The pool's time, in seconds."""
        return self._driver.clock()

    def wake(self) -> None:
        """Interrupt the pool's waiting; the only call that other threads (and signal handlers) may make."""
        self._driver.wake()

    def _require_no_handler(self) -> None:
        if self._driver.handler is not None:
            raise RuntimeError("this pool gives its events to its handler")

    def _track(self, send_id: int) -> OutcomeT:
        outcome = self._outcome_type(self._driver, send_id)
        self._driver.track(outcome)
        return outcome


def listen_at_all(driver: Driver, places: tuple[ListenAt, ...]) -> None:
    """Open all listeners, or none."""
    try:
        for where in places:
            driver.listen(where)
    except BaseException:
        driver.shut()
        raise


def make_config(
    config: PoolConfig | None,
    tls: TlsSettings | None,
    restrict_to: Restriction | Address | str | None,
) -> PoolConfig:
    """The settings that the arguments of `open_pool` mean; raises `ValueError` for a bad restriction."""
    config = config or PoolConfig()
    if tls is not None:
        config = dataclasses.replace(config, tls=tls)
    if isinstance(restrict_to, str):
        restrict_to = Restriction.parse(restrict_to)
    elif isinstance(restrict_to, Address):
        restrict_to = Restriction.to(restrict_to)
    if restrict_to is not None:
        config = dataclasses.replace(config, restrict_to=restrict_to)
    return config
