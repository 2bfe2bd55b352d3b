"""`sippool demo`: a pool at work on this machine, as a table that needs no knowledge of SIP.

It exits with 1 if anything was not as promised.
"""

from __future__ import annotations

import tempfile
import time
from typing import TYPE_CHECKING

from sippool_core import SippoolError

from ._acts import Acts
from ._cast import BrokenPromise, Certificates
from ._show import Printer, complain, escape
from ._stage import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._stage import Script, Stage

_INTRODUCTION = """\
sippool demo: one pool and its clients, on this machine only (adapter: {adapter}).

A pool carries SIP messages between phones and servers: it opens, shares, checks and closes the
connections, and hands over whole messages. It answers at
{places}

kept?  what a pool promises, and below it what was seen"""


def command(*, adapter: str) -> int:
    """Run `sippool demo`; returns the exit code."""
    printer = Printer()
    with tempfile.TemporaryDirectory(prefix="sippool-demo-") as directory:
        certificates = Certificates.make(directory)
        try:
            return run(adapter, lambda stage: _play(stage, certificates, printer, adapter))
        except OSError as error:
            complain(f"the demo needs loopback sockets: {escape(str(error))}")
            return 1


def _play(stage: Stage, certificates: Certificates, printer: Printer, adapter: str) -> Script[int]:
    began_at = time.monotonic()
    acts = Acts(stage, certificates)
    yield from acts.raise_curtain()
    assert acts.server.pool is not None
    places = "\n".join(
        f"    {listener.transport.value}:{listener.address}"
        for listener in acts.server.pool.listeners
    )
    printer.line(_INTRODUCTION.format(adapter=adapter, places=places))
    broken = 0
    programme = acts.programme()
    for title, act in programme:
        kept, seen = yield from _perform(act)
        broken += not kept
        printer.line(f"{'yes' if kept else 'NO':5}  {title}\n           {escape(seen)}")
    took = time.monotonic() - began_at
    verdict = (
        "every promise was kept" if not broken else f"{broken} of {len(programme)} were BROKEN"
    )
    printer.line(f"\n{len(programme)} promises in {took:.1f} s: {verdict}.")
    return 1 if broken else 0


def _perform(act: Callable[[], Script[str]]) -> Script[tuple[bool, str]]:
    """Whether the promise was kept, and what was seen."""
    try:
        return True, (yield from act())
    except (BrokenPromise, SippoolError, OSError) as error:
        return False, f"{type(error).__name__}: {error}"
