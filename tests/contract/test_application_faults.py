"""Applications that are cancelled, run out of time, raise or are interrupted at every place where they can be.

1. A script first runs undisturbed and counts the places where it waits; then again, once for each place, cut there.
2. Whatever happened: each send ended once, peers saw whole messages only, and no task or descriptor is left.
3. `SIPPOOL_FAULT_SCRIPTS` says how many scripts there are in all (50).
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import selectors

import anyio
import pytest
import trio

import sippool_anyio
import sippool_sync
from sippool_core import (
    ConnectionOpened,
    MessageReceived,
    PoolConfig,
    SendCancelled,
    SendCompleted,
    SendFailed,
    SippoolError,
)
from sippool_sync import SendCancelledError, SendError
from tests.application import (
    Cut,
    Ledger,
    Messages,
    Oops,
    Peers,
    SmallSockets,
    answer_to,
    script,
)

SCRIPTS = int(os.environ.get("SIPPOOL_FAULT_SCRIPTS", "50"))
SHARE = max(1, SCRIPTS // 5)
"""Scripts of each of the five tests."""
MOST_CUTS = 12 if SCRIPTS <= 50 else 1000
"""Places of one script where it is cut; more than it has means all."""
EVERY_ENDING = {
    (SendCompleted, True),
    (SendFailed, True),
    (SendFailed, False),
    (SendCancelled, True),
    (SendCancelled, False),
}
CONFIG = PoolConfig().replace(close_seconds=0.3)
pytestmark = pytest.mark.timeout(60 + SCRIPTS * 4)


class Interrupted(BaseException):
    """Like Ctrl-C: no handler of `Exception` may swallow it."""


class World:
    """One run of a script: its messages, its peers, and what is told of its sends."""

    def __init__(self, seed, peers, ledger):
        self.messages = Messages(seed)
        self.random = random.Random(seed)
        self.peers = peers
        self.ledger = ledger
        self.flows = []

    def send(self, pool, target, *, via="TCP", large=False):
        """Queue a message; its outcome."""
        mark, message = self.messages.make(via, large=large)
        outcome = pool.send(message, target)
        self.ledger.name(outcome, mark)
        return outcome

    def note(self, event):
        """Keep the flows of connections."""
        if isinstance(event, ConnectionOpened):
            self.flows.append(event.flow)

    def check(self):
        """What must hold after each run, however it ended."""
        seen = self.messages.check(self.peers.streams(), self.ledger.kept_back)
        self.ledger.check()
        self.ledger.kept_back.clear()
        return seen


def places_to_cut(places, seed):
    """All of them, or as many as there is time for."""
    every = range(1, places + 1)
    return every if places <= MOST_CUTS else sorted(random.Random(seed).sample(every, MOST_CUTS))


async def act_async(act, pool, world):
    """One act; whatever a pool may rightly raise is caught."""
    peers = world.peers
    if act.kind == "send_udp":
        await world.send(pool, peers.udp, via="UDP")
    elif act.kind in ("send_tcp", "send_large"):
        await world.send(pool, peers.tcp, large=act.kind == "send_large")
    elif act.kind == "send_refused":
        await world.send(pool, peers.refusing)
    elif act.kind == "send_together":
        outcomes = [world.send(pool, peers.tcp, large=number == 1) for number in range(4)]
        for outcome in reversed(outcomes):
            await outcome
    elif act.kind == "send_and_let_go":
        world.send(pool, peers.refusing)
        world.send(pool, peers.tcp, large=True)
    elif act.kind == "send_and_cancel":
        outcomes = [world.send(pool, peers.tcp, large=True) for _ in range(3)]
        await anyio.sleep(0.001)
        for outcome in outcomes:
            outcome.cancel()
    elif act.kind in ("receive", "reply"):
        event = await pool.next_event()
        world.note(event)
        if act.kind == "reply" and isinstance(event, MessageReceived):
            await pool.reply(event, answer_to(event.message))
    elif act.kind == "rest":
        await anyio.sleep(0.002)
    else:
        ending_act(act, pool, world)
        if act.kind == "close":
            await pool.aclose()


def ending_act(act, pool, world):
    """Acts that are the same in all runtimes."""
    if act.kind == "raise":
        raise Oops
    if act.kind == "close_flow" and world.flows:
        pool.close_flow(world.flows.pop())


async def application(acts, world, *, handler=None):
    """The whole life of a pool."""
    async with sippool_anyio.open_pool(
        "udp:127.0.0.1:0", config=CONFIG, handler=handler, sockets=SmallSockets()
    ) as pool:
        for act in acts:
            if handler is not None and act.kind in ("receive", "reply"):
                continue
            patience = act.patience
            if patience is None and act.kind in ("receive", "reply"):
                patience = 0.02
            with contextlib.suppress(SendError, SendCancelledError, SippoolError):
                with anyio.CancelScope(
                    deadline=anyio.current_time() + patience if patience is not None else 1e9
                ):
                    await act_async(act, pool, world)


def run_async(backend, acts, world, *, cut_at=None, handler=None):
    """Run it, cut at that place; returns how many places there were."""

    async def main():
        before = tasks_living(backend)
        cut = None
        with anyio.CancelScope() as scope:
            cut = Cut(application(acts, world, handler=handler), cut_at, scope.cancel)
            try:
                await cut
            except Oops:
                assert any(act.kind == "raise" for act in acts)
        assert scope.cancelled_caught <= (cut_at is not None)
        assert tasks_living(backend) == before, "a task was left behind"
        return cut.places

    return anyio.run(main, backend=backend)


def tasks_living(backend):
    """How many tasks there are."""
    if backend == "asyncio":
        import asyncio

        return len(asyncio.all_tasks())
    return trio.lowlevel.current_statistics().tasks_living


@pytest.fixture
def ledger(monkeypatch):
    """Sees every send."""
    return Ledger(monkeypatch)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_every_checkpoint(backend, ledger):
    arrived = cut_runs = 0
    with Peers(1) as peers:
        for seed in range(SHARE):
            acts = script(seed)
            world = World(seed, peers, ledger)
            places = run_async(backend, acts, world)
            arrived += len(world.check())
            for place in places_to_cut(places, seed):
                world = World(seed, peers, ledger)
                run_async(backend, acts, world, cut_at=place)
                world.check()
                cut_runs += 1
    assert arrived >= SHARE
    assert cut_runs >= 2 * SHARE
    assert set(ledger.endings) == EVERY_ENDING


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_handlers_that_raise(backend, ledger, caplog):
    """Each third event, whatever it is, meets a bug of the application; others are answered."""
    caplog.set_level(logging.CRITICAL, "sippool")
    failed = 0
    with Peers(2) as peers:
        for seed in range(10_000, 10_000 + SHARE):
            world = World(seed, peers, ledger)
            handler = make_handler(world)
            places = run_async(backend, script(seed), world, handler=handler)
            world.check()
            failed += handler.failed
            place = world.random.randrange(1, places + 1)
            world = World(seed, peers, ledger)
            run_async(backend, script(seed), world, cut_at=place, handler=make_handler(world))
            world.check()
    assert failed


def make_handler(world, *, error=Oops):
    """It raises at each third event, and answers or sends at the others."""

    def handle(pool, event):
        handle.called += 1
        if handle.called % 3 == 0 and handle.failed < handle.most:
            handle.failed += 1
            raise error
        if isinstance(event, MessageReceived):
            pool.reply(event, answer_to(event.message))
            if handle.called < 8:
                world.send(pool, world.peers.tcp, large=True)

    handle.called = handle.failed = 0
    handle.most = 1_000_000
    return handle


class InterruptedSelector(selectors.DefaultSelector):
    """At one of its waits somebody presses Ctrl-C."""

    waits = 0
    interrupted_at = None

    def select(self, timeout=None):
        cls = type(self)
        cls.waits += 1
        if cls.waits == cls.interrupted_at:
            raise Interrupted
        return super().select(timeout)


class InterruptedSockets(SmallSockets):
    """With that selector."""

    def open_selector(self):
        return InterruptedSelector()


def act_sync(act, pool, world):
    """One act in plain Python; a limit of time is the call's own."""
    peers, patience = world.peers, 2.0 if act.patience is None else act.patience
    if act.kind == "send_udp":
        world.send(pool, peers.udp, via="UDP").wait(patience)
    elif act.kind in ("send_tcp", "send_large"):
        world.send(pool, peers.tcp, large=act.kind == "send_large").wait(patience)
    elif act.kind == "send_refused":
        world.send(pool, peers.refusing).wait(patience)
    elif act.kind == "send_together":
        outcomes = [world.send(pool, peers.tcp, large=number == 1) for number in range(4)]
        for outcome in reversed(outcomes):
            outcome.wait(patience)
    elif act.kind == "send_and_let_go":
        world.send(pool, peers.refusing)
        world.send(pool, peers.tcp, large=True)
    elif act.kind == "send_and_cancel":
        outcomes = [world.send(pool, peers.tcp, large=True) for _ in range(3)]
        pool.process()
        for outcome in outcomes:
            outcome.cancel()
    elif act.kind in ("receive", "reply"):
        event = pool.next_event(min(patience, 0.02))
        world.note(event)
        if act.kind == "reply" and isinstance(event, MessageReceived):
            pool.reply(event, answer_to(event.message)).wait(patience)
    elif act.kind == "rest":
        pool.process()
    else:
        ending_act(act, pool, world)
        if act.kind == "close":
            pool.close(act.patience)


def run_sync(acts, world, *, interrupted_at=None):
    """Run it; returns how often it waited."""
    InterruptedSelector.waits, InterruptedSelector.interrupted_at = 0, interrupted_at
    with contextlib.suppress(Oops, Interrupted):
        with sippool_sync.open_pool(
            "udp:127.0.0.1:0", config=CONFIG, sockets=InterruptedSockets()
        ) as pool:
            for act in acts:
                with contextlib.suppress(SendError, SendCancelledError, SippoolError, TimeoutError):
                    act_sync(act, pool, world)
        assert pool.is_closed
    return InterruptedSelector.waits


def test_interrupted_at_every_wait(ledger):
    arrived = 0
    with Peers(3) as peers:
        for seed in range(20_000, 20_000 + SHARE):
            world = World(seed, peers, ledger)
            waits = run_sync(script(seed), world)
            arrived += len(world.check())
            for place in places_to_cut(waits, seed):
                world = World(seed, peers, ledger)
                run_sync(script(seed), world, interrupted_at=place)
                world.check()
    assert arrived >= SHARE
    assert set(ledger.endings) == EVERY_ENDING


@pytest.mark.parametrize("error", [Oops, Interrupted])
def test_interrupted_handlers(error, ledger, caplog):
    """An error is logged; Ctrl-C ends whatever drives the pool, which can then be driven on."""
    caplog.set_level(logging.CRITICAL, "sippool")
    interrupted = in_closing = 0
    with Peers(4) as peers:
        for seed in range(SHARE):
            world = World(seed, peers, ledger)
            handler = make_handler(world, error=error)
            try:
                with sippool_sync.open_pool(
                    "udp:127.0.0.1:0", config=CONFIG, handler=handler, sockets=SmallSockets()
                ) as pool:
                    world.send(pool, peers.tcp, large=True)
                    for _ in range(6):
                        try:
                            pool.run(0.01)
                        except Interrupted:
                            interrupted += 1
                    # Closing is driven too, and may be interrupted, but who does it twice wants no order.
                    handler.most, handler.called = handler.failed + 1, 2
            except Interrupted:
                in_closing += 1
            world.check()
            assert pool.is_closed
            assert pool.handler_errors == (handler.failed if error is Oops else 0)
    assert bool(interrupted) is bool(in_closing) is (error is Interrupted)


def test_the_checks_can_fail():
    """A torn stream, a message twice, and one that had been taken back are seen."""
    messages = Messages(0)
    (one, first), (_, second) = messages.make(), messages.make(large=True)
    assert set(messages.check([first, second[:300]], set())) == {"m1", "m2"}
    answer = answer_to(first)
    assert set(messages.check([answer + first + answer[:20]], set())) == {"m1"}
    for streams, kept_back in (
        ([first[:-5] + second], set()),
        ([second[:3000] + first], set()),
        ([first, first], set()),
        ([first], {one}),
        ([b"nothing of ours"], set()),
        ([answer[:-4] + first], set()),
    ):
        with pytest.raises(AssertionError):
            messages.check(streams, kept_back)
