"""Every planted bug is found by laws that do not know it; those that need more time, by `python -m tests.planted`."""

import pytest

from tests.planted.__main__ import main
from tests.planted.finders import look, play_some
from tests.planted.registry import load

BUGS = load()
SCHEDULES = 150
TLS_SCHEDULES = 600  # of which one in twenty is played


@pytest.mark.parametrize("name", [name for name, bug in BUGS.items() if not bug.is_rare])
def test_a_planted_bug_is_found(name):
    bug = BUGS[name]
    assert look(bug, TLS_SCHEDULES if bug.needs_tls else SCHEDULES) is not None


def test_nothing_is_found_where_nothing_is_planted():
    assert play_some(range(20)) is None


def test_there_are_enough_and_few_of_them_are_rare():
    assert len(BUGS) >= 25
    assert sum(bug.is_rare for bug in BUGS.values()) <= len(BUGS) / 10
    findings = {bug.stands_for for bug in BUGS.values()}
    assert {f"N{number}" for number in range(1, 18)} <= findings
    assert {f"A{number}" for number in range(1, 5)} <= findings


def test_the_command_prints_a_row_for_each_and_says_what_is_missed(capsys):
    assert main(["no-connect-deadline"]) == 0
    assert "| no-connect-deadline | deadline removed |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["no-such-bug"])
