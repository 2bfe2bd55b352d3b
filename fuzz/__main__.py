"""`python -m fuzz [--engine E] [--seconds N | --examples N] [--jobs N] [--totals FILE] [TARGET...]`: break the laws.

Prints what was run and what it reached; the exit status is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import fuzz
from fuzz.engines import BATCH_EXAMPLES, ENGINES, Batch, Result, run_batch
from fuzz.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SLICE_SECONDS = 20.0
"""A long run goes round the targets in slices of this, so that one that is stopped has done something of each."""


class Runner:
    """Runs batches, here or in processes, and counts them."""

    def __init__(self, engine: str, jobs: int, seed: int | None, totals: Totals) -> None:
        self._engine = engine
        self._jobs = jobs
        self._seed = seed
        self._pool = ProcessPoolExecutor(jobs) if jobs > 1 else None
        self._totals = totals
        self.results: dict[str, Result] = {}

    def run(self, name: str, *, examples: int | None, seconds: float) -> None:
        """Run a target for a number of examples, or for a time, or until something is found."""
        until = time.monotonic() + seconds
        batches = self._batches(name, examples)
        result = self.results.setdefault(name, Result())
        running: deque[tuple[Batch, Future[Result] | Result]] = deque()
        while not result.findings:
            may_begin = examples is not None or time.monotonic() < until
            if may_begin and len(running) < self._jobs and (batch := next(batches, None)):
                running.append((batch, self._begin(batch)))
            elif running:
                batch, begun = running.popleft()
                self._count(batch, begun if isinstance(begun, Result) else begun.result())
            else:
                break
        for batch, begun in running:
            self._count(batch, begun if isinstance(begun, Result) else begun.result())
        self._totals.save()

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _begin(self, batch: Batch) -> Future[Result] | Result:
        return run_batch(batch) if self._pool is None else self._pool.submit(run_batch, batch)

    def _count(self, batch: Batch, result: Result) -> None:
        self.results[batch.name].add(result)
        self._totals.of(batch.name).add(result)

    def _batches(self, name: str, examples: int | None) -> Iterator[Batch]:
        """The seeds count up, from the one that is given for a number of examples, else from where they are."""
        left = examples
        total = self._totals.of(name)
        if self._seed is not None:
            total.next_seed[self._engine] = self._seed
            self._seed = None if examples is None else self._seed
        for seed in itertools.count(total.next_seed.get(self._engine, 0)):
            size = BATCH_EXAMPLES[self._engine]
            if left is not None:
                size = min(size, left)
                left -= size
            if not size:
                return
            total.next_seed[self._engine] = seed + 1
            yield Batch(self._engine, name, size, seed)


def report(target: fuzz.Target, result: Result) -> None:
    """Print what a target came to, and how to run a finding again."""
    found = "FAILED" if result.findings else "no failure"
    print(f"{target.name}: {result.executions} executions, {found}")
    print(f"  {target.invariant}")
    for name, count in result.reached.most_common():
        print(f"  {count:>8}  {name}")
    for finding in result.findings:
        print("\n".join(f"  {line}" for line in finding.splitlines()))


def parse(targets: dict[str, fuzz.Target], arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--engine",
        choices=(*ENGINES, "atheris"),
        default="hypothesis",
        help="hypothesis (searches), volume (our own generator, fast), atheris (one target, follows coverage)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, default=30.0, help="for all targets together (30)")
    length.add_argument("--examples", type=int, help="for each target, instead of a time")
    parser.add_argument("--seed", type=int, help="of the first batch (0, or where the totals are)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--totals", type=Path, metavar="FILE", help="add up there, and go on there")
    parser.add_argument("--report", type=Path, metavar="FILE", help="print those sums; run nothing")
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
    if options.engine == "atheris" and len(options.targets) != 1:
        parser.error("atheris runs one target")
    if options.jobs < 1:
        parser.error("there must be one job at least")
    options.targets = options.targets or list(targets)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    targets = fuzz.load()
    options = parse(targets, arguments)
    if options.report is not None:
        print("\n".join(Totals(options.report).report()))
        return 0
    if options.engine == "atheris":
        from fuzz.coverage_guided import run_atheris

        return run_atheris(options.targets[0], options.seconds, options.totals)
    totals = Totals(options.totals)
    runner = Runner(options.engine, options.jobs, options.seed, totals)
    began = time.monotonic()
    try:
        for slice_seconds in _slices(options):
            for name in options.targets:
                runner.run(name, examples=options.examples, seconds=slice_seconds)
    except KeyboardInterrupt:
        print("stopped")
    finally:
        totals.save()
        runner.close()
    for name, result in runner.results.items():
        report(targets[name], result)
    failures = sum(bool(result.findings) for result in runner.results.values())
    executions = sum(result.executions for result in runner.results.values())
    seconds = time.monotonic() - began
    print(f"{executions} executions in {seconds:.0f} s")
    print(f"{len(runner.results)} targets, {failures} failures")
    return 1 if failures else 0


def _slices(options: argparse.Namespace) -> Iterator[float]:
    """How long each target runs in each round."""
    if options.examples is not None:
        yield 0.0
        return
    left: float = options.seconds / len(options.targets)
    while left > 0:
        yield min(SLICE_SECONDS, left)
        left -= SLICE_SECONDS


if __name__ == "__main__":
    sys.exit(main())
