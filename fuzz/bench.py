"""One pool on a bench: every command is performed at once, whatever can be answered is, and the laws are looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

from sippool_core import (
    Address,
    CloseConnection,
    Event,
    FramingFailed,
    InvalidMessage,
    MalformedReceived,
    MessageReceived,
    Pool,
    PoolClosed,
    PoolConfig,
    QueueFull,
    Restriction,
    SendCancelled,
    SendCompleted,
    SendDatagram,
    SendFailed,
    Transport,
    WriteData,
)

LOCAL = Address("192.0.2.1", 5060)
CONFIG = PoolConfig().replace(
    max_header_bytes=2000,
    max_body_bytes=2000,
    max_events=50,
    max_event_bytes=20_000,
    max_partial_bytes=6000,
    max_queued_messages=8,
    max_malformed=2,
)
CROWDED = CONFIG.replace(
    max_events=6,
    max_connections=3,
    max_connections_per_source=2,
    max_keepalive_bytes=64,
    max_header_lines=30,
)
"""Limits that are reached at once."""
RESTRICTED = PoolConfig(CROWDED.limits, CROWDED.timeouts, Restriction.parse("192.0.2.9"))


@dataclass
class Bench:
    """One pool that answers whatever can be answered."""

    config: PoolConfig = CONFIG
    now: float = 0.0
    events: list[Event] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)
    sent: set[int] = field(default_factory=set)
    closed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.pool = Pool(self.config, now=self.now)
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

    def look(self) -> None:
        """What is held stays within its limits."""
        stats, limits = self.pool.stats, self.config.limits
        assert 0 <= stats.partial_bytes <= limits.max_partial_bytes
        assert 0 <= stats.queued_bytes <= limits.max_queued_bytes_total
        assert stats.connections <= limits.max_connections

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
            if self.pool.is_closed and self.pool.next_deadline() is None:
                break
        self.look()
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
            send_id = self.pool.reply(event, answer, now=self.now)
        except (InvalidMessage, PoolClosed, QueueFull):
            return
        self.sent.add(send_id)
        self.drain()
        assert send_id in self.ended, "every command was performed, and the outcome did not come"
