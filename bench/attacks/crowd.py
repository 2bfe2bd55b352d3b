"""The good clients: each sends ten requests a second, every tenth on a new connection, and checks each answer.

1. They keep their pace whatever happens: an answer's time counts from when its request was due.
2. An answer must come on the connection of its request, with its ids, and once; over UDP requests are sent again
   after 0.5, 1 and 2 s (RFC 3261 section 17.1.2.2), so there an answer may come more than once.
3. A request without an answer after `PATIENCE_SECONDS`, or whose connection ended, is lost.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sippool_core import Limits, Message, StreamFramer, frame_datagram

from .certificates import SERVER_NAME
from .sip import GOOD_CLIENTS, REQUESTS_A_SECOND, good_mark, good_request

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_SECONDS = 4.0
_REQUESTS_A_CONNECTION = 10
_LIMITS = Limits()


@dataclass
class Tally:
    """What became of the counted requests."""

    due: int = 0
    answered: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    lost_by: dict[str, int] = field(default_factory=dict)

    def quantile(self, share: float) -> float:
        """Seconds within which that share of the answers came."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Line:
    """One connection of a good client, or one UDP socket."""

    def __init__(self, crowd: Crowd, client: int, transport: str) -> None:
        self._crowd = crowd
        self._client = client
        self.transport = transport
        self.awaited: dict[int, tuple[float, bool]] = {}
        """When each unanswered request was due, and whether it counts."""
        self._done: set[int] = set()
        self._late: set[int] = set()
        self._unsent = b""
        self._framer = StreamFramer(_LIMITS)
        self._is_open = transport == "udp"
        self._is_handshaking = False
        self.is_retired = False
        self.is_dead = False
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        self.sock: socket.socket | ssl.SSLSocket = socket.socket(socket.AF_INET, kind)
        self.sock.settimeout(0.0)
        self.sock.bind((f"127.0.100.{client + 1}", 0))
        with contextlib.suppress(BlockingIOError):
            self.sock.connect(crowd.targets[transport])
        self._mask = 0
        self._watch(selectors.EVENT_READ if self._is_open else selectors.EVENT_WRITE)

    def ask(self, number: int, due: float, *, counted: bool) -> None:
        """Send a request, or queue it until the connection is open."""
        self.awaited[number] = (due, counted)
        data = good_request(self._client, number, self.transport)
        if self.transport == "udp":
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                self.sock.send(data)
        else:
            self._unsent += data
            self._flush()

    def ask_again(self, number: int) -> bool:
        """Over UDP: once more, if there is no answer yet."""
        if number not in self.awaited or self.is_dead:
            return False
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            self.sock.send(good_request(self._client, number, self.transport))
        return True

    def ready(self, events: int) -> None:
        """Something happened on the socket."""
        try:
            if not self._is_open:
                self._go_on_opening()
            if self._is_open and events & selectors.EVENT_READ:
                with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
                    self._read()
            self._flush()
        except ssl.SSLWantReadError:
            self._watch(selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._watch(selectors.EVENT_READ | selectors.EVENT_WRITE)
        except ConnectionRefusedError:
            # Over UDP this is news about an earlier datagram.
            if self.transport != "udp":
                self.fail("refused")
        except OSError as error:
            self.fail(type(error).__name__)

    def fail(self, why: str) -> None:
        """It is of no use any more."""
        for number in list(self.awaited):
            self.lose(number, why)
        self.close()

    def lose(self, number: int, why: str) -> None:
        """A request will not be answered."""
        _, counted = self.awaited.pop(number)
        self._late.add(number)
        if counted:
            tally = self._crowd.tally
            tally.lost += 1
            why = f"{self.transport} {why}"
            tally.lost_by[why] = tally.lost_by.get(why, 0) + 1

    def close(self) -> None:
        """Close the socket."""
        if not self.is_dead:
            self.is_dead = True
            self._watch(0)
            self.sock.close()

    def _go_on_opening(self) -> None:
        if not self._is_handshaking:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, "connect")
            self._is_handshaking = True
            if self.transport == "tls":
                self._watch(0)
                self.sock = self._crowd.context.wrap_socket(
                    self.sock, server_hostname=SERVER_NAME, do_handshake_on_connect=False
                )
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.do_handshake()
        self._is_open = True
        self._watch(selectors.EVENT_READ)

    def _read(self) -> None:
        data = self.sock.recv(65536)
        if self.transport == "udp":
            answer = frame_datagram(data, _LIMITS)
            self._take(answer if isinstance(answer, Message) else None)
            return
        if not data:
            self.fail("closed")
            return
        self._framer.receive(data)
        while (event := self._framer.next_event()) is not None:
            self._take(event if isinstance(event, Message) else None)

    def _take(self, answer: Message | None) -> None:
        """An answer; anything else is wrong."""
        tally = self._crowd.tally
        if answer is None or answer.is_request:
            tally.wrong.append(f"{self.transport}: no answer at all")
            return
        number = answer.cseq_number
        mark = good_mark(self._client, number).encode()
        branch = b"" if answer.via is None else answer.via.branch
        ids = (answer.call_id, answer.from_tag, branch)
        if ids != (mark, mark, b"z9hG4bK" + mark):
            tally.wrong.append(f"{self.transport}: somebody else's answer {answer.call_id!r}")
        elif number in self._late or (number in self._done and self.transport == "udp"):
            # Too late, but once and right. Over UDP a request that was sent again may be answered again.
            self._late.discard(number)
            self._done.add(number)
        elif number not in self.awaited:
            tally.wrong.append(f"{self.transport}: an answer that is not awaited")
        elif not self._crowd.any_status and answer.status != 200:
            tally.wrong.append(f"{self.transport}: status {answer.status}")
        elif answer.status >= 200:
            due, counted = self.awaited.pop(number)
            self._done.add(number)
            if counted:
                tally.answered += 1
                tally.seconds.append(time.monotonic() - due)

    def _flush(self) -> None:
        if self._is_open and self._unsent and not self.is_dead:
            try:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            except OSError as error:
                self.fail(type(error).__name__)
                return
            writing = selectors.EVENT_WRITE if self._unsent else 0
            self._watch(selectors.EVENT_READ | writing)

    def _watch(self, mask: int) -> None:
        selector = self._crowd.selector
        if mask == self._mask:
            return
        if not self._mask:
            selector.register(self.sock, mask, self)
        elif mask:
            selector.modify(self.sock, mask, self)
        else:
            selector.unregister(self.sock)
        self._mask = mask


class Crowd:
    """All good clients, in one thread."""

    def __init__(
        self, targets: dict[str, tuple[str, int]], context: ssl.SSLContext, *, any_status: bool
    ) -> None:
        self.targets = targets
        self.context = context
        self.any_status = any_status
        self.selector = selectors.DefaultSelector()
        self.tally = Tally()
        transports = itertools.cycle(targets)
        self._transports = [next(transports) for _ in range(GOOD_CLIENTS)]
        self._lines: list[Line | None] = [None] * GOOD_CLIENTS
        self._retired: list[Line] = []
        self._again: list[tuple[float, int, float, Line, int]] = []
        now = time.monotonic()
        gap = 1 / REQUESTS_A_SECOND / GOOD_CLIENTS
        first = int(now * REQUESTS_A_SECOND)
        self._due = [(now + client * gap, client, first) for client in range(GOOD_CLIENTS)]
        self._serial = itertools.count()

    def run(
        self, condition: Callable[[], bool], *, counted: bool, every: Callable[[], None]
    ) -> None:
        """Ask and listen while the condition holds; `every` is called each round."""
        while condition():
            now = time.monotonic()
            while self._due[0][0] <= now:
                due, client, number = heapq.heappop(self._due)
                heapq.heappush(self._due, (due + 1 / REQUESTS_A_SECOND, client, number + 1))
                self._ask(client, number, due, counted=counted)
            self._listen(max(0.0, self._due[0][0] - now))
            every()

    def settle(self, every: Callable[[], None]) -> None:
        """Wait for the answers that are still to come, then close everything."""
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < ends_at and any(line.awaited for line in self._all()):
            self._listen(0.05)
            every()
        for line in self._all():
            line.fail("patience")
        self._lines = [None] * GOOD_CLIENTS
        self._retired.clear()
        self._again.clear()

    def close(self) -> None:
        """Give everything back."""
        for line in self._all():
            line.close()
        self.selector.close()

    def _all(self) -> list[Line]:
        return [line for line in self._lines if line is not None] + self._retired

    def _ask(self, client: int, number: int, due: float, *, counted: bool) -> None:
        line = self._lines[client]
        if line is None or line.is_dead or number % _REQUESTS_A_CONNECTION == client % 10:
            if line is not None:
                self._retired.append(line)
            line = self._lines[client] = Line(self, client, self._transports[client])
        if counted:
            self.tally.due += 1
        line.ask(number, due, counted=counted)
        if line.transport == "udp":
            heapq.heappush(self._again, (due + 0.5, next(self._serial), 0.5, line, number))

    def _listen(self, seconds: float) -> None:
        for key, events in self.selector.select(min(seconds, 0.05)):
            key.data.ready(events)
        now = time.monotonic()
        while self._again and self._again[0][0] <= now:
            at, serial, interval, line, number = heapq.heappop(self._again)
            if line.ask_again(number) and interval < PATIENCE_SECONDS:
                heapq.heappush(self._again, (at + 2 * interval, serial, 2 * interval, line, number))
        for line in self._all():
            for number, (due, _) in list(line.awaited.items()):
                if due + PATIENCE_SECONDS > now:
                    break
                line.lose(number, "patience")
        for line in [line for line in self._retired if not line.awaited or line.is_dead]:
            line.close()
            self._retired.remove(line)
