"""The commands are written once, and run on every adapter: what they wait for is data.

1. A `Script` is a generator: it yields what it waits for (a pool to be open, a condition to be true), and a
   runner of one adapter (`_run_sync`, `_run_anyio`) does the waiting. All else is plain synchronous code.
2. Pools are opened with a handler, which runs within the pool's step; whatever may make a condition true
   calls `Stage.touch`.
3. An adapter is imported only by `run`, and only the one that was asked for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from sippool_core import (
        Address,
        Event,
        Flow,
        FramingFailed,
        MalformedReceived,
        MessageReceived,
        PoolConfig,
        SendCompleted,
        SendFailed,
        Stats,
        Target,
        Transport,
    )

ADAPTERS = ("sync", "asyncio", "trio")

T = TypeVar("T")


class MissingExtra(Exception):
    """A command needs a package that is not installed; the text says how to get it."""


class SomeOutcome(Protocol):
    """What both adapters' outcomes have in common."""

    @property
    def done(self) -> bool: ...

    def result(self) -> SendCompleted: ...


class SomeListener(Protocol):
    """What both adapters' listeners have in common."""

    @property
    def id(self) -> int: ...

    @property
    def transport(self) -> Transport: ...

    @property
    def address(self) -> Address: ...


class SomePool(Protocol):
    """What both adapters' pools have in common, as far as commands need it."""

    @property
    def listeners(self) -> Sequence[SomeListener]: ...

    @property
    def stats(self) -> Stats: ...

    def send(
        self, message: bytes, target: Target | None = None, *, flow: Flow | None = None
    ) -> SomeOutcome: ...

    def reply(
        self, received: MessageReceived | MalformedReceived | FramingFailed, response: bytes
    ) -> SomeOutcome: ...


def ended(outcome: SomeOutcome) -> SendCompleted | SendFailed | None:
    """How a send ended, or `None` as long as it has not."""
    from sippool_sync import SendError

    if not outcome.done:
        return None
    try:
        return outcome.result()
    except SendError as error:
        return error.failed


Handler = Callable[["SomePool", "Event"], None]
Listening = "str | socket.socket"


@dataclass
class Opening:
    """Yielded by a script: open a pool, which stays open until the script ends."""

    listeners: tuple[str | socket.socket, ...]
    config: PoolConfig
    handler: Handler
    pool: SomePool | None = None


@dataclass
class Waiting:
    """Yielded by a script: go on once the condition holds, or the time has passed."""

    condition: Callable[[], bool]
    seconds: float | None
    met: bool = False


Step = Opening | Waiting
Script = Generator[Step, None, T]


class Stage:
    """What a script and its runner share."""

    def __init__(self) -> None:
        self.touch: Callable[[], None] = _nothing
        """Tells the runner that a condition may have become true."""
        self.signals = 0
        """How often SIGINT or SIGTERM came."""

    def open(
        self, *listeners: str | socket.socket, config: PoolConfig, handler: Handler
    ) -> Script[SomePool]:
        """`yield from` it: the pool, open. Raises what the adapter's `open_pool` raises."""
        opening = Opening(listeners, config, handler)
        yield opening
        assert opening.pool is not None, "the runner opened no pool"
        return opening.pool

    def until(self, condition: Callable[[], bool], seconds: float | None = None) -> Script[bool]:
        """`yield from` it: whether the condition became true within the time."""
        waiting = Waiting(condition, seconds)
        yield waiting
        return waiting.met

    def signalled(self) -> None:
        """A signal came."""
        self.signals += 1
        self.touch()


def run(adapter: str, act: Callable[[Stage], Script[T]], *, signals: bool = False) -> T:
    """Run a script to its end on this adapter; `signals`: SIGINT and SIGTERM are the script's to see.

    Raises `MissingExtra` where the adapter is not installed, and whatever the script raises.
    """
    if adapter == "sync":
        from ._run_sync import run_sync

        return run_sync(act, signals=signals)
    for module in ("anyio", adapter):
        if importlib.util.find_spec(module) is None:
            extra = "sippool[anyio]" if module == "anyio" else module
            raise MissingExtra(f"--adapter {adapter} needs {module}: pip install '{extra}'")
    from ._run_anyio import run_anyio

    return run_anyio(adapter, act, signals=signals)


def _nothing() -> None:
    pass
