"""`python -m fuzz [--seconds N | --examples N] [--seed S] [TARGET...]`: look for broken invariants.

Prints what was run and what it reached; the exit status is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import hypothesis

import fuzz

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH_EXAMPLES = 200
"""Examples between two looks at the clock."""


@dataclass
class Result:
    """What running one target came to."""

    executions: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    failure: Exception | None = None
    failing_seed: int = 0


def run_batch(target: fuzz.Target, result: Result, examples: int, seed: int) -> None:
    """Try that many examples; the first counterexample is shrunk and kept in the result."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(target.strategy)
    def try_one(example: object) -> None:
        result.executions += 1
        result.reached.update(map(_name, target.check(example)))

    try:
        try_one()
    except Exception as error:  # noqa: BLE001 - a finding is whatever a check raises
        result.failure, result.failing_seed = error, seed


def run(target: fuzz.Target, *, examples: int | None, seconds: float, seed: int) -> Result:
    """Run a target for a number of examples, or for a time; the seeds of its batches count up from `seed`."""
    result = Result()
    if examples is not None:
        run_batch(target, result, examples, seed)
        return result
    until = time.monotonic() + seconds
    while result.failure is None and time.monotonic() < until:
        run_batch(target, result, BATCH_EXAMPLES, seed)
        seed += 1
    return result


def report(target: fuzz.Target, result: Result, examples: int | None) -> None:
    """Print what a target came to, and how to run a finding again."""
    found = "no failure" if result.failure is None else "FAILED"
    print(f"{target.name}: {result.executions} executions, {found}")
    print(f"  {target.invariant}")
    for name, count in result.reached.most_common():
        print(f"  {count:>8}  {name}")
    if result.failure is not None:
        traceback.print_exception(result.failure, file=sys.stdout)
        again = f"--examples {examples or BATCH_EXAMPLES} --seed {result.failing_seed}"
        print(f"  again: python -m fuzz {again} {target.name}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    targets = fuzz.load()
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__.partition("\n")[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, default=30.0, help="for all targets together (30)")
    length.add_argument("--examples", type=int, help="for each target, instead of a time")
    parser.add_argument("--seed", type=int, default=0, help="of the first batch of examples (0)")
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help=f"{', '.join(targets)}; all of them if none is named",
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.targets if name not in targets]
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(targets)}")
    chosen = [targets[name] for name in options.targets or targets]
    failures = 0
    for target in chosen:
        result = run(
            target,
            examples=options.examples,
            seconds=options.seconds / len(chosen),
            seed=options.seed,
        )
        report(target, result, options.examples)
        failures += result.failure is not None
    print(f"{len(chosen)} targets, {failures} failures")
    return 1 if failures else 0


def _name(reached: object) -> str:
    return f"{type(reached).__name__}.{reached.name}" if isinstance(reached, Enum) else str(reached)


if __name__ == "__main__":
    sys.exit(main())
