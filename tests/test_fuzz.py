"""The fuzzing harness runs, finds what is there to be found, and says how to find it again."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections import Counter

import pytest
from hypothesis import strategies as st

import fuzz
from fuzz.__main__ import main
from fuzz.engines import Batch, run_batch
from fuzz.seeds import CORPUS, RFC4475, corpus_of
from fuzz.shrink import shrunk, symptom
from fuzz.slow_framer import slow_datagram
from sippool_core import framing, identity, message, tls
from sippool_core.config import Limits
from sippool_core.datagrams import Datagrams
from sippool_core.framing import StreamFramer
from sippool_core.reasons import Defect, DropReason

NAMES = sorted(fuzz.load())


def volume(name, examples, seed=1):
    return run_batch(Batch("volume", name, examples, seed))


@pytest.mark.parametrize("engine", ["hypothesis", "volume"])
@pytest.mark.parametrize("name", NAMES)
def test_a_short_run_of_each_target_finds_nothing(name, engine, capsys):
    assert main(["--engine", engine, "--examples", "40", name]) == 0
    output = capsys.readouterr().out
    assert f"{name}: 40 executions" in output or engine == "hypothesis"
    assert "no failure" in output


def test_a_run_of_some_time_tries_several_batches(capsys):
    assert main(["--seconds", "0.01", "datagram", "outgoing"]) == 0
    assert "2 targets, 0 failures" in capsys.readouterr().out


# What only a stream, or only a datagram, can be refused for.
ONLY_STREAM = {
    Defect.NOT_SIP,
    Defect.MISSING_CONTENT_LENGTH,
    Defect.KEEPALIVE_FLOOD,
    Defect.STATUS_CODE,
}


def test_the_volume_generator_reaches_every_defect_of_a_stream():
    reached = volume("framer", 6000).reached
    for defect in set(Defect) - {Defect.SHORT_BODY}:
        assert reached[fuzz.name_of(defect)] > 10, defect


def test_the_volume_generator_reaches_every_reason_to_refuse_a_datagram():
    reached = volume("datagram", 6000).reached
    dropped = {DropReason.KEEPALIVE, DropReason.NOT_SIP, DropReason.MALFORMED_RESPONSE}
    for reason in (set(Defect) - ONLY_STREAM) | dropped:
        assert reached[fuzz.name_of(reason)] > 20, reason


def test_the_volume_generator_makes_the_core_drop_for_every_reason():
    reached = volume("core", 600).reached
    # A closed pool has no listener that anything could come to.
    for reason in DropReason:
        assert reached[fuzz.name_of(reason)], reason


def test_a_seed_decides_everything():
    once, again, other = (volume("framer", 300, seed).reached for seed in (7, 7, 8))
    assert once == again != other


# Bugs, each as a few words in place of a function of the library.


def forget_a_trailing_cr(monkeypatch):
    receive = StreamFramer.receive
    monkeypatch.setattr(
        StreamFramer, "receive", lambda self, data: receive(self, data.removesuffix(b"\r"))
    )


def trust_lookalikes(monkeypatch):
    monkeypatch.setattr(message, "looks_like_content_length", lambda written: False)


def allow_blanks_in_call_ids(monkeypatch):
    monkeypatch.setattr(message, "_BLANK", re.compile(rb"(?!)"))


def accept_short_datagrams(monkeypatch):
    monkeypatch.setattr(framing, "_MIN_MESSAGE_BYTES", 12)


def forget_sent_by(monkeypatch):
    key = property(lambda self: (self.client_key, self.call_id, self.from_tag))
    monkeypatch.setattr(message.Message, "transaction_key", key)


def key_by_received(monkeypatch):
    key = property(lambda self: (self.client_key[0], self.via and self.via.received))
    monkeypatch.setattr(message.Message, "transaction_key", key)


def allow_wildcards(monkeypatch):
    monkeypatch.setattr(identity, "_LABEL", re.compile(r"\*|[a-z0-9_-]+"))


def lose_an_outcome(monkeypatch):
    monkeypatch.setattr(Datagrams, "sent", lambda self, send_id: None)


def let_openssl_raise(monkeypatch):
    def shake_hands(self):
        try:
            self._tls.do_handshake()
        except tls.ssl.SSLWantReadError:
            return
        self._open()

    monkeypatch.setattr(tls.TlsEngine, "_shake_hands", shake_hands)


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        ("framer", forget_a_trailing_cr),
        ("framer", trust_lookalikes),
        ("datagram", accept_short_datagrams),
        ("outgoing", allow_blanks_in_call_ids),
        ("keys", forget_sent_by),
        ("key", key_by_received),
        ("identity", allow_wildcards),
        ("core", lose_an_outcome),
        ("core_cuts", forget_a_trailing_cr),
        ("tls", let_openssl_raise),
    ],
)
def test_a_planted_bug_is_found(name, plant, monkeypatch):
    plant(monkeypatch)
    assert any(volume(name, 500, seed).findings for seed in range(6))


def test_a_finding_is_small_and_printed_as_a_test(capsys, monkeypatch):
    with monkeypatch.context() as planted:
        trust_lookalikes(planted)
        assert main(["--engine", "volume", "--seed", "3", "--examples", "4000", "framer"]) == 1
        output = capsys.readouterr().out
        again = re.search(r"again: python -m fuzz (.*)", output)
        assert main(again[1].split()) == 1
        found_again = capsys.readouterr().out
        test = re.search(
            r"def test_found_by_fuzzing_framer\(\):\n +fuzz\.check\('framer', (.*)\)", output
        )
        assert test[0] in found_again
        data = ast.literal_eval(test[1])
        assert len(data) < 80
        with pytest.raises(AssertionError):
            fuzz.check("framer", data)
    assert fuzz.check("framer", data) == ["Defect.SUSPICIOUS_CONTENT_LENGTH"]


def test_hypothesis_shrinks_prints_and_finds_again(capsys, monkeypatch):
    def breaks(number):
        """Small numbers only."""
        assert number < 1000
        return [Defect.VIA]

    found = fuzz.Target(
        "breaks", "Small numbers only.", st.integers(), breaks, len, lambda mutator: b""
    )
    monkeypatch.setitem(fuzz.TARGETS, "breaks", found)
    for arguments in (["--seed", "5"], ["--examples", "200", "--seed", "5"]):
        assert main([*arguments, "breaks"]) == 1
        output = capsys.readouterr().out
        assert "FAILED" in output
        assert "Small numbers only." in output
        assert "Defect.VIA" in output
        assert "1000" in output
        again = "python -m fuzz --engine hypothesis --examples 200 --seed 5 breaks"
        assert f"again: {again}" in output
        assert "1 targets, 1 failures" in output


def test_shrinking_keeps_the_symptom_and_nothing_else():
    def breaks(data):
        if b"xy" in data:
            raise ValueError(data)
        assert b"z" not in data

    assert shrunk(b"123 xy 456 z", breaks) == b"xy"
    assert shrunk(b"123 z 456", breaks) == b"z"
    assert shrunk(b"nothing", breaks) == b"nothing"
    assert symptom(b"nothing", breaks) is None


def test_runs_add_up_in_a_file_and_go_on_with_other_seeds(tmp_path, capsys):
    file = tmp_path / "totals.json"
    for jobs in ("1", "2"):
        arguments = ["--engine", "volume", "--examples", "700", "--jobs", jobs]
        assert main([*arguments, "--totals", str(file), "datagram", "keys"]) == 0
    kept = json.loads(file.read_text())["targets"]
    assert {name: total["executions"] for name, total in kept.items()} == {
        "datagram": 1400,
        "keys": 1400,
    }
    assert kept["datagram"]["next_seed"] == {"volume": 4}
    expected = Counter()
    for seed, examples in enumerate((500, 200, 500, 200)):
        expected += volume("datagram", examples, seed).reached
    assert kept["datagram"]["reached"] == expected
    capsys.readouterr()
    assert main(["--report", str(file)]) == 0
    report = capsys.readouterr().out
    assert "all targets: 2800 executions, 0 findings" in report
    assert re.search(rf" {expected['Defect.VIA']}  Defect.VIA\n", report)
    assert re.search(r" 0  DropReason.OVERLOAD\n", report)


def test_what_was_found_stays_in_the_totals(tmp_path, capsys, monkeypatch):
    file = tmp_path / "totals.json"
    with monkeypatch.context() as planted:
        allow_wildcards(planted)
        arguments = ["--engine", "volume", "--seconds", "20", "--totals", str(file), "identity"]
        assert main(arguments) == 1
    assert main(["--report", str(file)]) == 0
    assert "again: python -m fuzz --engine volume" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_the_corpus_is_read_and_nothing_in_it_breaks(name):
    corpus = corpus_of(name)
    assert corpus
    for data in corpus:
        fuzz.check(name, data)


def test_the_corpus_is_small():
    files = list(CORPUS.glob("*/*"))
    assert len(files) <= 200
    assert sum(path.stat().st_size for path in files) <= 200_000


@pytest.mark.parametrize("path", sorted(RFC4475.glob("*.dat")), ids=lambda path: path.stem)
def test_the_slow_framer_agrees_about_the_torture_messages(path):
    data = path.read_bytes()
    for how in (2, 3, 14, 15):  # small and default limits, byte by byte and in pieces of seven
        fuzz.check("framer", bytes((how,)) + data)
        fuzz.check("datagram", bytes((how,)) + data)


def test_the_slow_framer_knows_the_rules_by_itself():
    assert slow_datagram(b"\0" * 20, Limits()) is DropReason.KEEPALIVE
    assert slow_datagram(b"GET / HTTP/1.1\r\n\r\n", Limits()) is DropReason.NOT_SIP
    event = slow_datagram(b"OPTIONS sip:x SIP/2.0\r\nl: 1\r\n\r\n", Limits())
    assert (event.kind, event.defect) == ("malformed", Defect.VIA)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["no-such-target"], "no such target: no-such-target"),
        (["--engine", "atheris"], "atheris runs one target"),
        (["--jobs", "0"], "there must be one job at least"),
    ],
)
def test_a_wrong_command_line_is_told(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert complaint in capsys.readouterr().err


def test_without_atheris_it_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["--engine", "atheris", "framer"]) == 2
    assert 'pip install -e ".[fuzz]"' in capsys.readouterr().out
