"""Runs a script (`_stage`) with plain sockets: a foreign loop around `fileno()` and `process()` of its pools."""

from __future__ import annotations

import contextlib
import selectors
import signal
import time
from typing import TYPE_CHECKING, TypeVar

import sippool_sync

from ._stage import Opening, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._stage import Script, Waiting

T = TypeVar("T")


def run_sync(act: Callable[[Stage], Script[T]], *, signals: bool) -> T:
    """Run the script to its end, then close its pools, the last opened first."""
    stage = Stage()
    script = act(stage)
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        pools: list[sippool_sync.SyncPool] = []
        if signals:
            stack.enter_context(_signals(stage, pools))
        while True:
            try:
                step = next(script)
            except StopIteration as end:
                result: T = end.value
                break
            if isinstance(step, Opening):
                pool = stack.enter_context(
                    sippool_sync.open_pool(
                        *step.listeners, config=step.config, handler=step.handler
                    )
                )
                selector.register(pool.fileno(), selectors.EVENT_READ)
                pools.append(pool)
                step.pool = pool
            else:
                _wait(step, selector, pools)
    return result


def _wait(
    waiting: Waiting, selector: selectors.BaseSelector, pools: list[sippool_sync.SyncPool]
) -> None:
    ends_at = None if waiting.seconds is None else time.monotonic() + waiting.seconds
    while True:
        for pool in pools:
            pool.process()
        waiting.met = waiting.condition()
        now = time.monotonic()
        if waiting.met or (ends_at is not None and now >= ends_at):
            return
        due = [pool.next_deadline() for pool in pools]
        instants = [at for at in (ends_at, *due) if at is not None]
        selector.select(max(0.0, min(instants) - now) if instants else None)


@contextlib.contextmanager
def _signals(stage: Stage, pools: list[sippool_sync.SyncPool]) -> Iterator[None]:
    def came(_number: int, _frame: object) -> None:
        stage.signalled()
        for pool in pools:
            # Otherwise `select` would go on waiting after the handler (PEP 475).
            pool.wake()

    before = {number: signal.signal(number, came) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
