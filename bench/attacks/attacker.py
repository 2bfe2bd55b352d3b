"""The process of the attackers: attacks for some seconds, then holds what is open until its input ends.

Prints `begun`, and when the time is over one line of JSON: what was done, and what came back that should not.
"""

from __future__ import annotations

import ipaddress
import json
import os
import resource
import select
import sys
from pathlib import Path

from . import every  # noqa: F401 - fills the registry
from .certificates import Certificates
from .peer import Siege
from .registry import ATTACKS

_LONGEST_HOLD_SECONDS = 150.0


def main(arguments: list[str]) -> int:
    """`python -m bench.attacks.attacker PLAN`, the plan being JSON."""
    plan = json.loads(arguments[0])
    targets = {name: (str(host), int(port)) for name, (host, port) in plan["targets"].items()}
    for host, _ in targets.values():
        assert ipaddress.ip_address(host).is_loopback, host
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.nice(5)
    certificates = Certificates(Path(plan["certificates"]))
    siege = Siege(plan["name"], targets, certificates, float(plan["seconds"]), int(plan["seed"]))
    print("begun", flush=True)
    ATTACKS[siege.name].run(siege, tuple(plan["transports"]))
    print(json.dumps(siege.count), flush=True)
    select.select([sys.stdin], [], [], _LONGEST_HOLD_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
