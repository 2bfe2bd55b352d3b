"""Who draws the examples: hypothesis, which is clever and slow, or our own generator, which is neither.

1. A batch is an engine, a target, a number of examples and a seed; the same batch has the same examples.
2. A batch ends with the first finding, made small.
"""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import hypothesis

import fuzz
from fuzz.mutation import Mutator
from fuzz.seeds import corpus_of, seed_messages
from fuzz.shrink import as_test, shrunk

if TYPE_CHECKING:
    from collections.abc import Callable

FROM_CORPUS = 0.05
"""The share of inputs that are one of the corpus with some bytes changed, for targets whose inputs are no messages."""


@dataclass(frozen=True)
class Batch:
    """Some examples, by what draws them."""

    engine: str
    name: str
    examples: int
    seed: int

    @property
    def command(self) -> str:
        """Runs it again."""
        return (
            f"python -m fuzz --engine {self.engine} --examples {self.examples}"
            f" --seed {self.seed} {self.name}"
        )


@dataclass
class Result:
    """What running a batch, or many, came to."""

    executions: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    """Each as text: what went wrong, and how to see it again."""

    def add(self, other: Result) -> None:
        """Count the other's in."""
        self.executions += other.executions
        self.reached.update(other.reached)
        self.findings += other.findings


def run_hypothesis(batch: Batch) -> Result:
    """Let hypothesis search; it shrinks what it finds."""
    target = fuzz.load()[batch.name]
    result = Result()

    @hypothesis.seed(batch.seed)
    @hypothesis.settings(
        max_examples=batch.examples,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(target.strategy)
    def try_one(example: object) -> None:
        result.executions += 1
        result.reached.update(map(fuzz.name_of, target.check(example)))

    try:
        try_one()
    except Exception as error:  # noqa: BLE001 - a finding is whatever a check raises
        result.findings.append(f"{_text_of(error)}\nagain: {batch.command}")
    return result


def run_volume(batch: Batch) -> Result:
    """Draw and check, as fast as it goes."""
    target = fuzz.load()[batch.name]
    result = Result()
    mutator = Mutator(seed_messages(), batch.seed)
    corpus = corpus_of(batch.name)
    for _ in range(batch.examples):
        if corpus and mutator.rng.random() < FROM_CORPUS:
            data = mutator.change_bytes(mutator.pick(corpus))
        else:
            data = target.generate(mutator)
        result.executions += 1
        try:
            result.reached.update(map(fuzz.name_of, target.check(target.door(data))))
        except Exception:  # noqa: BLE001 - the same
            result.findings.append(_volume_finding(batch, target, data))
            break
    return result


ENGINES: dict[str, Callable[[Batch], Result]] = {
    "hypothesis": run_hypothesis,
    "volume": run_volume,
}
BATCH_EXAMPLES = {"hypothesis": 200, "volume": 500}
"""Examples between two looks at the clock."""


def run_batch(batch: Batch) -> Result:
    """Run it, by whichever engine."""
    return ENGINES[batch.engine](batch)


def _volume_finding(batch: Batch, target: fuzz.Target, data: bytes) -> str:
    def breaks(smaller: bytes) -> None:
        for _ in target.check(target.door(smaller)):
            pass

    small = shrunk(data, breaks)
    try:
        breaks(small)
        text = f"not found again; the input was {data!r}"
    except Exception as error:  # noqa: BLE001 - the same
        text = _text_of(error)
    return f"{text}\n{as_test(target.name, small)}\nagain: {batch.command}"


def _text_of(error: Exception) -> str:
    return "".join(traceback.format_exception(error)).rstrip()
