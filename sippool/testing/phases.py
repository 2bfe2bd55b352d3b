"""In which phase of its life a connection is, so that a schedule can tell what its faults have struck."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sippool_core.connection import Connection

PHASES = ("connecting", "handshake", "first message", "idle", "mid-message", "writing", "closing")


def phase_of(connection: Connection | None) -> str:
    """One of `PHASES`; empty for a connection that has gone."""
    if connection is None:
        return ""
    name = connection.phase.value
    if name != "open":
        return {"connecting": "connecting", "closing": "closing"}.get(name, "handshake")
    if connection.message_since is not None:
        return "mid-message"
    if connection.is_writing:
        return "writing"
    return "idle" if connection.spoke or connection.outbound else "first message"
