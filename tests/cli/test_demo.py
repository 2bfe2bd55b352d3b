"""`sippool demo`: all promises kept on every adapter, and a broken one not hidden."""

from __future__ import annotations

import importlib.util

import pytest

from sippool import _acts
from sippool.__main__ import main
from sippool._cast import BrokenPromise, Server
from sippool._messages import answer
from tests.commands import run_sippool


def test_every_promise_is_kept(adapter):
    ended = run_sippool("demo", "--adapter", adapter)
    assert ended.stderr == ""
    assert ended.returncode == 0, ended.stdout
    lines = ended.stdout.splitlines()
    assert sum(line.startswith("yes ") for line in lines) == 10
    assert not any(line.startswith("NO ") for line in lines)
    assert lines[-1].endswith("every promise was kept.")
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 110
    for word in ("udp:127.0.0.1:", "conflicting_content_length", "identity_mismatch", adapter):
        assert word in ended.stdout


def keep_only(monkeypatch, *titles):
    """Play only the acts whose titles begin like this."""
    whole = _acts.Acts.programme
    monkeypatch.setattr(
        _acts.Acts,
        "programme",
        lambda self: [act for act in whole(self) if act[0].startswith(titles)],
    )


def test_a_server_that_mixes_up_its_clients_is_found_out(monkeypatch, capsys):
    monkeypatch.setattr(
        Server,
        "_answer",
        staticmethod(
            lambda pool, event: pool.reply(
                event,
                answer(event.message).replace(b"\r\n\r\n", b"\r\nX-Meant-For: 1\r\n\r\n"),
            )
        ),
    )
    keep_only(monkeypatch, "Two clients", "UDP")
    assert main(["demo"]) == 1
    shown = capsys.readouterr().out
    assert "NO     Two clients" in shown
    assert "got the answer that was meant for 1" in shown
    assert "1 of 2 were BROKEN" in shown


def test_an_act_that_fails_does_not_end_the_demo(monkeypatch, capsys):
    def fail(self):
        raise BrokenPromise("lost\x07")
        yield

    def refuse(self):
        raise ConnectionRefusedError("nobody there")
        yield

    monkeypatch.setattr(_acts.Acts, "over_udp", fail)
    monkeypatch.setattr(_acts.Acts, "expiry", refuse)
    keep_only(monkeypatch, "UDP", "TCP", "Expiry")
    assert main(["demo", "--adapter", "trio"]) == 1
    shown = capsys.readouterr().out
    assert "lost\\x07" in shown
    assert "ConnectionRefusedError: nobody there" in shown
    assert "2 of 3 were BROKEN" in shown


@pytest.mark.parametrize(
    ("missing", "arguments", "told"),
    [
        ("trustme", ["demo"], "pip install 'sippool[demo]'"),
        ("anyio", ["demo", "--adapter", "asyncio"], "pip install 'sippool[anyio]'"),
        ("trio", ["listen", "udp:127.0.0.1:0", "--adapter", "trio"], "pip install 'trio'"),
    ],
)
def test_what_is_not_installed_is_told(monkeypatch, capsys, missing, arguments, told):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == missing else real(name, *a)
    )
    assert main(arguments) == 64
    assert told in capsys.readouterr().err
