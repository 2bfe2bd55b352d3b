"""Those who look for bugs, each with the laws of its own: simulation, state machine, fuzzing, counted work.

A finder runs up to a number of tries, and tells at which one something was wrong, and what; or nothing.
"""

from __future__ import annotations

import itertools
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

import fuzz
from fuzz.mutation import Mutator
from fuzz.seeds import seed_messages
from sippool.testing.campaign import Failure, play
from sippool.testing.schedule import TLS_SHARE
from tests import test_linear_work as linear
from tests.core.test_pool_stateful import CoreMachine
from tests.counted_work import Work

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .registry import Bug

SIMULATION = "simulation"
MACHINE = "state machine"
WORK = "counted work"
FUZZ_TARGETS = ("framer", "datagram", "outgoing", "identity", "core", "core_cuts")
EXAMPLES_OF_A_TARGET = 20_000
EXAMPLES_OF_THE_MACHINE = 300
fuzz.load()  # now, and not with a bug in it
SIZES_OF_WORK = (256, 512, 1024)


@dataclass(frozen=True)
class Found:
    """A bug was found."""

    by: str
    after: int
    """Schedules, or examples."""
    what: str


def play_some(seeds: Iterable[int]) -> Found | None:
    """Play these schedules."""
    logging.getLogger("sippool").setLevel(logging.CRITICAL)
    for seed in seeds:
        outcome = play(seed)
        if isinstance(outcome, Failure):
            return Found(SIMULATION, seed + 1, outcome.what)
    return None


def simulate(bug: Bug, most: int) -> Found | None:
    """Play the schedules of a campaign from its first seed on."""
    if not bug.needs_tls:
        return play_some(range(most))
    # Only TLS can show it, so the others would be played in vain; they are counted all the same.
    seeds = (seed for seed in range(most) if random.Random(seed).random() < TLS_SHARE)
    return play_some(seeds)


def run_machine(examples: int = EXAMPLES_OF_THE_MACHINE) -> Found | None:
    """The state machine of the core's tests."""
    count = itertools.count(1)
    tried = 0

    class Counted(CoreMachine):
        def __init__(self) -> None:
            nonlocal tried
            super().__init__()
            tried = next(count)

    try:
        run_state_machine_as_test(
            Counted,
            settings=settings(
                max_examples=examples,
                stateful_step_count=60,
                database=None,
                derandomize=True,
                deadline=None,
                report_multiple_bugs=False,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Exception as error:  # noqa: BLE001 - whatever it raises is a finding
        return Found(MACHINE, tried, _text_of(error))
    return None


def run_fuzzer(name: str, examples: int = EXAMPLES_OF_A_TARGET) -> Found | None:
    """One target, with our own generator."""
    target = fuzz.load()[name]
    mutator = Mutator(seed_messages(), 0)
    for number in range(1, examples + 1):
        try:
            target.check(target.door(target.generate(mutator)))
        except Exception as error:  # noqa: BLE001 - whatever it raises is a finding
            return Found(f"fuzz {name}", number, _text_of(error))
    return None


def count_work() -> Found | None:
    """Every hostile pattern in sizes that double, whole, dripped and as a datagram."""
    tried = 0
    for name, make in linear.HOSTILE.items():
        for way in (linear.whole, linear.dripped, linear.datagram):
            tried += 1
            with pytest.MonkeyPatch.context() as patch:
                steps = []
                work = Work(patch)
                for size in SIZES_OF_WORK:
                    data = work.bytes(make(size))
                    with work:
                        way(work, data)
                    steps.append(work.steps)
            for once, twice in itertools.pairwise(steps):
                if twice > 2 * once + linear.MORE:
                    return Found(WORK, tried, f"I18: {name}, {way.__name__}: {steps} steps")
    return None


def look(bug: Bug, most: int) -> Found | None:
    """Plant the bug, and ask who is expected to find it."""
    with bug.planted():
        if bug.finder == SIMULATION:
            return simulate(bug, most)
        return count_work() if bug.finder == WORK else run_fuzzer(bug.finder)


def find(bug: Bug, most: int) -> Found | None:
    """Plant the bug, and ask one after the other."""
    found = look(bug, most)
    with bug.planted():
        if bug.finder != SIMULATION:
            found = found or simulate(bug, most)
        found = found or run_machine()
        for name in FUZZ_TARGETS:
            if found is None and name != bug.finder:
                found = run_fuzzer(name)
    return found


def _text_of(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}"
