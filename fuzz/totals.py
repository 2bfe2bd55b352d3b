"""What all runs came to, added up in a file, so that a run may end at any time and another goes on.

The file is JSON: for each target its executions, what it reached how often, its findings, and for each engine the
seed that comes next, so that no run repeats another's examples.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fuzz.engines import Result
from sippool_core.reasons import Defect, DropReason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Total(Result):
    """One target's."""

    next_seed: dict[str, int] = field(default_factory=dict)


class Totals:
    """All targets', in memory, and in a file if there is one."""

    def __init__(self, path: Path | None) -> None:
        """Raises `OSError` or `ValueError` if there is a file that cannot be read, or that is something else."""
        self._path = path
        self.targets: dict[str, Total] = {}
        if path is not None and path.exists():
            for name, kept in json.loads(path.read_text())["targets"].items():
                self.targets[name] = Total(
                    kept["executions"],
                    Counter(kept["reached"]),
                    kept["findings"],
                    kept["next_seed"],
                )

    def of(self, name: str) -> Total:
        """That target's, which is nothing at first."""
        return self.targets.setdefault(name, Total())

    def save(self) -> None:
        """Write the file: whole, or not at all."""
        if self._path is None:
            return
        kept = {
            "targets": {
                name: {
                    "executions": total.executions,
                    "next_seed": total.next_seed,
                    "reached": dict(total.reached.most_common()),
                    "findings": total.findings,
                }
                for name, total in sorted(self.targets.items())
            }
        }
        new = self._path.with_name(self._path.name + ".new")
        new.write_text(json.dumps(kept, indent=1) + "\n")
        os.replace(new, self._path)

    def report(self) -> Iterator[str]:
        """Lines for a reader: each target, then each reason to refuse input over all of them."""
        reasons: Counter[str] = Counter()
        for name, total in sorted(self.targets.items()):
            yield f"{name}: {total.executions} executions, {len(total.findings)} findings"
            for finding in total.findings:
                yield from (f"  {line}" for line in finding.splitlines())
            reasons.update(total.reached)
        executions = sum(total.executions for total in self.targets.values())
        findings = sum(len(total.findings) for total in self.targets.values())
        yield f"all targets: {executions} executions, {findings} findings"
        for kind in (Defect, DropReason):
            for reason in kind:
                name = f"{kind.__name__}.{reason.name}"
                yield f"  {reasons[name]:>10}  {name}"
