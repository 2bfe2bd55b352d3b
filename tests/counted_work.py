"""Counts the work that the core does for some input, in steps: never in seconds, so that it is the same anywhere.

A step is one of these, and their sum is what `Work.steps` says:

1. A line of Python executed in `sippool_core` (`sys.settrace`).
2. A step of a regular expression. `re` has no counter, so each pattern of the core is replaced by a twin: it
   walks the tree that `re` itself parsed, in the order in which `re` backtracks, and counts every byte and every
   alternative that it tries; and it asserts that it found what `re` found. `re` skips some of these steps (it
   looks for a literal prefix before it begins), and takes none that are not counted.
3. A byte that a method of `bytes` or `bytearray` may have looked at or copied: the twins of these two classes
   count the whole of what they were called on, or up to where `find` found something, and what they return
   counts too. A `bytearray` that grows is counted by what is added, for its copies are amortised by CPython.

Not counted: comparing and hashing bytes, and `join`, each of which costs at most what making those bytes cost; and
what becomes of a group that a pattern returns, which is no twin (the pattern's own steps over it are counted).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from re import _constants as op
from re import _parser as parser

import sippool_core
from sippool_core import framing, message, start_line, syntax, usual, via

MODULES = (framing, message, start_line, syntax, usual, via)
FOLDER = str(Path(sippool_core.__file__).parent)


class Work:
    """Counts steps from `with` to its end."""

    def __init__(self, monkeypatch):
        self.steps = 0
        self.bytes, self.bytearray = counted_types(self)
        twins = {}
        for module in MODULES:
            for name, value in vars(module).items():
                if isinstance(value, re.Pattern):
                    twins[value] = twins.get(value) or CountedPattern(value, self)
                    monkeypatch.setattr(module, name, twins[value])
        monkeypatch.setattr(framing, "bytes", self.bytes, raising=False)
        monkeypatch.setattr(framing, "bytearray", self.bytearray, raising=False)

    def __enter__(self):
        self.steps = 0
        self._before = sys.gettrace(), sys.getrecursionlimit()
        sys.setrecursionlimit(1_000_000)  # a turn of a loop in a pattern is some calls
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_):
        sys.settrace(self._before[0])
        sys.setrecursionlimit(self._before[1])

    def _trace(self, frame, event, argument):
        return self._trace_line if frame.f_code.co_filename.startswith(FOLDER) else None

    def _trace_line(self, frame, event, argument):
        self.steps += event == "line"
        return self._trace_line


def counted_types(work):
    """Twins of `bytes` and `bytearray` that count into `work`."""

    def spans(name, base):
        method = getattr(base, name)

        def counted(self, what, start=0, end=sys.maxsize):
            result = method(self, what, start, end)
            stop = min(end, len(self))
            if name == "find" and result >= 0:
                stop = result + len(what)
            work.steps += max(0, stop - start)
            return result

        return counted

    def whole(name, base):
        method = getattr(base, name)

        def counted(self, *arguments, **options):
            work.steps += len(self)
            return twin(method(self, *arguments, **options))

        return counted

    def item(self, index):
        result = bytes.__getitem__(self, index)
        if isinstance(index, slice):
            work.steps += len(result)
            return CountedBytes(result)
        return result

    def bytearray_item(self, index):
        result = bytearray.__getitem__(self, index)
        if isinstance(index, slice):
            work.steps += len(result)
            return CountedBytearray(result)
        return result

    def twin(result):
        if isinstance(result, (bytes, bytearray)):
            return CountedBytes(result)
        if isinstance(result, (list, tuple)):
            return type(result)(map(twin, result))
        return result

    def members(base):
        found = {name: spans(name, base) for name in ("find", "count")}
        for name in [
            "split",
            "partition",
            "rpartition",
            "strip",
            "lstrip",
            "rstrip",
            "lower",
            "translate",
            "replace",
            "isdigit",
            "decode",
            "removesuffix",
        ]:
            found[name] = whole(name, base)
        return found

    class CountedBytearray(bytearray):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            work.steps += len(self)

        def __iadd__(self, other):
            work.steps += len(other)
            return super().__iadd__(other)

        def __delitem__(self, index):
            before = len(self)
            super().__delitem__(index)
            work.steps += before - len(self)

        __getitem__ = bytearray_item

    class CountedBytes(bytes):
        def __new__(cls, *arguments):
            made = super().__new__(cls, *arguments)
            work.steps += len(made)
            return made

        __getitem__ = item

    for cls, base in ((CountedBytes, bytes), (CountedBytearray, bytearray)):
        for name, member in members(base).items():
            setattr(cls, name, member)
    return CountedBytes, CountedBytearray


class CountedPattern:
    """A pattern that counts the steps of a backtracking matcher, and gives the answers of `re`."""

    def __init__(self, pattern, work):
        self.real = pattern
        self.work = work
        tree = parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG)
        self._match = self._sequence(list(tree), pattern.flags)

    def match(self, data, start=0, end=sys.maxsize):
        self._agree(found := self.real.match(data, start, end), data, start, end)
        return found

    def fullmatch(self, data):
        self._agree(found := self.real.fullmatch(data), data, 0, len(data), full=True)
        return found

    def search(self, data, start=0, end=sys.maxsize):
        found = self.real.search(data, start, end)
        end = min(end, len(data))
        for at in range(start, end + 1):
            if found is not None and at == found.start():
                self._agree(found, data, at, end)
                break
            self._agree(None, data, at, end)
        return found

    def split(self, data):
        self._each(data)
        return self.real.split(data)

    def sub(self, replacement, data):
        self._each(data)
        return self.real.sub(replacement, data)

    def _each(self, data):
        at = 0
        while (found := self.search(data, at)) is not None:
            assert found.end() > found.start()
            at = found.end()

    def _agree(self, found, data, start, end, *, full=False):
        """Match at one place, counting; what comes out is what `re` found there."""
        self._data = bytes(data)
        self._end = min(end, len(data))

        def at_the_end(at, groups):
            return (at, groups) if not full or at == self._end else None

        mine = self._match(start, {}, at_the_end)
        if found is None:
            assert mine is None, "the twin found what re did not find"
            return
        assert mine is not None, "the twin did not find what re found"
        assert mine[0] == found.end()
        spans = {number: found.span(number) for number in range(1, self.real.groups + 1)}
        assert mine[1] == {number: span for number, span in spans.items() if span != (-1, -1)}

    # Each of these gives a function of a place, the groups so far, and what must match behind.

    def _sequence(self, nodes, flags):
        steps = [self._node(code, argument, flags) for code, argument in nodes]
        if not steps:
            return lambda at, groups, then: then(at, groups)
        if len(steps) == 1:
            return steps[0]
        first, rest = steps[0], self._chain(steps[1:])

        def matched(at, groups, then):
            return first(at, groups, lambda at, groups: rest(at, groups, then))

        return matched

    def _chain(self, steps):
        if len(steps) == 1:
            return steps[0]
        first, rest = steps[0], self._chain(steps[1:])
        return lambda at, groups, then: first(at, groups, lambda a, g: rest(a, g, then))

    def _node(self, code, argument, flags):
        test = byte_test(code, argument, flags)
        if test is not None:
            return self._byte(test)
        if code in (op.MAX_REPEAT, op.POSSESSIVE_REPEAT):
            return self._repeat(code is op.POSSESSIVE_REPEAT, argument, flags)
        if code is op.SUBPATTERN:
            group, added, removed, inner = argument
            return self._group(group, self._sequence(list(inner), (flags | added) & ~removed))
        if code is op.BRANCH:
            return self._branch([self._sequence(list(inner), flags) for inner in argument[1]])
        if code in (op.ASSERT, op.ASSERT_NOT):
            return self._look(code is op.ASSERT, *argument, flags)
        if code is op.GROUPREF_EXISTS:
            number, yes, no = argument
            yes, no = self._sequence(list(yes), flags), self._sequence(list(no or ()), flags)
            return lambda at, groups, then: (yes if number in groups else no)(at, groups, then)
        assert (code, argument) == (op.AT, op.AT_END_STRING), f"this twin does not know {code}"
        return lambda at, groups, then: then(at, groups) if at == self._end else None

    def _byte(self, test):
        def matched(at, groups, then):
            self.work.steps += 1
            if at < self._end and test(self._data[at]):
                return then(at + 1, groups)
            return None

        return matched

    def _group(self, number, inner):
        if number is None:
            return inner

        def matched(at, groups, then):
            return inner(at, groups, lambda end, new: then(end, {**new, number: (at, end)}))

        return matched

    def _branch(self, alternatives):
        def matched(at, groups, then):
            for alternative in alternatives:
                self.work.steps += 1
                result = alternative(at, groups, then)
                if result is not None:
                    return result
            return None

        return matched

    def _look(self, wanted, direction, inner, flags):
        inner = self._sequence(list(inner), flags)

        def matched(at, groups, then):
            # Looking behind is used for one byte only.
            found = inner(at - (direction < 0), groups, lambda end, groups: (end, groups))
            return then(at, groups) if (found is not None) == wanted else None

        return matched

    def _repeat(self, possessive, argument, flags):
        low, high, inner = argument
        nodes = list(inner)
        test = byte_test(*nodes[0], flags) if len(nodes) == 1 else None
        if test is not None:
            return self._repeat_byte(possessive, low, high, test)
        body = self._sequence(nodes, flags)
        return (self._possessive_loop if possessive else self._loop)(low, high, body)

    def _repeat_byte(self, possessive, low, high, test):
        def matched(at, groups, then):
            end = at
            while end < self._end and end - at < high and test(self._data[end]):
                end += 1
            self.work.steps += end - at + 1
            while end - at >= low:
                result = then(end, groups)
                if result is not None or possessive:
                    return result
                self.work.steps += 1
                end -= 1
            return None

        return matched

    def _loop(self, low, high, body):
        def turn(at, groups, then, count):
            if count < high:

                def again(end, groups):
                    return turn(end, groups, then, count + 1) if end > at else None

                result = body(at, groups, again)
                if result is not None:
                    return result
            self.work.steps += 1
            return then(at, groups) if count >= low else None

        return lambda at, groups, then: turn(at, groups, then, 0)

    def _possessive_loop(self, low, high, body):
        def matched(at, groups, then):
            count = 0
            while count < high:
                self.work.steps += 1
                found = body(at, groups, lambda end, groups: (end, groups))
                if found is None or found[0] == at:
                    break
                at, groups = found
                count += 1
            return then(at, groups) if count >= low else None

        return matched


def byte_test(code, argument, flags):
    """Whether a byte matches, for what matches exactly one byte; `None` for anything else."""
    if code is op.LITERAL:
        wanted = {argument}
    elif code is op.NOT_LITERAL:
        wanted = set(range(256)) - {argument}
    elif code is op.ANY:
        wanted = set(range(256)) - (set() if flags & re.DOTALL else {10})
    elif code is op.IN:
        wanted = set()
        for kind, item in argument:
            if kind is op.LITERAL:
                wanted.add(item)
            elif kind is op.RANGE:
                wanted.update(range(item[0], item[1] + 1))
            else:
                assert kind is op.NEGATE
        if argument[0][0] is op.NEGATE:
            wanted = set(range(256)) - wanted
    else:
        return None
    if flags & re.IGNORECASE:
        wanted |= {ord(chr(byte).swapcase()) for byte in wanted if chr(byte).isascii()}
    return wanted.__contains__
