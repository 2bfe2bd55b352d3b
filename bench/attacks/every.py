"""All attacks: importing this fills the registry, in the order of the table."""

from __future__ import annotations

from . import forged, hostile, misuse, records, slow

__all__ = ["slow", "hostile", "records", "misuse", "forged"]
