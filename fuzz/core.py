"""The whole core through bytes: connections and datagrams that say anything, in any pieces, at any time.

Invariants: nothing raises; each accepted send ends exactly once; what the pool holds stays within its limits, and
is nothing when all is closed; and the events of one connection do not depend on how its bytes were cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from hypothesis import strategies as st

from sippool.testing.strategies import hostile, splits, streams
from sippool_core import (
    Address,
    CloseConnection,
    Event,
    FramingFailed,
    InvalidMessage,
    MalformedReceived,
    MessageReceived,
    PingReceived,
    Pool,
    PoolClosed,
    PoolConfig,
    QueueFull,
    SendCancelled,
    SendCompleted,
    SendDatagram,
    SendFailed,
    Transport,
    WriteData,
)

from . import target

if TYPE_CHECKING:
    from collections.abc import Iterable

LOCAL = Address("192.0.2.1", 5060)
PEERS = [Address("192.0.2.9", 40000 + number) for number in range(3)]
CONFIG = PoolConfig().replace(
    max_header_bytes=2000,
    max_body_bytes=2000,
    max_events=50,
    max_event_bytes=20_000,
    max_partial_bytes=6000,
    max_queued_messages=8,
    max_malformed=2,
)

Operation: TypeAlias = "tuple[str, int, bytes, float]"
"""What happens (`says`, `ends`, `breaks`, `datagram`, `listens`, `waits`), to which peer, with what, for how long."""


def operations() -> st.SearchStrategy[list[Operation]]:
    """Anything, in any order; mostly bytes, mostly nearly good ones."""
    said = st.one_of(hostile(), streams().map(lambda drawn: drawn[0]), st.binary(max_size=40))
    kinds = st.sampled_from(
        ["says", "says", "says", "datagram", "ends", "breaks", "listens", "waits"]
    )
    seconds = st.sampled_from([0.0, 0.1, 1.0, 20.0, 200.0])
    return st.lists(st.tuples(kinds, st.integers(0, 2), said, seconds), max_size=25)


def pieces_of_streams() -> st.SearchStrategy[list[bytes]]:
    """What one peer says, as reads of any size."""
    said = hostile() | streams().map(lambda drawn: drawn[0])
    return said.flatmap(splits)


@dataclass
class Bench:
    """One pool that answers whatever can be answered."""

    pool: Pool = field(default_factory=lambda: Pool(CONFIG, now=0.0))
    now: float = 0.0
    events: list[Event] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)
    sent: set[int] = field(default_factory=set)
    closed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.tcp = self.pool.add_listener(Transport.TCP, LOCAL, now=self.now)
        self.udp = self.pool.add_listener(Transport.UDP, LOCAL, now=self.now)

    def accept(self, peer: Address) -> int | None:
        """A connection from there."""
        connection = self.pool.handle_accepted(self.tcp, peer, LOCAL, now=self.now)
        self.drain()
        return connection

    def drain(self) -> None:
        """Perform every command; look that no law is broken."""
        while (effect := self.pool.next_effect()) is not None:
            if isinstance(effect, WriteData):
                assert effect.connection_id not in self.closed
                self.pool.handle_written(effect.connection_id, len(effect.data), now=self.now)
            elif isinstance(effect, SendDatagram):
                self.pool.handle_datagram_sent(effect.send_id, now=self.now)
            elif isinstance(effect, CloseConnection):
                assert effect.connection_id not in self.closed
                self.closed.add(effect.connection_id)
            elif isinstance(effect, (SendCompleted, SendFailed, SendCancelled)):
                assert effect.send_id not in self.ended
                self.ended.add(effect.send_id)
        stats = self.pool.stats
        assert 0 <= stats.partial_bytes <= CONFIG.limits.max_partial_bytes
        assert stats.queued_bytes >= 0

    def listen(self) -> None:
        """The application takes every event, and answers."""
        while (event := self.pool.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, (MessageReceived, MalformedReceived, FramingFailed)):
                self._answer(event)
        self.pass_time(0.0)

    def pass_time(self, seconds: float) -> None:
        """Deadlines strike one after another."""
        end = self.now + seconds
        while (deadline := self.pool.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.pool.handle_timer(now=self.now)
            self.drain()
            if self.pool.next_deadline() == deadline:
                break  # it waits for the application
        self.now = end
        self.pool.handle_timer(now=end)
        self.drain()

    def finish(self) -> None:
        """Close: everything ends, nothing is left."""
        self.pool.close(now=self.now)
        self.drain()
        for _ in range(100):
            self.pass_time(1.0)
            self.listen()
        stats = self.pool.stats
        assert self.pool.is_closed and self.pool.next_deadline() is None
        assert (stats.connections, stats.queued_bytes, stats.partial_bytes) == (0, 0, 0)
        assert self.sent == self.ended

    def _answer(self, event: MessageReceived | MalformedReceived | FramingFailed) -> None:
        message = event.message
        if message is None or not message.can_be_answered:
            return
        copied = b"".join(
            b"%s: %s\r\n" % (name.encode(), value)
            for name in ("Via", "From", "To", "Call-ID", "CSeq")
            for value in message.headers(name)
        )
        answer = b"SIP/2.0 200 OK\r\n" + copied + b"Content-Length: 0\r\n\r\n"
        try:
            self.sent.add(self.pool.reply(event, answer, now=self.now))
        except (InvalidMessage, PoolClosed, QueueFull):
            return
        self.drain()


@target(operations())
def core(drawn: list[Operation]) -> list[object]:
    """Whatever comes in whatever order: nothing raises, each send ends once, memory stays within its limits."""
    bench = Bench()
    connections: list[int | None] = [bench.accept(peer) for peer in PEERS]
    for kind, at, data, seconds in drawn:
        connection = connections[at] or 0
        if kind == "says":
            bench.pool.handle_data(connection, data, now=bench.now)
        elif kind == "datagram":
            bench.pool.handle_datagram(bench.udp, data, PEERS[at], now=bench.now)
        elif kind == "ends":
            bench.pool.handle_eof(connection, now=bench.now)
        elif kind == "breaks":
            bench.pool.handle_lost(connection, at, now=bench.now)
            connections[at] = bench.accept(PEERS[at])
        elif kind == "listens":
            bench.listen()
        else:
            bench.pass_time(seconds)
        bench.drain()
    bench.finish()
    return [_what(event)[0] for event in bench.events]


@target(pieces_of_streams())
def core_cuts(pieces: list[bytes]) -> list[object]:
    """The events of one connection do not depend on how its bytes were cut."""
    events = _events_of(pieces)
    assert events == _events_of([b"".join(pieces)])
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
