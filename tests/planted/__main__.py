"""`python -m tests.planted [--max-schedules N] [--jobs J] [NAME...]`: is every planted bug found, and how soon?

Prints a table; the exit status is 1 if one was not found.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time

from .finders import Found, find
from .registry import load


def main(arguments: list[str] | None = None) -> int:
    """Plant one after the other."""
    bugs = load()
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("--max-schedules", type=int, default=5000, metavar="N", help="(5000)")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="processes (1)")
    parser.add_argument("names", nargs="*", metavar="NAME", help="all, if none is named")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in bugs]
    if unknown:
        parser.error(f"no such bug: {', '.join(unknown)}")
    names = options.names or list(bugs)
    started_at = time.monotonic()
    missed = []
    print("| bug | stands for | what it does | found by | after | how |")
    print("|---|---|---|---|---:|---|")
    work = [(name, options.max_schedules) for name in names]
    with multiprocessing.Pool(options.jobs, maxtasksperchild=1) as pool:
        for name, found in pool.imap(_find, work):
            print(_row(name, found), flush=True)
            if found is None:
                missed.append(name)
    seconds = time.monotonic() - started_at
    print(f"\n{len(names)} bugs, {len(names) - len(missed)} found, in {seconds:.0f} s")
    if missed:
        print(f"not found: {', '.join(missed)}")
    return 1 if missed else 0


def _find(task: tuple[str, int]) -> tuple[str, Found | None]:
    name, most = task
    return name, find(load()[name], most)


def _row(name: str, found: Found | None) -> str:
    bug = load()[name]
    by, after, how = ("nobody", "", "")
    if found is not None:
        by, after = found.by, str(found.after)
        how = found.what.replace("|", "/").replace("\n", " ")[:90]
    return f"| {name} | {bug.stands_for} | {bug.what} | {by} | {after} | {how} |"


if __name__ == "__main__":
    sys.exit(main())
