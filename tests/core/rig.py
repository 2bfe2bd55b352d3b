"""A core pool with a make-believe adapter: commands are performed on lists, time is a number."""

from __future__ import annotations

from dataclasses import dataclass, field

from sippool.testing.messages import request, response
from sippool_core import (
    Address,
    CloseConnection,
    CloseListener,
    Endpoint,
    Message,
    MessageReceived,
    OpenConnection,
    PauseAccepting,
    PauseReading,
    Pool,
    PoolConfig,
    ResumeAccepting,
    ResumeReading,
    SendCancelled,
    SendCompleted,
    SendDatagram,
    SendFailed,
    ShutdownWriting,
    Transport,
    WriteData,
)

PEER = Address("192.0.2.9", 40001)
LOCAL = Address("192.0.2.1", 5060)
OURS = Address("192.0.2.1", 33333)


@dataclass
class Wire:
    """What the adapter's socket of one connection has seen."""

    peer: Address | None = None
    local: Address | None = None
    written: bytes = b""
    pending: bytes = b""
    paused: bool = False
    shut: bool = False
    closed: bool = False
    aborted: bool = False


@dataclass
class Rig:
    config: PoolConfig | None = None
    now: float = 1000.0
    writes_complete: bool = True
    wires: dict[int, Wire] = field(default_factory=dict)
    opened: list[int] = field(default_factory=list)
    datagrams: list[tuple[int, bytes, Address]] = field(default_factory=list)
    datagram_error: int = 0
    hold_datagrams: bool = False
    outcomes: dict[int, object] = field(default_factory=dict)
    events: list[object] = field(default_factory=list)
    accepting: dict[int, bool] = field(default_factory=dict)
    closed_listeners: list[int] = field(default_factory=list)
    take_events: bool = True
    performed: int = 0

    def __post_init__(self):
        self.pool = Pool(self.config, now=self.now)

    def listen(self, text="tcp:192.0.2.1:5060", **kwargs):
        endpoint = Endpoint.parse(text)
        listener = self.pool.add_listener(
            endpoint.transport, endpoint.address, now=self.now, **kwargs
        )
        self.accepting[listener] = True
        return listener

    def accept(self, listener, peer=PEER):
        connection = self.pool.handle_accepted(listener, peer, LOCAL, now=self.now)
        if connection is not None:
            self.wires[connection] = Wire(peer, LOCAL)
        self.drain()
        return connection

    def serve(self, *messages, peer=PEER):
        """A listener, an accepted connection, and what it received."""
        connection = self.accept(self.listen(), peer)
        for message in messages:
            self.data(connection, message)
        return connection, self.take(MessageReceived)

    def connected(self, connection):
        self.pool.handle_connected(connection, OURS, now=self.now)
        self.drain()

    def data(self, connection, data):
        self.pool.handle_data(connection, data, now=self.now)
        self.drain()

    def eof(self, connection):
        self.pool.handle_eof(connection, now=self.now)
        self.drain()

    def lost(self, connection, code=104):
        self.pool.handle_lost(connection, code, now=self.now)
        self.drain()

    def datagram(self, listener, data, source=PEER, **kwargs):
        self.pool.handle_datagram(listener, data, source, now=self.now, **kwargs)
        self.drain()

    def send(self, message, target=None, **kwargs):
        send_id = self.pool.send(message, target, now=self.now, **kwargs)
        self.drain()
        return send_id

    def reply(self, received, answer):
        send_id = self.pool.reply(received, answer, now=self.now)
        self.drain()
        return send_id

    def cancel(self, send_id):
        self.pool.cancel_send(send_id, now=self.now)
        self.drain()

    def close(self):
        self.pool.close(now=self.now)
        self.drain()

    def accept_write(self, connection, count=None):
        """The kernel takes some (or all) of the outstanding write."""
        wire = self.wires[connection]
        taken = wire.pending[:count]
        wire.pending = wire.pending[len(taken) :]
        wire.written += taken
        self.pool.handle_written(connection, len(taken), now=self.now)
        self.drain()

    def advance(self, seconds):
        """Time passes, deadline by deadline, as an adapter would live it."""
        end = self.now + seconds
        while (deadline := self.pool.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            before = (self.performed, len(self.events))
            self.pool.handle_timer(now=self.now)
            self.drain()
            after = self.pool.next_deadline()
            progress = (self.performed, len(self.events)) != before
            assert progress or after is None or after > self.now, "no progress at the deadline"
        self.now = end
        self.pool.handle_timer(now=self.now)
        self.drain()

    def drain(self):
        while (effect := self.pool.next_effect()) is not None:
            self.perform(effect)
        if self.take_events:
            self.collect()

    def collect(self):
        while (event := self.pool.next_event()) is not None:
            self.events.append(event)

    def perform(self, effect):
        self.performed += 1
        match effect:
            case OpenConnection(connection, peer, local):
                self.wires[connection] = Wire(peer, local)
                self.opened.append(connection)
            case WriteData(connection, data):
                wire = self.wires[connection]
                assert not wire.closed and not wire.pending and not wire.shut and data
                if self.writes_complete:
                    wire.written += data
                    self.pool.handle_written(connection, len(data), now=self.now)
                else:
                    wire.pending = data
            case ShutdownWriting(connection):
                assert not self.wires[connection].closed
                self.wires[connection].shut = True
            case CloseConnection(connection, abort):
                assert not self.wires[connection].closed
                self.wires[connection].closed = True
                self.wires[connection].aborted = abort
            case PauseReading(connection):
                assert not self.wires[connection].paused
                self.wires[connection].paused = True
            case ResumeReading(connection):
                assert self.wires[connection].paused and not self.wires[connection].closed
                self.wires[connection].paused = False
            case PauseAccepting(listener):
                assert self.accepting[listener]
                self.accepting[listener] = False
            case ResumeAccepting(listener):
                assert not self.accepting[listener]
                self.accepting[listener] = True
            case CloseListener(listener):
                self.closed_listeners.append(listener)
                del self.accepting[listener]
            case SendDatagram(listener, send_id, data, peer):
                if self.hold_datagrams:
                    return
                if self.datagram_error:
                    self.pool.handle_datagram_failed(send_id, self.datagram_error, now=self.now)
                else:
                    self.datagrams.append((listener, data, peer))
                    self.pool.handle_datagram_sent(send_id, now=self.now)
            case SendCompleted(send_id) | SendFailed(send_id) | SendCancelled(send_id):
                assert send_id not in self.outcomes, "a second outcome"
                self.outcomes[send_id] = effect
            case _:
                raise AssertionError(effect)

    def take(self, kind):
        """The events of one class so far, which are then forgotten."""
        found = [event for event in self.events if isinstance(event, kind)]
        self.events = [event for event in self.events if not isinstance(event, kind)]
        return found


__all__ = ["LOCAL", "PEER", "Message", "Rig", "Transport", "Wire", "request", "response"]
