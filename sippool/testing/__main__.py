"""`python -m sippool.testing`: many schedules, what struck them, and what broke, shrunk to a short script.

python -m sippool.testing --schedules 20000 --seed 0 --jobs 2
python -m sippool.testing --schedules 500000 --totals totals.json      # goes on where it stopped
python -m sippool.testing --replay tests/regressions/NAME.json
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from .campaign import Campaign, Failure, play_seeds, replay, shrink

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHUNK = 50


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if a law was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m sippool.testing", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--schedules", type=int, default=1000, metavar="N", help="how many (1000)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the first seed (0)")
    parser.add_argument(
        "--jobs",
        type=int,
        default=multiprocessing.cpu_count(),
        metavar="J",
        help="processes (all cores)",
    )
    parser.add_argument(
        "--totals",
        type=Path,
        metavar="FILE",
        help="add up in this file, and go on where it stopped",
    )
    parser.add_argument(
        "--failures",
        type=Path,
        metavar="DIR",
        help="keep each failure, shrunk, as a script in this folder",
    )
    parser.add_argument(
        "--replay", type=Path, nargs="+", metavar="FILE", help="play kept scripts instead"
    )
    options = parser.parse_args(arguments)
    # What applications raise in the schedules is meant to be raised.
    logging.getLogger("sippool").setLevel(logging.CRITICAL)
    if options.replay:
        return _replay(options.replay)
    campaign = Campaign.load(options.totals)
    first = max(options.seed, campaign.next_seed)
    last = options.seed + options.schedules
    started_at = time.monotonic()
    _run(campaign, range(first, last), options.jobs, options.totals)
    seconds = time.monotonic() - started_at
    print(campaign.report())
    if last > first:
        print(f"{(last - first) / seconds:.0f} schedules a second in this run of {seconds:.0f} s")
    for failure in campaign.failures:
        _tell(failure, options.failures)
    return 1 if campaign.failures else 0


def _run(campaign: Campaign, seeds: range, jobs: int, totals: Path | None) -> None:
    chunks = [seeds[at : at + _CHUNK] for at in range(0, len(seeds), _CHUNK)]
    if jobs == 1:
        for chunk in chunks:
            campaign.add(play_seeds(chunk), totals)
        return
    with multiprocessing.Pool(jobs) as pool:
        for played in pool.imap(play_seeds, chunks):
            campaign.add(played, totals)


def _replay(paths: Sequence[Path]) -> int:
    broken = Counter[str]()
    for path in paths:
        failure = replay(json.loads(path.read_text()))
        print(f"{path}: {'holds' if failure is None else failure.what}")
        broken[path.name] += failure is not None
    return 1 if broken.total() else 0


def _tell(failure: Failure, folder: Path | None) -> None:
    print(f"seed {failure.seed}: {failure.what}")
    script = shrink(failure)
    print(f"  shrunk to {len(script['kept'])} actions: {json.dumps(script)}")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"seed-{failure.seed}.json"
        path.write_text(json.dumps(script) + "\n")
        print(f"  kept as {path}")


if __name__ == "__main__":
    sys.exit(main())
