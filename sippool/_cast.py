"""Who plays in `sippool demo`: a pool that answers, its clients, peers with bare sockets, and their certificates.

Everything is on loopback, on ports that the system chooses.
"""

from __future__ import annotations

import importlib.util
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from sippool_core import (
    ClientVerification,
    MessageReceived,
    PoolConfig,
    SendCompleted,
    Target,
    TlsSettings,
    Transport,
)

from ._messages import Options, answer
from ._stage import MissingExtra, ended

if TYPE_CHECKING:
    from sippool_core import Address, Event, Message

    from ._stage import Script, SomeOutcome, SomePool, Stage

PATIENCE_SECONDS = 5.0
"""How long anything on this machine's loopback may take before a promise counts as broken."""
POOL_NAME = "pool.example"
CLIENT_NAME = "client.example"
OTHER_NAME = "other.example"


class BrokenPromise(Exception):
    """Something was not as the demo says; the text says what was seen instead."""


def promise(kept: object, seen: str) -> None:
    """Raise `BrokenPromise` with what was seen unless it was kept."""
    if not kept:
        raise BrokenPromise(seen)


@dataclass(frozen=True)
class Certificates:
    """TLS settings of everybody, from one CA that lives as long as the demo."""

    pool: TlsSettings
    """Of the pool `pool.example`, which wants to see its clients' certificates."""
    impostor: TlsSettings
    """Of a server whose certificate names somebody else."""
    client: TlsSettings
    nobody: TlsSettings
    """Of a client without a certificate."""

    @classmethod
    def make(cls, directory: str) -> Certificates:
        """Write the files to `directory`; raises `MissingExtra`."""
        if importlib.util.find_spec("trustme") is None:
            raise MissingExtra(
                "sippool demo makes its certificates with trustme: pip install 'sippool[demo]'"
            )
        import trustme

        authority = trustme.CA()
        ca = Path(directory, "ca.pem")
        authority.cert_pem.write_to_path(str(ca))

        def issued(name: str) -> Path:
            path = Path(directory, f"{name}.pem")
            authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(path))
            return path

        return cls(
            pool=TlsSettings(issued(POOL_NAME), ca=ca, verify_client=ClientVerification.REQUIRED),
            impostor=TlsSettings(issued(OTHER_NAME), ca=ca),
            client=TlsSettings(issued(CLIENT_NAME), ca=ca),
            nobody=TlsSettings(ca=ca),
        )


class Player:
    """One pool of the demo, and everything its peers did."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.events: list[Event] = []
        self.pool: SomePool | None = None

    def open(self, *listeners: str, config: PoolConfig) -> Script[None]:
        """Open the pool."""
        self.pool = yield from self._stage.open(*listeners, config=config, handler=self._handle)

    def address(self, transport: Transport) -> Address:
        """Where the pool listens for this transport."""
        assert self.pool is not None
        return next(one.address for one in self.pool.listeners if one.transport is transport)

    def seen(self, kind: type[Event], since: int = 0) -> list[Event]:
        """The events of a kind, of those after the first `since`."""
        return [event for event in self.events[since:] if isinstance(event, kind)]

    def _handle(self, pool: SomePool, event: Event) -> None:
        self.events.append(event)
        self._react(pool, event)
        self._stage.touch()

    def _react(self, pool: SomePool, event: Event) -> None:
        pass


class Server(Player):
    """The pool that answers, and says in the answer to which port it means to speak."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.holding: list[MessageReceived] | None = None
        """Where requests wait for `release`, if they shall wait."""

    def release(self) -> None:
        """Answer what was held, the last that came first."""
        held, self.holding = self.holding or [], None
        assert self.pool is not None
        for event in reversed(held):
            self._answer(self.pool, event)

    def _react(self, pool: SomePool, event: Event) -> None:
        if isinstance(event, MessageReceived) and event.message.is_request:
            if self.holding is None:
                self._answer(pool, event)
            else:
                self.holding.append(event)

    @staticmethod
    def _answer(pool: SomePool, event: MessageReceived) -> None:
        head, _, _ = answer(event.message).partition(b"\r\n\r\n")
        pool.reply(event, head + b"\r\nX-Meant-For: %d\r\n\r\n" % event.flow.peer.port)


@dataclass
class Reply:
    """What a client got."""

    message: Message
    event: MessageReceived
    sent: SendCompleted
    seconds: float

    @property
    def meant_for(self) -> int:
        """The port to which the server meant to speak."""
        return int(self.message.headers("x-meant-for")[0])


class Client(Player):
    """A pool that asks."""

    def request(self, transport: Transport, *, call_id: str | None = None) -> Options:
        """An OPTIONS request from here."""
        assert self.pool is not None
        local = self.address(Transport.UDP)
        if transport is not Transport.UDP:
            local = local._replace(port=0)
        return Options.new(f"sip:{POOL_NAME}", transport, local, call_id=call_id)

    def send(self, request: Options, target: Target) -> SomeOutcome:
        """Send a request; its outcome."""
        assert self.pool is not None
        return self.pool.send(bytes(request), target)

    def responses(self, request: Options, since: int = 0) -> list[MessageReceived]:
        """What answered the request."""
        return [
            event
            for event in self.events[since:]
            if isinstance(event, MessageReceived) and request.is_answered_by(event.message)
        ]

    def ask(self, target: Target) -> Script[Reply]:
        """Send a request and wait for its answer; raises `BrokenPromise` if none comes."""
        request = self.request(target.transport)
        since = len(self.events)
        began_at = time.monotonic()
        outcome = self.send(request, target)
        yield from self._stage.until(lambda: bool(self.responses(request, since)), PATIENCE_SECONDS)
        took = time.monotonic() - began_at
        sent = ended(outcome)
        answers = self.responses(request, since)
        promise(answers and isinstance(sent, SendCompleted), f"no answer: {sent}")
        assert isinstance(sent, SendCompleted)
        return Reply(answers[0].message, answers[0], sent, took)


class Stranger:
    """A peer with a bare TCP socket, which writes whatever it likes."""

    def __init__(self, stage: Stage, address: Address) -> None:
        self._stage = stage
        self._socket = socket.create_connection((address.host, address.port), PATIENCE_SECONDS)
        self._socket.settimeout(0)
        self.received = b""
        self.is_closed = False
        """Whether the other side has closed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def write(self, data: bytes) -> None:
        """A few bytes, which the kernel takes at once."""
        self._socket.send(data)

    def read_until(self, length: int) -> Script[None]:
        """Wait until so many bytes are here, or the other side has closed, or the patience is over."""
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while len(self.received) < length and not self.is_closed and time.monotonic() < ends_at:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                # The stage does not know this socket, so look again soon.
                yield from self._stage.until(lambda: False, 0.01)
                continue
            except ConnectionError:
                data = b""
            self.received += data
            self.is_closed = not data


def tls_target(address: Address, name: str) -> Target:
    """A TLS server that must show a certificate for `name`."""
    return Target(Transport.TLS, address, name)
