"""Makes a finding small: bytes are taken away, then made plain, while the same thing goes wrong."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_TRIES = 20_000
PLAIN = b"a0 "


def shrunk(data: bytes, breaks: Callable[[bytes], None]) -> bytes:
    """The smallest input found that raises as `data` does (delta debugging); as it is if `data` does not raise."""
    wanted = symptom(data, breaks)
    if wanted is None:
        return data
    left = MAX_TRIES

    def still_breaks(smaller: bytes) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and symptom(smaller, breaks) == wanted

    while True:
        before = data
        data = _without_pieces(data, still_breaks)
        data = _with_plain_bytes(data, still_breaks)
        if data == before or left < 0:
            return data


def symptom(data: bytes, breaks: Callable[[bytes], None]) -> tuple[object, ...] | None:
    """What is raised, and by which line; `None` if nothing is."""
    try:
        breaks(data)
    except Exception as error:  # noqa: BLE001 - a finding is whatever a check raises
        frames = traceback.extract_tb(error.__traceback__)
        last = frames[-1]
        return (type(error), last.filename, last.lineno)
    return None


def _without_pieces(data: bytes, still_breaks: Callable[[bytes], bool]) -> bytes:
    """Take away halves, then quarters, down to single bytes."""
    size = max(1, len(data) // 2)
    while True:
        at = 0
        while at < len(data):
            smaller = data[:at] + data[at + size :]
            if still_breaks(smaller):
                data = smaller
            else:
                at += size
        if size == 1:
            return data
        size = max(1, size // 2)


def _with_plain_bytes(data: bytes, still_breaks: Callable[[bytes], bool]) -> bytes:
    for at in range(len(data)):
        if data[at] in PLAIN:
            continue
        for plain in PLAIN:
            simpler = data[:at] + bytes((plain,)) + data[at + 1 :]
            if still_breaks(simpler):
                data = simpler
                break
    return data


def as_test(name: str, data: bytes) -> str:
    """A test that fails as long as the finding is there."""
    return f"def test_found_by_fuzzing_{name}():\n    fuzz.check({name!r}, {data!r})"
