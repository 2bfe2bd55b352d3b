"""Draws inputs by the ten thousand a second: well-formed messages, changed where SIP stacks have gone wrong.

1. Everything comes from one `random.Random`, so a seed is a list of inputs.
2. Lines are changed as lines (another start line, a header twice, a length that lies), then bytes as bytes.
3. What refuses input is aimed at on purpose, each limit from both sides: a random byte finds none of that.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, TypeVar

from fuzz.snippets import FIELDS, HEADER_LINES, NUMBERS, SHORT_DATAGRAMS, START_LINES
from sippool.testing.strategies import HOSTILE_SNIPPETS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Lines = list[bytes]

ItemT = TypeVar("ItemT")

END = b"\r\n\r\n"
DELIMITERS = tuple(b"\r\n :;=/,<>@\"'[]")
# The limits that are aimed at: `fuzz.framing.LIMITS`, of which the first is small.
HEADER_BYTES = (900, 2**14)
HEADER_LINE_COUNTS = (30, 256)
BODY_BYTES = (100, 2**16)
KEEPALIVE_BYTES = (64, 2**16)
NEAR = 40
"""How far from a limit is near."""

_NUMBER = re.compile(rb"[0-9]+")
_BETWEEN = (b"", b"", b"", b"\r\n", END, b"\r\n" * 3, b"\r\n" * 5, b"\r", b"\n", b"\r\r\n")


class Mutator:
    """A source of inputs: some messages to begin with, and a seed."""

    def __init__(self, messages: Sequence[bytes], seed: int) -> None:
        self.rng = random.Random(seed)
        self._random = self.rng.random
        self._seeds: list[tuple[Lines, bytes]] = []
        for message in messages:
            head, _, body = message.partition(END)
            self._seeds.append((head.split(b"\r\n"), body))
        self._line_changes: tuple[Callable[[Lines, bytes], bytes], ...] = (
            self._add_line,
            self._add_line,
            self._replace_start_line,
            self._replace_field,
            self._replace_field,
            self._replace_field,
            self._drop_line,
            self._double_line,
            self._move_line,
            self._take_line,
            self._lie_about_length,
            self._lie_about_length,
        )
        self._byte_changes: tuple[Callable[[bytes], bytes], ...] = (
            self._change_byte,
            self._change_delimiter,
            self._change_delimiter,
            self._insert,
            self._insert,
            self._delete,
            self._double,
            self._cut_off,
            self._change_number,
            self._change_number,
        )

    def pick(self, items: Sequence[ItemT]) -> ItemT:
        """One of them, each as likely as any other."""
        return items[int(self._random() * len(items))]

    def message(self, *, large: bool = False) -> bytes:
        """One message, whole or broken; near the large limits if `large`, else near the small ones."""
        kind = self._random()
        if kind < 0.02:
            return self.pick(SHORT_DATAGRAMS)
        lines, body = self.pick(self._seeds)
        if kind < 0.1:
            return b"\r\n".join(lines) + END + body
        lines = lines.copy()
        if kind < 0.18:
            body = self._resize(lines, body, large=large)
        elif kind < 0.8:
            for _ in range(1 + (kind > 0.65)):
                body = self.pick(self._line_changes)(lines, body)
        data = b"\r\n".join(lines) + END + body
        if kind > 0.6:
            for _ in range(1 + (kind > 0.9) + (kind > 0.97)):
                data = self.change_bytes(data)
        return data

    def stream(self, *, large: bool = False) -> bytes:
        """Messages one after another, with line ends between them."""
        kind = self._random()
        if kind < (0.0003 if large else 0.02):
            near = self.rng.randint(-NEAR // 2, NEAR // 2)
            return b"\r\n" * (KEEPALIVE_BYTES[large] // 2 + near) + self.message()
        pieces: list[bytes] = []
        for _ in range(1 + (kind > 0.4) + (kind > 0.8)):
            # The last one is the most broken: what is behind a broken one is not read.
            pieces += (self.pick(_BETWEEN) if kind > 0.2 else b"", self._good())
        pieces[-1] = self.message(large=large)
        return b"".join(pieces)

    def change_bytes(self, data: bytes) -> bytes:
        """The same with one change at a place that is drawn."""
        return self.pick(self._byte_changes)(data)

    def near(self, limit: int) -> int:
        """A number near a limit, on either side."""
        return max(0, limit + self.rng.randint(-NEAR, NEAR))

    def number(self) -> bytes:
        """A number near some limit, or what is nearly a number."""
        limit = self.pick(NUMBERS)
        return limit if isinstance(limit, bytes) else b"%d" % self.near(limit)

    def _good(self) -> bytes:
        lines, body = self.pick(self._seeds)
        lines = [line for line in lines if not line.lower().startswith((b"content-length", b"l:"))]
        lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join(lines) + END + body

    def _at(self, data: bytes | Sequence[bytes]) -> int:
        return int(self._random() * len(data))

    # Lines: changed in place; what is returned is the body.

    def _add_line(self, lines: Lines, body: bytes) -> bytes:
        lines.insert(1 + self._at(lines), self.pick(HEADER_LINES))
        return body

    def _replace_start_line(self, lines: Lines, body: bytes) -> bytes:
        lines[0] = self.pick(START_LINES)
        return body

    def _replace_field(self, lines: Lines, body: bytes) -> bytes:
        names, values = self.pick(FIELDS)
        value = self.pick(values)
        for at, line in enumerate(lines):
            if line.partition(b":")[0].strip().lower() in names:
                lines[at] = value
                return body
        lines.append(value)
        return body

    def _drop_line(self, lines: Lines, body: bytes) -> bytes:
        if len(lines) > 1:
            del lines[self._at(lines)]
        return body

    def _double_line(self, lines: Lines, body: bytes) -> bytes:
        lines.insert(self._at(lines), self.pick(lines))
        return body

    def _move_line(self, lines: Lines, body: bytes) -> bytes:
        line = lines.pop(self._at(lines))
        lines.insert(int(self._random() * (len(lines) + 1)), line)
        return body

    def _take_line(self, lines: Lines, body: bytes) -> bytes:
        others, other_body = self.pick(self._seeds)
        lines[self._at(lines)] = self.pick(others)
        return other_body if self._random() < 0.2 else body

    def _lie_about_length(self, lines: Lines, body: bytes) -> bytes:
        kind = self._random()
        if kind < 0.6:
            number = b"%d" % max(0, len(body) + int(self._random() * 9) - 4)
        else:
            number = self.number()
        line = self.pick((b"Content-Length: ", b"l:", b"CONTENT-length \t: ")) + number
        for at, old in enumerate(lines):
            if old[:14].lower() == b"content-length" or old[:1] in (b"l", b"L"):
                lines[at] = line
                return body
        lines.append(line)
        return body

    def _resize(self, lines: Lines, body: bytes, *, large: bool) -> bytes:
        """Near one of the limits; the other two are kept, so that it is this one that counts."""
        kind = self._random()
        if kind < 0.3:
            body = b"b" * self.near(BODY_BYTES[large])
            lines[1:] = [line for line in lines[1:] if line[:1] not in b"cClL"]
            lines += (b"l: %d" % len(body), b"i: x", b"CSeq: 1 " + lines[0].partition(b" ")[0])
        elif kind < 0.7:
            size = sum(map(len, lines)) + 2 * len(lines) - 2
            wanted = self.near(HEADER_BYTES[large])
            lines.insert(1 + self._at(lines), b"X:" + b"a" * max(0, wanted - size - 4))
        else:
            wanted = HEADER_LINE_COUNTS[large] + 1 + int(self._random() * 9) - 4
            missing = max(0, wanted - len(lines))
            lines[1:1] = [self.pick((b"a:", b" b", b"c :d"))] * missing
        return body

    # Bytes.

    def _change_byte(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + bytes((int(self._random() * 256),)) + data[at + 1 :]

    def _change_delimiter(self, data: bytes) -> bytes:
        """A delimiter to any value, for a check that looks at one byte of two is a hole."""
        at = data.find(self.pick(DELIMITERS), self._at(data))
        if at < 0:
            return data
        return data[:at] + bytes((int(self._random() * 256),)) + data[at + 1 :]

    def _insert(self, data: bytes) -> bytes:
        at = self._at(data)
        if self._random() < 0.5:  # at the beginning of a line
            at = data.find(b"\n", at) + 1
        return data[:at] + self.pick(HOSTILE_SNIPPETS) + data[at:]

    def _delete(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + data[at + 1 + int(self._random() * 8) :]

    def _double(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[: at + int(self._random() * 60)] + data[at:]

    def _cut_off(self, data: bytes) -> bytes:
        return data[: self._at(data)]

    def _change_number(self, data: bytes) -> bytes:
        found = _NUMBER.search(data, self._at(data))
        if found is None:
            return data
        return data[: found.start()] + self.number() + data[found.end() :]
