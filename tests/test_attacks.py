"""Some attacks on each adapter, briefly, and that the program which judges them sees what is wrong."""

from __future__ import annotations

import json
import socket
import sys

import pytest

from bench.attacks import crowd, trial
from bench.attacks.__main__ import main
from bench.attacks.registry import ATTACKS
from bench.attacks.server import SHORT, longest_deadline, memory_bound
from bench.attacks.trial import Row, judge
from sippool_core import PoolConfig

SOME = {
    "sync": ["reset-in-phases", "length-pairs"],
    "asyncio": ["garbage", "id-theft"],
    "trio": ["silent/tls", "client-certificates"],
}
# Answers every other datagram, and every third of these as if it were somebody else's.
BAD_SERVER = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", int(sys.argv[1])))
number = 0
while True:
    data, source = sock.recvfrom(65536)
    number += 1
    start, _, rest = data.partition(b"\\r\\n")
    if b"Call-ID: hello" in rest or number % 2:
        if number % 3 == 0:
            rest = rest.replace(b"Call-ID: good", b"Call-ID: bad")
        sock.sendto(b"SIP/2.0 200 OK\\r\\n" + rest, source)
"""


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch):
    """The CPU at rest is not measured in earnest here: no test is about the speed of this machine."""
    monkeypatch.setattr(trial, "WARM_UP_SECONDS", 0.2)
    monkeypatch.setattr(trial, "QUIET_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(trial, "_IDLE_WINDOW_SECONDS", 0.1)
    monkeypatch.setattr(trial, "GOAL_IDLE_CPU_PERCENT", 1000.0)


@pytest.mark.parametrize("adapter", SOME)
def test_some_attacks(adapter, capsys):
    options = ["--adapter", adapter, "--seconds", "0.5", "--json", "--only", *SOME[adapter]]
    status = main(options)
    rows = json.loads(capsys.readouterr().out)
    assert [row["attack"] for row in rows] == SOME[adapter]
    for row in rows:
        assert row["missed"] == []
        assert row["alive"] and row["wrong"] == 0 and row["asked"] > 0
        assert row["attackers"]["connections"] > 0
        assert row["descriptors_peak"] > row["descriptors_before"] == row["descriptors_after"]
    assert status == 0


def test_a_bad_server_is_seen(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(crowd, "PATIENCE_SECONDS", 0.4)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    program = tmp_path / "bad.py"
    program.write_text(BAD_SERVER)
    command = f"{sys.executable} {program} {port}"
    options = ["--server", command, "--target", f"udp:127.0.0.1:{port}", "--seconds", "0.5"]
    assert main([*options, "--only", "truncated"]) == 1
    output = capsys.readouterr().out
    assert "1 attacks, 1 with a goal missed" in output
    assert "wrong answers" in output
    assert "somebody else's answer" in output
    assert "% served" in output


def test_a_server_that_does_not_start_is_told():
    with pytest.raises(RuntimeError, match="does not start"):
        main(["--server", f"{sys.executable} -c 1", "--target", "tcp:127.0.0.1:9"])


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, None),
        ({"alive": False}, "dead"),
        ({"served_percent": 98.9}, "served"),
        ({"wrong": 1}, "wrong"),
        ({"rss_mib": 101.0}, "allowed"),
        ({"idle_cpu_percent": 1001.0}, "at rest"),
    ],
)
def test_each_goal_is_judged(change, missed):
    good = {"served_percent": 99.0, "rss_mib": 100.0, "rss_bound_mib": 100.0}
    row = Row("silent", "sync", **{**good, **change})
    judge(row, "")
    assert len(row.missed) == (missed is not None)
    assert missed is None or missed in row.missed[0]


def test_a_traceback_is_a_goal_missed():
    row = Row("silent", "sync", served_percent=100.0)
    judge(row, "Traceback (most recent call last):")
    assert row.missed == ["it wrote a traceback"]


def test_there_are_attacks_enough(capsys):
    assert main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(ATTACKS) + 1 >= 40
    assert all(attack.description and attack.transports for attack in ATTACKS.values())


@pytest.mark.parametrize(
    "options",
    [
        ["--only", "no-such-attack"],
        ["--only", "truncated/tls"],
        ["--seconds", "1000"],
        ["--server", "true"],
        ["--server", "true", "--target", "udp:192.0.2.1:5060"],
    ],
)
def test_wrong_usage_is_told(options, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(options)
    assert exit_info.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_what_is_allowed_follows_from_the_configuration():
    small = PoolConfig().replace(max_connections=10, max_partial_bytes=2**20)
    assert memory_bound(small) < memory_bound(PoolConfig()) < 2**28
    short = PoolConfig().replace(**SHORT)
    assert longest_deadline(short) < longest_deadline(PoolConfig())
