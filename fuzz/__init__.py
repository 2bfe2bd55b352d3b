"""Fuzzing of the core: invariants that hold for any input, searched for a counterexample by hypothesis.

1. A target is a strategy and a check. The check raises where its invariant is broken, and returns what it
   reached, so that a run shows whether it got anywhere.
2. A module registers its targets when it is imported; `MODULES` names these modules.

`README.md` says how to run it, and how a finding becomes a test.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hypothesis.strategies import SearchStrategy

MODULES = ("fuzz.framing", "fuzz.core")
"""Where the targets are."""

ExampleT = TypeVar("ExampleT")


@dataclass(frozen=True)
class Target:
    """Something to fuzz."""

    name: str
    invariant: str
    """What must hold, in a sentence."""
    strategy: SearchStrategy[Any]
    """The examples; whatever the check takes."""
    check: Callable[[Any], Iterable[object]]
    """Returns what the example reached: members of `Defect` and `DropReason`, names of events."""


TARGETS: dict[str, Target] = {}


def target(
    strategy: SearchStrategy[ExampleT],
) -> Callable[[Callable[[ExampleT], Iterable[object]]], Callable[[ExampleT], Iterable[object]]]:
    """Register a check under the name of its function, with its docstring's first line as the invariant."""

    def register(
        check: Callable[[ExampleT], Iterable[object]],
    ) -> Callable[[ExampleT], Iterable[object]]:
        invariant = (check.__doc__ or "").partition("\n")[0]
        TARGETS[check.__name__] = Target(check.__name__, invariant, strategy, check)
        return check

    return register


def load() -> dict[str, Target]:
    """Every target by its name."""
    for module in MODULES:
        importlib.import_module(module)
    return TARGETS
