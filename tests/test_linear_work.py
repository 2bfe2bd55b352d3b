"""The work for an input grows with its bytes and no faster, whatever they say and however they come.

Counted in steps (`counted_work` says what a step is, and what is not counted), for inputs of 1 to 16 KiB: twice the
input is at most twice the steps. The limits are far above that, so that nothing is linear only by being cut off.
The letters are the rows of the threat model: B1 backtracking, B2 rescans of what drips, B3 header bombs, B4 many
small messages in one read, B5 scans of tables.
"""

from __future__ import annotations

import itertools
import os
import re

import pytest

from sippool.testing.messages import request, response
from sippool_core import (
    Address,
    Limits,
    MessageReceived,
    Pool,
    PoolConfig,
    Transport,
    WriteData,
)
from sippool_core.framing import Broken, Malformed, StreamFramer, frame_datagram
from sippool_core.message import Message, stamp
from tests.counted_work import CountedPattern, Work

# 1, 2 and 4 KiB; up to 16 KiB, which takes minutes, where it is asked for.
SIZES = [2**power for power in range(10, 15 if os.environ.get("SIPPOOL_LINEAR_FULL") else 13)]
MORE = 256  # steps that may come on top
HUGE = Limits(
    max_header_bytes=2**20,
    max_body_bytes=2**20,
    max_header_lines=2**20,
    max_keepalive_bytes=2**20,
    max_queued_bytes=2**22,
)
SOURCE = Address("198.51.100.7", 40000)

HEAD = b"OPTIONS sip:x SIP/2.0\r\n"
REST = b"Call-ID: c\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n"
VIA = b"Via: SIP/2.0/UDP a;rport;branch=z9hG4bKa\r\n"


def lines_of(line):
    """A message with as many of these lines as fit."""
    return lambda size: HEAD + VIA + line * (size // len(line)) + REST + b"\r\n"


def with_value(before, filling, behind=b"", *, via=VIA):
    """A message with one line that is filled up."""
    return lambda size: (
        HEAD + via + before + filling * (size // len(filling)) + behind + b"\r\n" + REST + b"\r\n"
    )


def in_via(filling, behind=b""):
    return with_value(b"Via: SIP/2.0/UDP a", filling, behind, via=b"")


def start_line(before, filling, behind):
    return lambda size: (
        before + filling * (size // len(filling)) + behind + b"\r\n" + VIA + REST + b"\r\n"
    )


HOSTILE = {
    # B1: whatever a careless pattern would try again and again
    "B1 spaces in the start line": start_line(b"OPTIONS", b" ", b"SIP/2.0 x"),
    "B1 spaces before the version": start_line(b"OPTIONS sip:x", b" ", b"SIP/2.0"),
    "B1 tabs in the start line": start_line(b"OPTIONS", b"\t", b"sip:x SIP/2.0"),
    "B1 digits in the version": start_line(b"OPTIONS sip:x SIP/2.", b"0", b"x"),
    "B1 a start line of one word": start_line(b"O", b"O", b""),
    "B1 spaces in Via": in_via(b" ", b"x"),
    "B1 folds in Via": in_via(b"\r\n ", b"x"),
    "B1 parameters in Via": in_via(b";a", b"="),
    "B1 parameters with values in Via": in_via(b" ; a = b", b"\x7f"),
    "B1 semicolons in Via": in_via(b";"),
    "B1 backslashes in an open quote in Via": in_via(b';x="\\', b"\\"),
    "B1 one open quote in Via": in_via(b"\\x", b""),
    "B1 an open bracket in Via": with_value(b"Via: SIP/2.0/UDP [", b":", via=b""),
    "B1 digits of a port": in_via(b"1"),
    "B1 blanks in CSeq": with_value(b"CSeq: 1", b" \t", b"!"),
    "B1 zeros in CSeq": with_value(b"CSeq: ", b"0", b" x y"),
    "B1 nines in CSeq": with_value(b"CSeq: ", b"9", b" OPTIONS"),
    "B1 nines in Content-Length": with_value(b"Content-Length: ", b"9"),
    "B1 blanks before a colon": with_value(b"Content-Length", b" ", b": 0"),
    "B1 quotes in From": with_value(b"From: ", b'"'),
    "B1 an open quote in From": with_value(b'From: "', b"\\x"),
    "B1 angle brackets in From": with_value(b"From: ", b"<"),
    "B1 parameters in From": with_value(b"From: <sip:a>", b";x=1"),
    "B1 parameters in From with blanks": with_value(b"From: <sip:a>", b" ; x = 1", b" ;"),
    "B1 folds in From": with_value(b"From: a", b"\r\n\t"),
    "B1 blanks in Call-ID": with_value(b"Call-ID:", b" ", b"x y"),
    "B1 usual lines and a mistake at the end": lambda size: lines_of(b"X: y\r\n")(size).replace(
        b"Content-Length: 0\r\n", b"Content-Length : 0\r\nbad line\r\n"
    ),
    "B1 lines that begin like usual ones": lines_of(b"Con: x\r\nVi: x\r\nl-: x\r\n"),
    # B2: everything here is dripped too; these never end, or end in a long body
    "B2 a header without an end": lambda size: HEAD + b"X: " + b"y" * size,
    "B2 a body": lambda size: request(body=b"b" * size),
    "B2 a body of line ends": lambda size: request(body=b"\r\n\r\n" * (size // 4)),
    "B2 CRs that begin an empty line": lambda size: HEAD + b"X: y\r\n" * (size // 6) + b"\r",
    # B3: bombs of tiny lines
    "B3 empty header lines": lines_of(b"a:\r\n"),
    "B3 folded lines": lines_of(b" x\r\n"),
    "B3 lines without a colon": lines_of(b"a\r\n"),
    "B3 Via lines": lines_of(b"v:SIP/2.0/UDP b\r\n"),
    "B3 Content-Length lines": lines_of(b"l:0\r\n"),
    "B3 From lines": lines_of(b"f:a;b\r\n"),
    "B3 commas in Via": in_via(b",a"),
    # B4: much in one read
    "B4 small messages": lambda size: (HEAD + b"l:0\r\n\r\n") * (size // 32),
    "B4 good messages": lambda size: request() * (size // 256),
    "B4 keep-alives": lambda size: b"\r\n" * (size // 2),
}


@pytest.fixture
def work(monkeypatch):
    return Work(monkeypatch)


def use(message):
    """Ask everything of a message that is read when it is asked for."""
    stamped = stamp(message, SOURCE)
    assert stamped.transaction_key is not None
    assert message.client_key is not None
    assert message.to_tag is not None
    for name in ("Via", "From", "Call-ID", "CSeq", "x"):
        stamped.headers(name)


def drain(framer):
    while (event := framer.next_event()) is not None:
        message = event if isinstance(event, Message) else None
        if isinstance(event, (Malformed, Broken)):
            message = event.message
        if message is not None:
            use(message)


def whole(work, data):
    framer = StreamFramer(HUGE)
    framer.receive(data)
    drain(framer)


def dripped(work, data):
    framer = StreamFramer(HUGE)
    for at in range(len(data)):
        framer.receive(data[at : at + 1])
        drain(framer)


def datagram(work, data):
    event = frame_datagram(data, HUGE)
    if isinstance(event, (Message, Malformed)):
        use(event if isinstance(event, Message) else event.message)


@pytest.mark.parametrize("way", [whole, dripped, datagram])
@pytest.mark.parametrize("name", HOSTILE)
def test_twice_the_bytes_are_at_most_twice_the_work(name, way, work):
    steps = []
    for size in SIZES:
        data = work.bytes(HOSTILE[name](size))
        with work:
            way(work, data)
        steps.append(work.steps)
        for once, twice in itertools.pairwise(steps):
            assert twice <= 2 * once + MORE, steps


def test_quadratic_work_is_seen_in_a_pattern(work):
    """The twin counts backtracking, as in the start line of another implementation, which took seconds over UDP."""
    bad = CountedPattern(re.compile(rb" +SIP/2\.0"), work)
    worse = CountedPattern(re.compile(rb"([^:]+) *:"), work)
    for pattern in (bad, worse):
        steps = []
        for size in (24, 48, 96):
            with work:
                pattern.search(b"OPTIONS" + b" " * size)
            steps.append(work.steps)
        assert steps[1] > 3 * steps[0]
        assert steps[2] > 3 * steps[1]


def test_quadratic_work_is_seen_in_python_and_in_bytes(work, monkeypatch):
    """A framer that looks for the empty line from the beginning each time would not pass."""
    find = work.bytearray.find
    monkeypatch.setattr(
        work.bytearray, "find", lambda self, what, start=0, end=2**40: find(self, what, 0, end)
    )
    steps = []
    for size in SIZES[:3]:
        data = work.bytes(HOSTILE["B2 a header without an end"](size))
        with work:
            dripped(work, data)
        steps.append(work.steps)
    assert steps[2] > 2 * steps[1] + MORE


# B5: what is done for one connection does not depend on how many there are.

CROWDS = [16, 32, 64, 128]


def crowd(count):
    """A pool with so many connections of as many sources, each with a request open."""
    pool = Pool(PoolConfig().replace(max_connections=count), now=0.0)
    local = Address("192.0.2.1", 5060)
    listener = pool.add_listener(Transport.TCP, local, now=0.0)
    flows = []
    for number in range(count):
        peer = Address(f"198.51.{number // 250}.{number % 250 + 1}", 5060)
        connection = pool.handle_accepted(listener, peer, local, now=0.0)
        pool.handle_data(connection, request(branch=f"z9hG4bK{number}"), now=0.0)
        flows.append((connection, peer))
    drain_pool(pool)
    received = []
    while (event := pool.next_event()) is not None:
        if isinstance(event, MessageReceived):
            received.append(event)
    assert len(received) == count
    return pool, listener, flows, received


def drain_pool(pool):
    while (effect := pool.next_effect()) is not None:
        if isinstance(effect, WriteData):
            pool.handle_written(effect.connection_id, len(effect.data), now=0.0)
    pool.next_deadline()


def replies(pool, listener, flows, received):
    pool.reply(
        received[len(received) // 2], response(received[len(received) // 2].message), now=1.0
    )
    drain_pool(pool)


def sends(pool, listener, flows, received):
    _, peer = flows[len(flows) // 2]
    pool.send(request(), f"tcp:{peer.host}:{peer.port}", now=1.0)
    drain_pool(pool)


def hears(pool, listener, flows, received):
    pool.handle_data(flows[0][0], request(branch="z9hG4bKnew"), now=1.0)
    drain_pool(pool)


def strikes_a_timer(pool, listener, flows, received):
    pool.handle_timer(now=1.0)
    drain_pool(pool)


def loses_one(pool, listener, flows, received):
    pool.handle_lost(flows[0][0], 0, now=1.0)
    drain_pool(pool)


@pytest.mark.parametrize("act", [replies, sends, hears, strikes_a_timer, loses_one])
def test_one_connection_costs_the_same_in_any_crowd(act, work):
    steps = []
    for count in CROWDS:
        scene = crowd(count)
        with work:
            act(*scene)
        steps.append(work.steps)
    assert max(steps) <= min(steps) + 64, steps
