"""A short run of the leak bench on each adapter, and that it sees a leak."""

from __future__ import annotations

import pytest

from bench import leaks
from bench.holdings import table_entries
from sippool_core import Address, Pool, Transport
from sippool_sync.stream import Stream


@pytest.mark.parametrize("adapter", leaks.ADAPTERS)
def test_nothing_is_left(adapter, capsys):
    assert leaks.main(["--cycles", "400", "--adapter", adapter]) == 0
    output = capsys.readouterr().out
    assert "600 cycles" in output
    for reason in ("reset", "closed_by_peer", "truncated", "connect_failed", "handshake_failed"):
        assert reason in output
    assert f"{adapter}: nothing is left" in output


def test_a_socket_that_is_not_closed_is_seen(capsys, monkeypatch):
    kept = []
    close = Stream.close

    def forget(stream, *, abort):
        if len(kept) < 300:
            kept.append(stream.sock.dup())
        close(stream, abort=abort)

    monkeypatch.setattr(Stream, "close", forget)
    monkeypatch.setattr(leaks, "_SETTLE_SECONDS", 2.0)
    try:
        assert leaks.main(["--cycles", "200"]) == 1
    finally:
        for sock in kept:
            sock.close()
    assert "descriptors: " in capsys.readouterr().out.splitlines()[-1]


def test_events_that_are_kept_are_seen(capsys, monkeypatch):
    kept = []
    answer = leaks.answer

    def keep(pool, event):
        kept.append(event)
        answer(pool, event)

    monkeypatch.setattr(leaks, "answer", keep)
    assert leaks.main(["--cycles", "200"]) == 1
    assert "objects: " in capsys.readouterr().out.splitlines()[-1]


def test_entries_of_all_tables_are_counted():
    pool = Pool(now=0.0)
    here, there = Address("127.0.0.1", 5060), Address("127.0.0.2", 40000)
    listener_id = pool.add_listener(Transport.TCP, here, now=0.0)
    before = table_entries(pool)
    connection_id = pool.handle_accepted(listener_id, there, here, now=0.0)
    assert table_entries(pool) > before
    pool.handle_lost(connection_id, 0, now=0.0)
    while pool.next_effect() is not None or pool.next_event() is not None:
        pass
    assert pool.next_deadline() is None  # looking sweeps the dead ones
    assert table_entries(pool) == before
