"""The fuzzing harness runs, finds what is there to be found, and says how to find it again."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

import fuzz
from fuzz.__main__ import main
from sippool_core.reasons import Defect


@pytest.mark.parametrize("name", sorted(fuzz.load()))
def test_a_short_run_of_each_target_finds_nothing(name, capsys):
    assert main(["--examples", "40", name]) == 0
    output = capsys.readouterr().out
    assert f"{name}: " in output
    assert "no failure" in output


def test_a_run_of_some_time_tries_several_batches(capsys):
    assert main(["--seconds", "0.01", "datagram", "outgoing"]) == 0
    assert "2 targets, 0 failures" in capsys.readouterr().out


def test_a_finding_is_shrunk_printed_and_found_again(capsys, monkeypatch):
    def breaks(number):
        """Small numbers only."""
        assert number < 1000
        return [Defect.VIA]

    found = fuzz.Target("breaks", "Small numbers only.", st.integers(), breaks)
    monkeypatch.setitem(fuzz.TARGETS, "breaks", found)
    for arguments in (["--seed", "5"], ["--examples", "200", "--seed", "5"]):
        assert main([*arguments, "breaks"]) == 1
        output = capsys.readouterr().out
        assert "FAILED" in output
        assert "Small numbers only." in output
        assert "Defect.VIA" in output
        assert "1000" in output
        assert "again: python -m fuzz --examples 200 --seed 5 breaks" in output
        assert "1 targets, 1 failures" in output


def test_an_unknown_target_is_told(capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["no-such-target"])
    assert exit_info.value.code == 2
    assert "no such target: no-such-target" in capsys.readouterr().err
