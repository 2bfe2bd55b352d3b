"""Many schedules: played, added up, resumed, and a failing one shrunk.

1. A failure is a seed and the law it broke. Shrinking leaves out actions as long as the same law breaks.
2. Totals are of whole chunks of seeds in order, so that a campaign that was cut goes on where it stopped.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from .schedule import ACTIONS, Result, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Script: TypeAlias = "dict[str, Any]"
"""A kept failure: `seed`, the `kept` actions, and `what` was wrong."""


@dataclass
class Failure:
    """A schedule in which something went wrong."""

    seed: int
    what: str
    """The law and how it was broken, or the exception."""

    @property
    def law(self) -> str:
        """What a shrunk script must still break."""
        return self.what.partition(":")[0]


@dataclass
class Played:
    """What became of some seeds."""

    next_seed: int
    results: list[Result] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def play(seed: int, kept: Sequence[int] | None = None) -> Result | Failure:
    """Play one schedule."""
    try:
        return Schedule(seed, kept=kept).run()
    except Exception as error:  # noqa: BLE001 - whatever it is, it should not have been raised
        return Failure(seed, f"{error}" if _is_law(error) else f"{type(error).__name__}: {error}")


def play_seeds(seeds: range) -> Played:
    """Play a chunk of seeds."""
    played = Played(seeds.stop)
    for seed in seeds:
        outcome = play(seed)
        if isinstance(outcome, Failure):
            played.failures.append(outcome)
        else:
            played.results.append(outcome)
    return played


def replay(script: Script) -> Failure | None:
    """Play a kept script again; what is still wrong with it, if anything."""
    outcome = play(script["seed"], script["kept"])
    return outcome if isinstance(outcome, Failure) else None


def shrink(failure: Failure) -> Script:
    """The fewest actions found with which the same law breaks."""
    kept = list(range(ACTIONS))

    def breaks(candidate: Sequence[int]) -> bool:
        outcome = play(failure.seed, candidate)
        return isinstance(outcome, Failure) and outcome.law == failure.law

    return {"seed": failure.seed, "kept": _fewest(kept, breaks), "what": failure.what}


def _fewest(kept: list[int], breaks: Callable[[Sequence[int]], bool]) -> list[int]:
    """Leave out ever smaller pieces (delta debugging)."""
    size = len(kept) // 2
    while size:
        at = 0
        while at < len(kept):
            candidate = kept[:at] + kept[at + size :]
            if breaks(candidate):
                kept = candidate
            else:
                at += size
        size //= 2
    return kept


@dataclass
class Campaign:
    """The sums over all schedules so far."""

    schedules: int = 0
    next_seed: int = 0
    steps: int = 0
    events: int = 0
    median_steps: float = 0.0
    """Of the last chunk."""
    median_pools: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """The sums in a file, or none."""
        if path is None or not path.exists():
            return cls()
        known = json.loads(path.read_text())
        known["faults"] = Counter(known["faults"])
        known["failures"] = [Failure(**failure) for failure in known["failures"]]
        return cls(**known)

    def add(self, played: Played, path: Path | None) -> None:
        """Add a chunk, and keep the sums."""
        self.schedules += len(played.results) + len(played.failures)
        self.next_seed = played.next_seed
        self.failures += played.failures
        for result in played.results:
            self.steps += result.steps
            self.events += result.events
            self.faults.update(result.faults)
        if played.results:
            self.median_steps = statistics.median(result.steps for result in played.results)
            self.median_pools = statistics.median(result.pools for result in played.results)
        if path is not None:
            sums = {**vars(self), "failures": [vars(failure) for failure in self.failures]}
            path.write_text(json.dumps(sums, indent=1) + "\n")

    def report(self) -> str:
        """The sums, for people."""
        lines = [
            f"{self.schedules} schedules, {self.steps} steps, {self.events} events; {len(self.failures)} failed",
            f"at the median of the last chunk {self.median_steps:.0f} steps and {self.median_pools:.0f} pools",
        ]
        lines += [f"{count:>10}  {fault}" for fault, count in sorted(self.faults.items())]
        return "\n".join(lines)


def _is_law(error: Exception) -> bool:
    return type(error).__name__ == "LawBroken"
