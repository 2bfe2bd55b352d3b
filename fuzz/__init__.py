"""Fuzzing of the library: invariants that hold for any input, searched for a counterexample.

1. A target is a check, and ways to make examples for it: a strategy for hypothesis, and a door through which any
   bytes are an example, for engines that draw bytes. The check raises where its invariant is broken, and
   returns what it reached, so that a run shows whether it got anywhere.
2. A module registers its targets when it is imported; `MODULES` names these modules.

`README.md` says how to run it, and how a finding becomes a test.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hypothesis.strategies import SearchStrategy

    from fuzz.mutation import Mutator

MODULES = ("fuzz.framing", "fuzz.keys", "fuzz.identities", "fuzz.core", "fuzz.tls")
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
    door: Callable[[bytes], Any]
    """The example that some bytes stand for; any bytes are one."""
    generate: Callable[[Mutator], bytes]
    """Bytes for the door, mostly such that get somewhere."""


TARGETS: dict[str, Target] = {}


def target(
    strategy: SearchStrategy[ExampleT],
    *,
    door: Callable[[bytes], ExampleT],
    generate: Callable[[Mutator], bytes],
) -> Callable[[Callable[[ExampleT], Iterable[object]]], Callable[[ExampleT], Iterable[object]]]:
    """Register a check under the name of its function, with its docstring's first line as the invariant."""

    def register(
        check: Callable[[ExampleT], Iterable[object]],
    ) -> Callable[[ExampleT], Iterable[object]]:
        invariant = (check.__doc__ or "").partition("\n")[0]
        name = check.__name__
        TARGETS[name] = Target(name, invariant, strategy, check, door, generate)
        return check

    return register


def load() -> dict[str, Target]:
    """Every target by its name."""
    for module in MODULES:
        importlib.import_module(module)
    return TARGETS


def check(name: str, data: bytes) -> list[str]:
    """Check the example that these bytes stand for; the names of what it reached. A finding raises."""
    found = load()[name]
    return [name_of(reached) for reached in found.check(found.door(data))]


def name_of(reached: object) -> str:
    """What is counted: `Defect.VIA`, or the text of what is no member of an enum."""
    return f"{type(reached).__name__}.{reached.name}" if isinstance(reached, Enum) else str(reached)
