"""`python -m bench.attacks`: a server under one attack at a time, and what its good clients saw of it.

Prints a table; the exit status is 1 if any row misses a goal.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from . import every  # noqa: F401 - fills the registry
from .certificates import Certificates
from .forged import can_forge
from .registry import ALL, ATTACKS
from .server import SHORT, longest_deadline, start_ours, start_theirs
from .trial import DESCRIPTOR_LIMIT, Row, try_attack, try_descriptor_limit

if TYPE_CHECKING:
    from collections.abc import Sequence

ADAPTERS = ("sync", "asyncio", "trio")
_COLUMNS = (
    ("attack", 21),
    ("served %", 8),
    ("p50 ms", 7),
    ("p99 ms", 7),
    ("CPU %", 5),
    ("rest %", 6),
    ("RSS MiB", 12),
    ("descriptors", 12),
    ("back s", 6),
    ("wrong", 5),
    ("attackers", 13),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.list:
        for attack in ATTACKS.values():
            print(f"{attack.name:21} {','.join(attack.transports):12} {attack.description}")
        print(f"{DESCRIPTOR_LIMIT:21} {'tcp':12} connections while no descriptor is left")
        return 0
    targets = dict(options.target)
    if bool(options.server) != bool(targets):
        _parser().error("--server and --target belong together")
    adapter = "" if options.server else options.adapter
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="attacks-") as directory:
        certificates = Certificates(Path(directory)).make()
        if not options.json:
            _print_head(adapter or options.server, options.seconds, short=not options.server)
        for label in options.only or _names(theirs=bool(options.server)):
            row = _one(label, adapter, options, targets, certificates)
            if row is None:
                continue
            rows.append(row)
            if not options.json:
                print(_line(row), flush=True)
    failed = [row for row in rows if row.missed]
    if options.json:
        print(json.dumps([row.as_dict() for row in rows], indent=1))
    else:
        print(f"\n{len(rows)} attacks, {len(failed)} with a goal missed")
        for row in failed:
            print(f"  {row.attack}: {'; '.join([*row.missed, *row.notes])}")
    return 1 if failed else 0


def _one(
    label: str,
    adapter: str,
    options: argparse.Namespace,
    targets: dict[str, tuple[str, int]],
    certificates: Certificates,
) -> Row | None:
    """One row; `None` where what it needs is not there."""
    name, _, only = label.partition("/")
    if name == DESCRIPTOR_LIMIT:
        server = start_ours(adapter, certificates)
        try:
            return try_descriptor_limit(server, certificates, adapter)
        finally:
            server.stop()
    attack = ATTACKS[name]
    if _lacks(attack.needs):
        print(f"{name}: skipped, it needs {attack.needs}", file=sys.stderr)
        return None
    transports = tuple(item for item in attack.transports if only in ("", item))
    if targets:
        transports = tuple(item for item in transports if item in targets)
    if not transports:
        return None
    server = (
        start_theirs(options.server, targets)
        if targets
        else start_ours(adapter, certificates, attack.options)
    )
    try:
        return try_attack(
            attack,
            transports,
            server,
            certificates,
            label=label,
            adapter=adapter,
            seconds=options.seconds,
            seed=options.seed,
        )
    finally:
        server.stop()


def _names(*, theirs: bool) -> list[str]:
    return [*ATTACKS, *([] if theirs else [DESCRIPTOR_LIMIT])]


def _lacks(need: str) -> bool:
    if need == "raw":
        return not can_forge()
    return bool(need) and shutil.which(need) is None


def _print_head(what: str, seconds: float, *, short: bool) -> None:
    print(f"{what}: attacks of {seconds:g} s, 20 good clients with 10 requests a second each")
    if short:
        from sippool_core import PoolConfig

        numbers = ", ".join(f"{name}={value:g}" for name, value in SHORT.items())
        longest = longest_deadline(PoolConfig().replace(**SHORT))
        print(f"deadlines made short: {numbers}; so all must be back after {longest:g} s")
    print("CPU: of one core; rest: from 2 to 3 s after the attack; RSS: peak / bound;")
    print(
        "descriptors: before / peak / after; back: after how long, the attackers still holding on"
    )
    print(" ".join(f"{name:>{width}}" for name, width in _COLUMNS))


def _line(row: Row) -> str:
    bound = "" if row.rss_bound_mib is None else f"/{row.rss_bound_mib:.0f}"
    cells = (
        row.attack,
        f"{row.served_percent:.1f}",
        f"{row.p50_ms:.1f}",
        f"{row.p99_ms:.1f}",
        f"{row.cpu_percent:.0f}",
        f"{row.idle_cpu_percent:.0f}",
        f"{row.rss_mib:.0f}{bound}",
        f"{row.descriptors_before}/{row.descriptors_peak}/{row.descriptors_after}",
        f"{row.back_seconds:.1f}",
        str(row.wrong),
        _strength(row.attackers),
    )
    text = " ".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, _COLUMNS, strict=True))
    return text + (f"  MISSED: {'; '.join(row.missed)}" if row.missed else "")


def _strength(done: dict[str, int]) -> str:
    """How much the attackers did: connections (or sockets of UDP) and MiB sent."""
    count = done.get("connections", done.get("datagrams", 0))
    return f"{count} {done.get('bytes', 0) / 2**20:.1f}"


def _target(text: str) -> tuple[str, tuple[str, int]]:
    """`tcp:127.0.0.1:5060`; nothing but IPv4 loopback."""
    transport, _, rest = text.partition(":")
    host, _, port = rest.rpartition(":")
    if transport not in ALL or not ipaddress.IPv4Address(host).is_loopback:
        raise argparse.ArgumentTypeError(f"{text} is no udp:, tcp: or tls: at 127.0.0.0/8")
    return transport, (host, int(port))


def _label(text: str) -> str:
    name, _, only = text.partition("/")
    known = {DESCRIPTOR_LIMIT: ("tcp",)} | {one.name: one.transports for one in ATTACKS.values()}
    if name not in known or (only and only not in known[name]):
        raise argparse.ArgumentTypeError(f"{text} is no attack; --list shows them")
    return text


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.5 <= seconds <= 120:
        raise argparse.ArgumentTypeError("from 0.5 to 120")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.attacks", description="A server under attack; loopback only."
    )
    parser.add_argument("--adapter", choices=ADAPTERS, default="sync", help="of ours (sync)")
    parser.add_argument(
        "--only",
        nargs="+",
        type=_label,
        metavar="NAME",
        help="these attacks; NAME/tcp for one transport",
    )
    parser.add_argument("--seconds", type=_seconds, default=3.0, help="of each attack (3)")
    parser.add_argument("--seed", type=int, default=0, help="of the attackers' dice (0)")
    parser.add_argument("--server", metavar="CMD", default="", help="another server, to compare")
    parser.add_argument(
        "--target",
        type=_target,
        action="append",
        default=[],
        metavar="udp:127.0.0.1:5060",
        help="where that one listens; may be given again",
    )
    parser.add_argument("--json", action="store_true", help="one JSON list instead of the table")
    parser.add_argument("--list", action="store_true", help="name the attacks, and end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
