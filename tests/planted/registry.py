"""The planted bugs: each a small patch at run time, with what it stands for and who is expected to find it.

1. A bug is planted with a `pytest.MonkeyPatch`, which takes everything back.
2. It is as small as a real one: a condition left out, a table forgotten, a deadline not set.
3. No law and no test may know it: what finds it states what must hold of any pool.
"""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Plant = Callable[[pytest.MonkeyPatch], None]

MODULES = ("deadlines", "bounds", "sending", "routing", "streams", "framing", "adapter")


@dataclass(frozen=True)
class Bug:
    """One planted bug."""

    name: str
    stands_for: str
    """A finding of the study (N1 to N17, A1 to A7), or the class of bugs."""
    what: str
    """In one line."""
    plant: Plant
    finder: str = "simulation"
    """Who is asked first."""
    needs_tls: bool = False
    """Whether schedules without TLS cannot show it, so that they need not be played."""
    is_rare: bool = False
    """Whether it takes more schedules than a test has time for."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """The library with the bug in it."""
        with pytest.MonkeyPatch.context() as patch:
            self.plant(patch)
            yield


BUGS: dict[str, Bug] = {}


def bug(
    stands_for: str,
    *,
    finder: str = "simulation",
    needs_tls: bool = False,
    is_rare: bool = False,
) -> Callable[[Plant], Plant]:
    """Register a patch under the name of its function; its docstring is the description."""

    def register(plant: Plant) -> Plant:
        name = plant.__name__.replace("_", "-")
        what = (plant.__doc__ or "").partition("\n")[0]
        assert name not in BUGS, f"two bugs are called {name}"
        BUGS[name] = Bug(name, stands_for, what, plant, finder, needs_tls, is_rare)
        return plant

    return register


def load() -> dict[str, Bug]:
    """Every bug by its name."""
    for module in MODULES:
        importlib.import_module(f"tests.planted.{module}")
    return BUGS
