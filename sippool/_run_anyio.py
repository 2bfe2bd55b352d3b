"""Runs a script (`_stage`) on asyncio or trio: each pool has its own driver, the script waits on one event."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, TypeVar

import anyio

import sippool_anyio

from ._stage import Opening, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._stage import Script

T = TypeVar("T")


def run_anyio(backend: str, act: Callable[[Stage], Script[T]], *, signals: bool) -> T:
    """Run the script to its end, then close its pools, the last opened first."""

    async def main() -> T:
        stage = Stage()
        async with anyio.create_task_group() as tasks:
            if signals:
                await tasks.start(_watch_signals, stage)
            result = await _perform(act(stage), stage)
            tasks.cancel_scope.cancel()
        return result

    try:
        return anyio.run(main, backend=backend)
    except BaseExceptionGroup as group:
        raise _only(group) from None


async def _perform(script: Script[T], stage: Stage) -> T:
    touched = anyio.Event()

    def touch() -> None:
        touched.set()

    stage.touch = touch
    async with contextlib.AsyncExitStack() as stack:
        while True:
            try:
                step = next(script)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Opening):
                step.pool = await stack.enter_async_context(
                    sippool_anyio.open_pool(
                        *step.listeners, config=step.config, handler=step.handler
                    )
                )
                continue
            with anyio.move_on_after(step.seconds):
                while not step.condition():
                    touched = anyio.Event()
                    await touched.wait()
            step.met = step.condition()


async def _watch_signals(
    stage: Stage, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for _ in received:
            stage.signalled()


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception in nested groups of one: a command shows its own error, not the task group's."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
