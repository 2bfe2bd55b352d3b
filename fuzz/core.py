"""The whole core through bytes: connections and datagrams that say anything, in any pieces, at any time.

Invariants: nothing raises; each accepted send ends exactly once; what the pool holds stays within its limits, and
is nothing when all is closed; and the events of one connection do not depend on how its bytes were cut.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from fuzz import target
from fuzz.bench import CONFIG, CROWDED, LOCAL, RESTRICTED, Bench
from fuzz.framing import Read, read_of
from sippool.testing.messages import request
from sippool.testing.strategies import hostile, splits, streams
from sippool_core import Address, Event, PingReceived

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fuzz.mutation import Mutator

PEERS = [Address("192.0.2.9", 40000), Address("192.0.2.9", 5060), Address("192.0.2.10", 40002)]
# From where no honest datagram comes: port 0, ourselves, multicast.
IMPOSSIBLE = [Address("192.0.2.9", 0), LOCAL, Address("224.0.0.1", 5060)]
CONFIGS = (CONFIG, CROWDED, RESTRICTED)
KINDS = (
    "says",
    "says",
    "says",
    "datagram",
    "datagram",
    "truncated",
    "impossible",
    "ends",
    "breaks",
    "knocks",
    "listens",
    "waits",
    "closes",
)
SECONDS = (0.0, 0.1, 1.0, 20.0, 200.0)
_HEAD = struct.Struct(">BBBH")  # kind, peer, seconds, bytes that follow


@dataclass(frozen=True)
class Operation:
    """What happens, to which peer, with what bytes, for how long."""

    kind: str
    at: int
    data: bytes
    seconds: float


@dataclass(frozen=True)
class Play:
    """What happens to a pool, one after another."""

    config: int
    operations: Sequence[Operation]


def plays() -> st.SearchStrategy[Play]:
    """Anything, in any order; mostly bytes, mostly nearly good ones."""
    said = st.one_of(hostile(), streams().map(lambda drawn: drawn[0]), st.binary(max_size=40))
    operations = st.builds(
        Operation, st.sampled_from(KINDS), st.integers(0, 2), said, st.sampled_from(SECONDS)
    )
    return st.builds(Play, st.integers(0, 2), st.lists(operations, max_size=25))


def play_of(data: bytes) -> Play:
    """The byte door: a byte for the limits, then operations, each with the length of its bytes."""
    operations = []
    at = 1
    while at + _HEAD.size <= len(data):
        kind, peer, seconds, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        said = data[at : at + length]
        at += length
        name = KINDS[kind % len(KINDS)]
        operations.append(Operation(name, peer % 3, said, SECONDS[seconds % len(SECONDS)]))
    return Play(data[0] % len(CONFIGS) if data else 0, operations)


def some_play(mutator: Mutator) -> bytes:
    """A few operations, or many of one kind; in one of ten everybody has a request open before that."""
    rng = mutator.rng
    pieces = [bytes((rng.randrange(len(CONFIGS)),))]
    if rng.random() < 0.1:
        says, knocks = KINDS.index("says"), KINDS.index("knocks")
        said = request("INVITE")
        pieces += [_HEAD.pack(says, peer, 0, len(said)) + said for peer in range(3)]
        pieces += [_HEAD.pack(knocks, peer, 0, 0) for peer in range(rng.randrange(4))]
    for _ in range(rng.randrange(1, 8)):
        kind, peer = rng.randrange(len(KINDS)), rng.randrange(3)
        if KINDS[kind] == "closes" and rng.random() < 0.8:
            kind = 0
        for _ in range(rng.choice((1, 1, 1, 1, 10))):
            name = KINDS[kind]
            said = mutator.stream() if name in ("says", "datagram", "impossible") else b""
            if name == "says" and rng.random() < 0.3:
                said = said[: rng.randrange(len(said) + 1)]
            pieces += (_HEAD.pack(kind, peer, rng.randrange(len(SECONDS)), len(said)), said)
    return b"".join(pieces)


@target(plays(), door=play_of, generate=some_play)
def core(play: Play) -> Iterable[object]:
    """Whatever comes in whatever order: nothing raises, each send ends once, memory stays within its limits."""
    bench = Bench(CONFIGS[play.config])
    connections: list[int | None] = [bench.accept(peer) for peer in PEERS]
    for operation in play.operations:
        _perform(bench, connections, operation)
    bench.finish()
    stats = bench.pool.stats
    assert stats.connections_accepted == stats.connections_closed.total()
    return (
        *stats.malformed.elements(),
        *stats.framing_failed.elements(),
        *stats.dropped.elements(),
        *stats.connections_closed.elements(),
    )


def _perform(bench: Bench, connections: list[int | None], operation: Operation) -> None:
    at, data, pool = operation.at, operation.data, bench.pool
    connection = connections[at] or 0
    match operation.kind:
        case "says":
            pool.handle_data(connection, data, now=bench.now)
        case "datagram" | "truncated":
            truncated = operation.kind == "truncated"
            pool.handle_datagram(bench.udp, data, PEERS[at], now=bench.now, truncated=truncated)
        case "impossible":
            pool.handle_datagram(bench.udp, data, IMPOSSIBLE[at], now=bench.now)
        case "ends":
            pool.handle_eof(connection, now=bench.now)
        case "breaks":
            pool.handle_lost(connection, at, now=bench.now)
            connections[at] = bench.accept(PEERS[at])
        case "knocks":  # two of them from a crowd, one from the host that has some already
            crowd = Address(f"198.51.100.{len(bench.ended) % 250 + at}", 1000 + at)
            bench.accept(PEERS[0] if at == 0 else crowd)
        case "listens":
            bench.listen()
        case "closes":
            pool.close(now=bench.now)
        case _:
            bench.pass_time(operation.seconds)
    bench.drain()
    bench.look()


def some_pieces(mutator: Mutator) -> bytes:
    """A stream for `read_of`, in pieces that are not too many."""
    return bytes((mutator.rng.randrange(8, 128) << 1,)) + mutator.stream()


@st.composite
def pieces_of_streams(draw: st.DrawFn) -> Read:
    """What one peer says, as reads of any size."""
    said = draw(hostile() | streams().map(lambda drawn: drawn[0]))
    return Read(draw(splits(said)), CONFIG.limits)


@target(pieces_of_streams(), door=read_of, generate=some_pieces)
def core_cuts(read: Read) -> Iterable[object]:
    """The events of one connection do not depend on how its bytes were cut."""
    events = _events_of(read.chunks)
    assert events == _events_of([b"".join(read.chunks)])
    return [what for what, _ in events]


def _events_of(pieces: Iterable[bytes]) -> list[tuple[object, bytes | None]]:
    bench = Bench()
    connection = bench.accept(PEERS[0])
    assert connection is not None
    for piece in pieces:
        bench.pool.handle_data(connection, piece, now=bench.now)
        bench.drain()
        bench.listen()
    bench.finish()
    # A ping is dispensable: it is told while there is room.
    return [_what(event) for event in bench.events if not isinstance(event, PingReceived)]


def _what(event: Event) -> tuple[object, bytes | None]:
    """The defect or the name of an event, and its message."""
    message = getattr(event, "message", None)
    what = getattr(event, "defect", None) or getattr(event, "reason", None) or type(event).__name__
    return what, None if message is None else message.raw
