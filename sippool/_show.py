"""What peers wrote, made fit for a terminal.

1. Every byte of a peer that is printed goes through `escape`: a terminal obeys control characters, and a
   log is read line by line (CWE-117, CWE-150).
2. A peer does not decide how long a line is.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sippool_core import Message

MAX_SHOWN_BYTES = 200


def escape(written: bytes | str, limit: int = MAX_SHOWN_BYTES) -> str:
    """Printable ASCII of what somebody else wrote, at most `limit` bytes of it; the rest becomes `\\xNN`."""
    data = written.encode("utf-8", "surrogateescape") if isinstance(written, str) else written
    shown = "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}"
        for byte in data[:limit]
    )
    return shown if len(data) <= limit else f"{shown}... ({len(data)} bytes)"


def start_line(message: Message) -> str:
    """The first line of a message, escaped."""
    return escape(message.raw.lstrip(b"\r\n").partition(b"\r\n")[0])


class Printer:
    """Lines on standard output, until whoever reads them has gone."""

    def __init__(self) -> None:
        self._gone = False

    def line(self, text: str) -> None:
        """Print one line, at once."""
        if self._gone:
            return
        try:
            print(text, flush=True)
        except (BrokenPipeError, ValueError):
            # `sippool listen ... | head`: the reader has seen enough, the peers have not.
            self._gone = True


def complain(text: str) -> None:
    """One line on standard error."""
    print(f"sippool: {text}", file=sys.stderr, flush=True)
