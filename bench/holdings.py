"""What a process and its pool hold at one moment, and what has been added since another."""

from __future__ import annotations

import gc
import os
import resource
from collections import Counter, deque
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sippool_core import MessageReceived, Stats
    from sippool_sync import BaseOutcome, Driver, Listener

_MOST_OBJECTS = 60
_MOST_RSS_KIB = 4096


class SomePool(Protocol):
    """What both adapters' pools have in common."""

    _driver: Driver

    @property
    def listeners(self) -> tuple[Listener, ...]: ...

    @property
    def stats(self) -> Stats: ...

    def send(self, message: bytes, target: str) -> BaseOutcome: ...

    def reply(self, received: MessageReceived, response: bytes) -> BaseOutcome: ...


@dataclass(frozen=True)
class Holdings:
    """What is held at one moment."""

    descriptors: int
    tasks: int
    deadlines: int
    """1 if the pool waits for an instant."""
    connections: int
    buffered_bytes: int
    events: int
    entries: int
    """In all tables of the pool, whatever they are."""
    objects: int
    rss_kib: int

    @classmethod
    def now(cls, pool: SomePool, tasks: int) -> Holdings:
        """Count."""
        for _ in range(3):
            gc.collect()
        stats = pool.stats
        return cls(
            descriptors=len(os.listdir("/proc/self/fd")),
            tasks=tasks,
            deadlines=int(pool._driver.core.next_deadline() is not None),
            connections=stats.connections,
            buffered_bytes=stats.queued_bytes + stats.partial_bytes,
            events=stats.events_waiting,
            entries=table_entries(pool._driver),
            objects=len(gc.get_objects()),
            rss_kib=_rss_kib(),
        )

    def left_since(self, before: Holdings) -> list[str]:
        """What is there now and was not before."""
        slack = {"objects": _MOST_OBJECTS, "rss_kib": _MOST_RSS_KIB}
        left = []
        for item in fields(self):
            was, now = getattr(before, item.name), getattr(self, item.name)
            if now > was + slack.get(item.name, 0):
                left.append(f"{item.name}: {was} before, {now} now")
        return left


def table_entries(root: object) -> int:
    """The lengths of all containers that can be reached from it through objects of ours."""
    seen: set[int] = set()
    todo, entries = [root], 0
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        is_ours = type(item).__module__.startswith("sippool") and not isinstance(item, type)
        if isinstance(item, (Counter, Enum)):
            # Counts by reason: there are only so many reasons.
            continue
        if isinstance(item, (dict, list, set, deque)):
            entries += len(item)
        elif not is_ours and not isinstance(item, tuple):
            continue
        todo.extend(gc.get_referents(item))
    return entries


def _rss_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024
