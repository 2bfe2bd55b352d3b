"""`sippool ping`: sends OPTIONS, shows what comes back, and says by its exit code what went wrong.

1. A host name is resolved before the pool sees it; its addresses are tried in turn until one can be reached.
2. UDP requests are not sent again: what the network loses is shown, not hidden.
3. The exit code is 0 only if every request was answered; else that of the last one that was not.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sippool_sync
from sippool_core import (
    Address,
    CloseReason,
    ConfigurationError,
    ConnectionClosed,
    MessageReceived,
    NamedTarget,
    PeerUnreachable,
    PoolConfig,
    SendCompleted,
    SendFailed,
    SendFailure,
    SippoolError,
    Target,
    Timeouts,
    TlsSettings,
    Transport,
)

from ._messages import Options, answer
from ._report import ANSWERED, NO_ANSWER, REFUSED, UNREACHABLE, Result, as_json, as_text
from ._show import Printer, complain, escape
from ._stage import ended, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sippool_core import Event, Flow, Message

    from ._stage import Script, SomeOutcome, SomePool, Stage

_REFUSED = {
    SendFailure.HANDSHAKE_FAILED,
    SendFailure.IDENTITY_MISMATCH,
    SendFailure.CERTIFICATE_REFUSED,
    CloseReason.HANDSHAKE_FAILED,
    CloseReason.IDENTITY_MISMATCH,
    CloseReason.CERTIFICATE_REFUSED,
    CloseReason.RENEGOTIATION,
}
_NO_ANSWER = {
    SendFailure.HANDSHAKE_TIMEOUT,
    SendFailure.WRITE_TIMEOUT,
    SendFailure.CONNECTION_LOST,
}
_MOMENT_SECONDS = 0.05
_URI = re.compile(r"sips?:[!#-;=?-~]+", re.IGNORECASE)


@dataclass(frozen=True)
class Wishes:
    """The options of `sippool ping`."""

    count: int = 1
    interval: float = 1.0
    """Seconds."""
    timeout: float = 5.0
    """Seconds."""
    tls: tuple[str | None, str | None, str | None] = (None, None, None)
    """Files with our certificate, its key, and the CAs."""
    tls_name: str | None = None
    as_json: bool = False


@dataclass
class Attempt:
    """One request under way, and what has been learned about it."""

    request: Options
    began_at: float
    outcome: SomeOutcome | None = None
    response: Message | None = None
    answered_at: float = 0.0
    flow: Flow | None = None
    """Which way the response came."""
    closed: dict[int, ConnectionClosed] = field(default_factory=dict)
    """Connections that ended meanwhile, by number; not all of them carried this request."""
    unreachable: str | None = None

    def is_over(self) -> bool:
        """Whether waiting longer is of no use."""
        return (
            self.response is not None
            or self.unreachable is not None
            or self.failed() is not None
            or self.lost() is not None
        )

    def failed(self) -> SendFailed | None:
        """How sending it failed, if it did."""
        end = self._end()
        return end if isinstance(end, SendFailed) else None

    def completed(self) -> SendCompleted | None:
        """How it was sent, if it was."""
        end = self._end()
        return end if isinstance(end, SendCompleted) else None

    def lost(self) -> ConnectionClosed | None:
        """The end of the connection that had carried it."""
        completed = self.completed()
        return None if completed is None else self.closed.get(completed.flow.id)

    def _end(self) -> SendCompleted | SendFailed | None:
        return None if self.outcome is None else ended(self.outcome)


class Pinger:
    """Takes the pool's events, on behalf of the request under way."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.attempt: Attempt | None = None

    def handle(self, pool: SomePool, event: Event) -> None:
        """Take one event of the pool."""
        if isinstance(event, MessageReceived) and event.message.is_request:
            _answer_back(pool, event)
            return
        attempt = self.attempt
        if attempt is None:
            return
        if isinstance(event, MessageReceived):
            message = event.message
            final = message.status >= 200 and attempt.request.is_answered_by(message)
            if final and attempt.response is None:
                attempt.answered_at = time.monotonic()
                attempt.response, attempt.flow = message, event.flow
        elif isinstance(event, ConnectionClosed):
            attempt.closed[event.flow.id] = event
        elif isinstance(event, PeerUnreachable):
            attempt.unreachable = event.detail
        self._stage.touch()


def _answer_back(pool: SomePool, event: MessageReceived) -> None:
    """The peer may send OPTIONS in return, over the same connection."""
    if event.message.method != "ACK":
        # A request that cannot be answered is the peer's loss, not the end of our ping.
        with contextlib.suppress(SippoolError):
            pool.reply(event, answer(event.message))


class _Way:
    """One of the addresses of the target: a pool, and what our end is called."""

    def __init__(self, target: Target) -> None:
        """Raises `OSError` where no route leads there."""
        self.target = target
        self.pool: SomePool | None = None
        address = target.address
        family = socket.AF_INET6 if address.family == 6 else socket.AF_INET
        # A connected UDP socket sends nothing yet, but knows our address on the way there; it also learns that
        # nobody listens (ICMP).
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.settimeout(0)
            place = (address.host, address.port)
            self._socket.connect(place if address.family == 4 else (*place, 0, address.scope))
            self.local = Address.from_sockaddr(self._socket.getsockname())
        except OSError:
            self._socket.close()
            raise

    def open(self, stage: Stage, config: PoolConfig, pinger: Pinger) -> Script[SomePool]:
        """The pool that leads there."""
        if self.pool is None:
            if self.target.transport is Transport.UDP:
                self.pool = yield from stage.open(
                    self._socket, config=config, handler=pinger.handle
                )
            else:
                self._socket.close()
                self.local = self.local._replace(port=0)
                self.pool = yield from stage.open(config=config, handler=pinger.handle)
        return self.pool

    def close(self) -> None:
        """Close the socket, which is ours and not the pool's."""
        self._socket.close()


class Ping:
    """All requests of one `sippool ping`."""

    def __init__(self, uri: str, targets: Sequence[Target], wishes: Wishes) -> None:
        self._uri = uri
        self._targets = list(targets)
        self._wishes = wishes
        self._way: _Way | None = None
        self._opened: list[_Way] = []
        self._config = _configuration(wishes)

    def act(self, stage: Stage, printer: Printer) -> Script[int]:
        """Send them all; returns the exit code."""
        pinger = Pinger(stage)
        code = ANSWERED
        for number in range(1, self._wishes.count + 1):
            if number > 1:
                yield from stage.until(lambda: False, self._wishes.interval)
            result = yield from self._anywhere(stage, pinger, number)
            for line in [as_json(result)] if self._wishes.as_json else as_text(result):
                printer.line(line)
            code = result.code or code
        return code

    def close(self) -> None:
        """After the pools have been closed."""
        for way in self._opened:
            way.close()

    def _anywhere(self, stage: Stage, pinger: Pinger, number: int) -> Script[Result]:
        """One request, to the first of the target's addresses that can be reached."""
        while True:
            target = self._targets[0]
            try:
                if self._way is None:
                    self._way = _Way(target)
                    self._opened.append(self._way)
                pool = yield from self._way.open(stage, self._config, pinger)
            except OSError as error:
                result = Result(
                    UNREACHABLE, number, target, SendFailure.UNREACHABLE.value, error.strerror or ""
                )
            else:
                result = yield from self._once(stage, pinger, pool, self._way, number)
            if result.code != UNREACHABLE or len(self._targets) == 1:
                return result
            self._targets.pop(0)
            self._way = None

    def _once(
        self, stage: Stage, pinger: Pinger, pool: SomePool, way: _Way, number: int
    ) -> Script[Result]:
        target = way.target
        request = Options.new(self._uri, target.transport, way.local, number=number)
        attempt = pinger.attempt = Attempt(request, time.monotonic())
        try:
            attempt.outcome = pool.send(bytes(request), target)
        except SippoolError as error:
            return Result(UNREACHABLE, number, target, SendFailure.SYSTEM_ERROR.value, str(error))
        # A connection that cannot be opened in this time is the pool's to report, hence a moment longer.
        moment = _MOMENT_SECONDS if target.transport.is_stream else 0.0
        yield from stage.until(attempt.is_over, self._wishes.timeout + moment)
        pinger.attempt = None
        return _judge(attempt, target, number, self._wishes.timeout)


def _judge(attempt: Attempt, target: Target, number: int, timeout: float) -> Result:
    """What became of a request."""
    completed = attempt.completed()
    if attempt.response is not None:
        return Result(
            ANSWERED,
            number,
            target,
            response=attempt.response,
            seconds=attempt.answered_at - attempt.began_at,
            reused=completed is not None and completed.reused,
            flow=attempt.flow,
        )
    if attempt.unreachable is not None:
        return Result(UNREACHABLE, number, target, "icmp", attempt.unreachable)
    failed = attempt.failed()
    if failed is not None:
        return Result(_code(failed.reason), number, target, failed.reason.value, failed.detail)
    lost = attempt.lost()
    if lost is not None:
        code = REFUSED if lost.reason in _REFUSED else NO_ANSWER
        return Result(code, number, target, lost.reason.value, lost.detail)
    return Result(NO_ANSWER, number, target, "timeout", f"nothing came in {timeout:g} s")


def _code(reason: SendFailure) -> int:
    if reason in _REFUSED:
        return REFUSED
    return NO_ANSWER if reason in _NO_ANSWER else UNREACHABLE


def _configuration(wishes: Wishes) -> PoolConfig:
    certificate, key, ca = wishes.tls
    tls = TlsSettings(certificate, key, ca) if any(wishes.tls) else None
    usual = Timeouts().connect_seconds
    return PoolConfig(tls=tls, timeouts=Timeouts(connect_seconds=min(wishes.timeout, usual)))


def request_uri(text: str) -> str:
    """The SIP URI that is asked: `text` itself without its headers, or the one an endpoint stands for."""
    named = NamedTarget.parse(text)
    if text.partition(":")[0].lower() in ("sip", "sips"):
        uri = text.partition("?")[0]
    else:
        host = f"[{named.host}]" if ":" in named.host else named.host
        port = "" if named.port == named.transport.default_port else f":{named.port}"
        by = "" if named.transport is Transport.UDP else f";transport={named.transport.value}"
        uri = f"sip:{host}{port}{by}"
    if not _URI.fullmatch(uri):
        # It becomes a part of a message, in which a blank or a line end would begin another part.
        raise ValueError(f"{text!r} is not printable ASCII (a host in other letters: xn--...)")
    return uri


def command(text: str, wishes: Wishes, *, adapter: str) -> int:
    """Run `sippool ping`; returns the exit code. Raises `ConfigurationError` for wrong usage."""
    try:
        uri = request_uri(text)
        named = NamedTarget.parse(text)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    if named.transport is not Transport.TLS and (wishes.tls_name or any(wishes.tls)):
        raise ConfigurationError(f"--tls-... is of no use: {text} is not TLS")
    if named.port == 0:
        raise ConfigurationError(f"{text}: nobody listens on port 0")
    try:
        targets = sippool_sync.resolve(text)
    except OSError as error:
        complain(f"not reachable: {escape(named.host)} cannot be resolved ({escape(str(error))})")
        return UNREACHABLE
    if wishes.tls_name is not None:
        targets = [target._replace(server_name=wishes.tls_name) for target in targets]
    printer = Printer()
    ping = Ping(uri, targets, wishes)
    try:
        return run(adapter, lambda stage: ping.act(stage, printer))
    finally:
        ping.close()
