"""A peer that is not installed is a skip, and a failure where peers are required."""

from __future__ import annotations

import pytest

from tests.interop.conftest import require


def test_a_missing_peer_is_a_skip_with_its_reason(monkeypatch):
    monkeypatch.delenv("SIPPOOL_REQUIRE_INTEROP", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no no-such-peer \(Debian package nothing\)"):
        require("no-such-peer", "nothing")


def test_a_missing_peer_is_a_failure_where_it_is_required(monkeypatch):
    monkeypatch.setenv("SIPPOOL_REQUIRE_INTEROP", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-peer"):
        require("no-such-peer", "nothing")
