"""`sippool listen`: answers every request but ACK with 200, to point SIPp, sipsak or one's own client at.

1. A request may delay its own answer (`X-Delay`, at most 60 s); at most 10,000 answers are delayed at a time,
   beyond that requests are answered at once: nobody makes this process hold requests without end.
2. A signal ends it: answers that are owed still go out, for at most 5 s; those whose time lies beyond that
   go out at once. A second signal ends it without them.
3. Each line shows what a peer wrote only escaped.
"""

from __future__ import annotations

import heapq
import itertools
import time
from typing import TYPE_CHECKING

from sippool_core import (
    ClientVerification,
    ConfigurationError,
    ConnectionClosed,
    ConnectionOpened,
    Endpoint,
    FramingFailed,
    InputDropped,
    MalformedReceived,
    MessageReceived,
    PeerFinished,
    PeerUnreachable,
    PingReceived,
    PoolConfig,
    Restriction,
    SendUnawaited,
    SippoolError,
    TlsSettings,
    Transport,
)

from ._descriptors import make_room
from ._messages import answer, asked_delay
from ._numbers import with_numbers
from ._show import Printer, complain, escape, start_line
from ._stage import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from enum import Enum

    from sippool_core import Event, Flow, Stats

    from ._stage import Script, SomePool, Stage

MAX_DELAYED = 10_000
"""Answers waiting for their time."""
GRACE_SECONDS = 5.0
"""How long a signal waits for the answers that are owed."""


class Answerer:
    """What `listen` does with each event; knows nothing of how it is waited."""

    def __init__(
        self,
        *,
        show: Callable[[str], None] | None,
        clock: Callable[[], float] = time.monotonic,
        max_delayed: int = MAX_DELAYED,
    ) -> None:
        """`show` takes a line an event; `None`: quiet."""
        self._show = show
        self._clock = clock
        self._max_delayed = max_delayed
        self._delayed: list[tuple[float, int, MessageReceived]] = []
        self._serial = itertools.count()
        self._ends_at: float | None = None
        self.touch: Callable[[], None] = lambda: None
        """Called when `next_due` has come nearer."""
        self.requests = 0
        self.responses = 0
        self.answered = 0
        self.acks = 0
        self.unanswerable = 0
        """Answers that the pool did not take, or could not deliver."""

    @property
    def owed(self) -> int:
        """Answers waiting for their time."""
        return len(self._delayed)

    def next_due(self) -> float | None:
        """The instant of the first delayed answer."""
        return self._delayed[0][0] if self._delayed else None

    def handle(self, pool: SomePool, event: Event) -> None:
        """Take one event of the pool."""
        if isinstance(event, MessageReceived):
            self._take_message(pool, event)
        elif isinstance(event, MalformedReceived | FramingFailed) and event.can_reply:
            assert event.message is not None
            self._reply(pool, event, answer(event.message, event.status_code))
        elif isinstance(event, SendUnawaited):
            self.answered -= 1
            self.unanswerable += 1
        if self._show is not None:
            self._show(describe(event))

    def answer_due(self, pool: SomePool) -> None:
        """Send the delayed answers whose time has come."""
        now = self._clock()
        while self._delayed and self._delayed[0][0] <= now:
            received = heapq.heappop(self._delayed)[2]
            self._reply(pool, received, answer(received.message))

    def hasten(self, ends_at: float) -> None:
        """Nothing is delayed beyond `ends_at`: what would be is due now."""
        self._ends_at = ends_at
        now = self._clock()
        self._delayed = [
            (due if due <= ends_at else now, serial, received)
            for due, serial, received in self._delayed
        ]
        heapq.heapify(self._delayed)

    def _take_message(self, pool: SomePool, event: MessageReceived) -> None:
        message = event.message
        if not message.is_request:
            self.responses += 1
            return
        self.requests += 1
        if message.method == "ACK":
            self.acks += 1
            return
        delay = asked_delay(message)
        due = self._clock() + delay
        too_late = self._ends_at is not None and due > self._ends_at
        if not delay or too_late or len(self._delayed) >= self._max_delayed:
            self._reply(pool, event, answer(message))
            return
        heapq.heappush(self._delayed, (due, next(self._serial), event))
        if self._delayed[0][0] == due:
            self.touch()

    def _reply(
        self,
        pool: SomePool,
        received: MessageReceived | MalformedReceived | FramingFailed,
        response: bytes,
    ) -> None:
        try:
            pool.reply(received, response)
        except SippoolError as error:
            self.unanswerable += 1
            if self._show is not None:
                self._show(f"not answered: {escape(str(error))}")
        else:
            self.answered += 1


def act(
    stage: Stage, listeners: Sequence[str], config: PoolConfig, printer: Printer, *, quiet: bool
) -> Script[tuple[Answerer, SomePool]]:
    """Listen until a signal comes and what is owed is done; returns what is to be summed up."""
    answerer = Answerer(show=None if quiet else printer.line)
    answerer.touch = stage.touch
    pool = yield from stage.open(*listeners, config=config, handler=answerer.handle)
    for listener in pool.listeners:
        printer.line(f"listening on {listener.transport.value}:{listener.address}")

    def stirred(signals: int) -> Callable[[], bool]:
        due_before = answerer.next_due()
        return lambda: stage.signals > signals or answerer.next_due() != due_before

    while not stage.signals:
        yield from stage.until(stirred(0), _remaining(answerer.next_due()))
        answerer.answer_due(pool)
    answerer.hasten(time.monotonic() + GRACE_SECONDS)
    answerer.answer_due(pool)
    if answerer.owed:
        printer.line(f"{answerer.owed} answers are owed; another signal ends this at once")
    while answerer.owed and stage.signals < 2:
        yield from stage.until(stirred(1), _remaining(answerer.next_due()))
        answerer.answer_due(pool)
    return answerer, pool


def _remaining(due: float | None) -> float | None:
    return None if due is None else max(0.0, due - time.monotonic())


def describe(event: Event) -> str:
    """The one line of an event."""
    if isinstance(event, MessageReceived):
        return f"{_way(event.flow)}  {start_line(event.message)}"
    if isinstance(event, MalformedReceived):
        return f"{_way(event.flow)}  malformed ({event.defect.value}): {start_line(event.message)}"
    if isinstance(event, FramingFailed):
        shown = f": {start_line(event.message)}" if event.message is not None else ""
        return f"{_way(event.flow)}  framing error ({event.defect.value}), closing{shown}"
    if isinstance(event, PingReceived):
        return f"{_way(event.flow)}  ping"
    if isinstance(event, ConnectionOpened):
        return f"{_way(event.flow)}  opened{_tls(event.flow)}"
    if isinstance(event, PeerFinished):
        return f"{_way(event.flow)}  peer finished"
    if isinstance(event, ConnectionClosed):
        return f"{_way(event.flow)}  closed ({event.reason.value}){_detail(event.detail)}"
    if isinstance(event, InputDropped):
        return f"{_way(event.flow)}  dropped {event.size} bytes ({event.reason.value})"
    if isinstance(event, PeerUnreachable):
        return f"{_way(event.flow)}  unreachable{_detail(event.detail)}"
    failed = event.failed
    way = _way(failed.flow) if failed.flow is not None else "?"
    return f"{way}  answer not delivered ({failed.reason.value}){_detail(failed.detail)}"


def summary(answerer: Answerer, stats: Stats, seconds: float) -> list[str]:
    """What happened, in a few lines."""
    malformed = stats.malformed + stats.framing_failed
    closed = stats.connections_closed
    received = (
        f"messages: {answerer.requests + answerer.responses} received ({answerer.requests} requests,"
        f" {answerer.acks} of them ACK; {answerer.responses} responses), {answerer.answered} answered,"
        f" {answerer.unanswerable} not deliverable, {answerer.owed} still owed"
    )
    connections = (
        f"connections: {stats.connections_accepted} accepted, {stats.connections_opened} opened,"
        f" {closed.total()} closed{_by_reason(closed.items())}"
    )
    return [
        f"--- {seconds:.1f} s ---",
        received,
        connections,
        f"malformed: {malformed.total()}{_by_reason(malformed.items())}",
        f"dropped: {stats.dropped.total()}{_by_reason(stats.dropped.items())}",
    ]


def _by_reason(counted: Iterable[tuple[Enum, int]]) -> str:
    most_first = sorted(counted, key=lambda pair: (-pair[1], pair[0].value))
    parts = ", ".join(f"{count} {reason.value}" for reason, count in most_first)
    return f" ({parts})" if parts else ""


def _way(flow: Flow) -> str:
    return f"{flow.transport.value}:{flow.peer}"


def _tls(flow: Flow) -> str:
    if flow.tls is None:
        return ""
    names = ", ".join(escape(name) for name in flow.tls.identities) or "no certificate"
    return f" ({flow.tls.version}, {names})"


def _detail(detail: str) -> str:
    return f": {escape(detail)}" if detail else ""


def configuration(
    numbers: Sequence[str],
    tls: tuple[str | None, str | None, str | None],
    verify_client: str,
    restrict: str | None,
) -> PoolConfig:
    """What the options say; raises `ConfigurationError`."""
    certificate, key, ca = tls
    settings = (
        TlsSettings(certificate, key, ca, ClientVerification(verify_client)) if any(tls) else None
    )
    if settings is None and verify_client != "none":
        raise ConfigurationError("--verify-client needs --tls-cert and --tls-ca")
    try:
        restriction = Restriction.parse(restrict) if restrict is not None else None
    except ValueError as error:
        raise ConfigurationError(f"--restrict: {error}") from None
    return with_numbers(PoolConfig(restrict_to=restriction, tls=settings), numbers)


def command(endpoints: Sequence[str], *, adapter: str, config: PoolConfig, quiet: bool) -> int:
    """Run `sippool listen`; returns the exit code: 0 ended by a signal, 1 an address is not to be had."""
    for text in endpoints:
        _check_endpoint(text, config)
    make_room(config, len(endpoints))
    printer = Printer()
    began_at = time.monotonic()
    try:
        answerer, pool = run(
            adapter, lambda stage: act(stage, endpoints, config, printer, quiet=quiet), signals=True
        )
    except OSError as error:
        complain(f"cannot listen: {escape(str(error))}")
        return 1
    for line in summary(answerer, pool.stats, time.monotonic() - began_at):
        printer.line(line)
    return 0


def _check_endpoint(text: str, config: PoolConfig) -> None:
    try:
        endpoint = Endpoint.parse(text)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    if endpoint.transport is Transport.TLS and (
        config.tls is None or config.tls.certificate is None
    ):
        raise ConfigurationError(f"{text} needs --tls-cert")
