"""Fuzzing by atheris, which follows the coverage of the core: in a process of its own, for libFuzzer never returns.

`python -m fuzz.coverage_guided SECONDS TOTALS TARGET` is that process; `-` for no totals.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import fuzz
from fuzz.seeds import CORPUS

COUNTED_EXAMPLES = 1000
"""Between two entries in the totals; what is left at the end is not counted."""


def run_atheris(name: str, seconds: float, totals: Path | None) -> int:
    """Run a target for a time; returns the exit status. A finding is printed by libFuzzer, as bytes for `fuzz.check`."""
    if importlib.util.find_spec("atheris") is None:
        print('atheris is not installed: pip install -e ".[fuzz]" (there are wheels for Linux)')
        return 2
    command = [sys.executable, "-m", __name__, str(seconds), str(totals or "-"), name]
    return subprocess.run(command, check=False).returncode


def main(seconds: str, totals_file: str, name: str) -> None:
    """Be that process."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["sippool_core"]):
        target = fuzz.load()[name]
    from fuzz.engines import Result
    from fuzz.totals import Totals

    result = Result()

    def try_one(data: bytes) -> None:
        nonlocal result
        result.executions += 1
        result.reached.update(map(fuzz.name_of, target.check(target.door(data))))
        if result.executions == COUNTED_EXAMPLES and totals_file != "-":
            totals = Totals(Path(totals_file))
            totals.of(name).add(result)
            totals.save()
            result = Result(0, Counter(), [])

    found = tempfile.mkdtemp(prefix=f"fuzz-{name}-")
    print(f"new inputs and findings are kept in {found}")
    flags = [f"-max_total_time={float(seconds):.0f}", "-timeout=10", f"-artifact_prefix={found}/"]
    folders = [found, *(str(CORPUS / name) for _ in range((CORPUS / name).is_dir()))]
    atheris.Setup([sys.argv[0], *flags, *folders], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
