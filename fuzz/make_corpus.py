"""`python -m fuzz.make_corpus`: write the seed corpus anew.

1. Well-formed messages in every legal dress, drawn by `sippool.testing.strategies`.
2. For each target, for each thing that it can reach, the smallest of many inputs that reaches it.

What is kept depends on the seed below alone (and on the releases of hypothesis and Python).
"""

from __future__ import annotations

import shutil
import sys

import hypothesis

import fuzz
from fuzz.mutation import Mutator
from fuzz.seeds import CORPUS, seed_messages
from sippool.testing.strategies import WrittenMessage, messages

SEED = 4
MESSAGES = 40
EXAMPLES = {"core": 1500, "core_cuts": 500, "tls": 1500}
"""Inputs that are drawn; 10,000 where nothing else is said."""
MAX_FILE_BYTES = 4000


def well_formed() -> list[bytes]:
    """The messages."""
    drawn: list[bytes] = []

    @hypothesis.seed(SEED)
    @hypothesis.settings(
        max_examples=MESSAGES, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(messages(content_length=False))
    def draw(written: WrittenMessage) -> None:
        drawn.append(written.raw)

    draw()
    return sorted(dict.fromkeys(drawn))[:MESSAGES]


def smallest(target: fuzz.Target) -> dict[str, bytes]:
    """The smallest input for each thing that was reached."""
    found: dict[str, bytes] = {}
    mutator = Mutator(seed_messages(), SEED)
    for _ in range(EXAMPLES.get(target.name, 10_000)):
        data = target.generate(mutator)
        if len(data) > MAX_FILE_BYTES:
            continue
        for reached in map(fuzz.name_of, target.check(target.door(data))):
            if reached not in found or len(data) < len(found[reached]):
                found[reached] = data
    return found


def main() -> int:
    """Write every file; returns the exit status."""
    shutil.rmtree(CORPUS, ignore_errors=True)
    seed_messages.cache_clear()
    for number, message in enumerate(well_formed()):
        write("datagram", f"message-{number:02}", b"\1" + message)
    seed_messages.cache_clear()
    for name, target in fuzz.load().items():
        for reached, data in smallest(target).items():
            write(name, "".join(c if c.isalnum() or c in "._" else "-" for c in reached), data)
    files = [path for path in CORPUS.glob("*/*") if path.is_file()]
    print(f"{len(files)} files, {sum(path.stat().st_size for path in files)} bytes in {CORPUS}")
    return 0


def write(name: str, file_name: str, data: bytes) -> None:
    """One file of a target's corpus."""
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file_name).write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
