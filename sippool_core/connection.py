"""One connection: its phase, its framer, its TLS engine, and the bytes on their way out.

1. At most one write is outstanding; what is queued behind it goes out as one write when it completes.
2. Over TLS every byte passes the engine, in both directions: there is no other path from here to the wire.
3. A message counts as sent when the kernel has taken its last byte (over TLS, of its ciphertext).
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from .events import Flow
from .framing import StreamFramer
from .reasons import CloseReason
from .sends import PendingSend

if TYPE_CHECKING:
    from .address import Address, Transport
    from .routing import ReuseKey
    from .state import PoolState
    from .tls import TlsEngine


class Phase(enum.Enum):
    """Where a connection is in its life; it goes down this list only."""

    CONNECTING = "connecting"
    WAITING = "waiting"
    """Accepted, and unread until there is a place for its handshake."""
    HANDSHAKING = "handshaking"
    OPEN = "open"
    CLOSING = "closing"
    """Sends what is left, delivers nothing more."""
    CLOSED = "closed"


class InFlight(NamedTuple):
    """A message in the outstanding write: from where to where its bytes are."""

    send: PendingSend
    start: int
    end: int


PONG = b"\r\n"


class Connection:
    """The record of one connection, and its write side."""

    __slots__ = (
        "_control",
        "_in_flight",
        "_queue",
        "_state",
        "_waiting_bytes",
        "_write_done",
        "_write_total",
        "close_detail",
        "close_reason",
        "close_when_answered",
        "eof",
        "flow",
        "framer",
        "frozen_timers",
        "goodbye_said",
        "half_closed_for",
        "held_partial_bytes",
        "id",
        "keepalive_window_at",
        "lingers",
        "listener_id",
        "malformed_count",
        "malformed_window_at",
        "message_since",
        "outbound",
        "paused",
        "peer",
        "phase",
        "pong_pending",
        "reuse_key",
        "spoke",
        "tls",
        "transport",
    )

    def __init__(
        self,
        state: PoolState,
        reuse_key: ReuseKey,
        phase: Phase,
        local: Address,
        *,
        outbound: bool,
    ) -> None:
        self._state = state
        self.id = state.new_id()
        self.transport: Transport = reuse_key.transport
        self.listener_id = reuse_key.listener_id
        self.peer = reuse_key.peer
        self.reuse_key = reuse_key
        self.outbound = outbound
        self.phase = phase
        self.flow = Flow(self.id, self.transport, self.peer, local, self.listener_id, outbound)
        self.framer = StreamFramer(state.limits)
        self.tls: TlsEngine | None = None
        # Reading.
        self.eof = False
        self.spoke = False  # whether a whole message has come
        self.paused = False
        self.frozen_timers: list[
            tuple[int, float]
        ] = []  # seconds left of read deadlines, while paused
        self.message_since: float | None = None
        self.held_partial_bytes = 0
        self.malformed_count = 0
        self.malformed_window_at = state.now
        self.keepalive_window_at = state.now
        # Closing.
        self.half_closed_for: CloseReason | None = None  # with which reason it will end
        self.close_reason = CloseReason.CLOSED_LOCALLY
        self.close_detail = ""
        self.close_when_answered = False
        self.lingers = False
        self.goodbye_said = False  # close_notify
        # Writing.
        self.pong_pending = False
        self._control = bytearray()
        self._queue: deque[PendingSend] = deque()
        self._waiting_bytes = 0
        self._in_flight: deque[InFlight] = deque()
        self._write_total = 0
        self._write_done = 0

    @property
    def is_writing(self) -> bool:
        """Whether a write is outstanding."""
        return self._write_total > 0

    @property
    def is_at_rest(self) -> bool:
        """Whether it is open, and there is nothing to write and nothing to end: nearly always, after a read."""
        return (
            self.phase is Phase.OPEN
            and not self._queue
            and not self._write_total
            and self.tls is None
            and self.half_closed_for is None
        )

    @property
    def has_unsent(self) -> bool:
        """Whether anything is queued or on its way."""
        return bool(self._write_total or self._queue or self._control)

    @property
    def queued_bytes(self) -> int:
        """Bytes that this connection makes us hold for its peer."""
        return self._waiting_bytes + len(self._control) + self._write_total - self._write_done

    @property
    def control_bytes(self) -> int:
        """Bytes of TLS itself (handshake, alerts, key updates) that wait to go out."""
        return len(self._control)

    @property
    def queued_messages(self) -> int:
        """Messages that are not sent yet."""
        return len(self._queue) + len(self._in_flight)

    def enqueue(self, send: PendingSend) -> None:
        """Put a message behind all others."""
        send.connection_id = self.id
        self._queue.append(send)
        self._waiting_bytes += len(send.data)
        self._state.stats.queued_bytes += len(send.data)

    def enqueue_pong(self) -> None:
        """Answer a ping; only one pong is ever pending, however many pings came."""
        if not self.pong_pending:
            self.pong_pending = True
            self.enqueue(PendingSend(0, PONG, None, None))

    def withdraw(self, send: PendingSend) -> bool:
        """Take back a message of which nothing has been given to the kernel."""
        if send not in self._queue:
            return False
        self._queue.remove(send)
        self._waiting_bytes -= len(send.data)
        self._state.stats.queued_bytes -= len(send.data)
        return True

    def take_tls_output(self) -> None:
        """Collect what the TLS engine wants to say (handshake, alerts)."""
        assert self.tls is not None
        output = self.tls.take_output()
        self._control += output
        self._state.stats.queued_bytes += len(output)

    def next_write(self) -> bytes:
        """Everything that may go out now, as one write; empty if nothing may."""
        if self._write_total:
            return b""
        if self.tls is None and len(self._queue) == 1:
            # One answer at a time is the usual case, and needs no joining.
            send = self._queue.popleft()
            self._waiting_bytes = 0
            self._write_total = len(send.data)
            self._in_flight.append(InFlight(send, 0, self._write_total))
            return send.data
        parts = [bytes(self._control)]
        end = len(self._control)
        self._control.clear()
        if self.phase is not Phase.HANDSHAKING and (self.tls is None or self.tls.is_open):
            while self._queue:
                send = self._queue[0]
                data = self._encode(send.data)
                if self.tls is not None and self.tls.failure is not None:
                    break  # it stays in the queue, and fails with it
                self._queue.popleft()
                parts.append(data)
                self._in_flight.append(InFlight(send, end, end + len(data)))
                end += len(data)
                self._waiting_bytes -= len(send.data)
                self._state.stats.queued_bytes += len(data) - len(send.data)
        self._write_total = end
        return b"".join(parts)

    def written(self, count: int) -> list[PendingSend]:
        """The kernel took `count` bytes more; returns the messages that are sent with them."""
        assert 0 < count <= self._write_total - self._write_done, "more bytes reported than given"
        self._write_done += count
        self._state.stats.queued_bytes -= count
        sent = []
        while self._in_flight and self._in_flight[0].end <= self._write_done:
            sent.append(self._in_flight.popleft().send)
        if self._write_done == self._write_total:
            self._write_total = self._write_done = 0
        return sent

    def abandon(self) -> list[tuple[PendingSend, bool]]:
        """Give up everything unsent; with each message, whether bytes of it may be out."""
        self._state.stats.queued_bytes -= self.queued_bytes
        unsent = [(send, start < self._write_done) for send, start, _ in self._in_flight]
        unsent += [(send, False) for send in self._queue]
        self._in_flight.clear()
        self._queue.clear()
        self._control.clear()
        self._waiting_bytes = self._write_total = self._write_done = 0
        return unsent

    def abandon_queue(self) -> list[PendingSend]:
        """Give up what is queued behind the outstanding write."""
        unsent = list(self._queue)
        for send in unsent:
            self.withdraw(send)
        return unsent

    def _encode(self, data: bytes) -> bytes:
        if self.tls is None:
            return data
        self.tls.write(data)
        return self.tls.take_output()
