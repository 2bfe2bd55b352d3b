"""Some schedules of the simulation, that it is what it says, and every schedule that ever failed."""

import json
from pathlib import Path

import pytest

from sippool.testing.__main__ import main
from sippool.testing.campaign import Failure, play, play_seeds, replay, shrink
from sippool.testing.oracle import LawBroken
from sippool.testing.schedule import Schedule

REGRESSIONS = sorted((Path(__file__).parent / "regressions").glob("*.json"))


def test_the_laws_hold_in_some_schedules():
    played = play_seeds(range(1_000_000, 1_000_100))
    assert not played.failures
    steps = sorted(result.steps for result in played.results)
    assert steps[50] >= 200
    assert sorted(result.pools for result in played.results)[50] >= 3


@pytest.mark.parametrize("seed", [3, 31])  # the second with TLS
def test_the_same_seed_gives_the_same_trace(seed):
    assert Schedule(seed).with_tls is (seed == 31)
    one, two = play(seed), play(seed)
    assert one == two and one.digest
    assert play(seed + 1).digest != one.digest


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_what_failed_once_holds(path):
    assert replay(json.loads(path.read_text())) is None


def test_a_failure_is_shrunk_to_the_actions_that_matter(monkeypatch):
    def act(schedule):
        acted.append(schedule.rng.getstate())
        if len(acted) == 2:
            raise LawBroken("I99: two actions")

    def played_anew(*args, **kwargs):
        acted.clear()
        original(*args, **kwargs)

    acted = []
    original = Schedule.__init__
    monkeypatch.setattr(Schedule, "__init__", played_anew)
    monkeypatch.setattr(Schedule, "_act", act)
    failure = play(7)
    assert failure == Failure(7, "I99: two actions")
    script = shrink(failure)
    assert len(script["kept"]) == 2
    assert replay(script).law == "I99"


def test_the_command_adds_up_and_goes_on_where_it_stopped(tmp_path, capsys):
    totals = tmp_path / "totals.json"
    arguments = ["--jobs", "1", "--totals", str(totals)]
    assert main(["--schedules", "3", *arguments]) == 0
    assert main(["--schedules", "5", *arguments]) == 0
    assert "5 schedules, " in capsys.readouterr().out
    assert json.loads(totals.read_text())["next_seed"] == 5


def test_the_command_tells_what_broke(tmp_path, capsys, monkeypatch):
    def act(schedule):
        raise RuntimeError("no good")

    monkeypatch.setattr(Schedule, "_act", act)
    kept = tmp_path / "kept"
    assert main(["--schedules", "1", "--jobs", "1", "--failures", str(kept)]) == 1
    assert "shrunk to 1 actions" in capsys.readouterr().out
    assert main(["--replay", str(kept / "seed-0.json")]) == 1
    monkeypatch.undo()
    assert main(["--replay", str(kept / "seed-0.json")]) == 0
