"""The acts of `sippool demo`: each keeps one promise of a pool before the audience's eyes.

An act returns what was seen, or raises `BrokenPromise` with what was seen instead.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from sippool_core import (
    CloseReason,
    ConnectionClosed,
    ConnectionOpened,
    Defect,
    FramingFailed,
    Limits,
    MessageReceived,
    PingReceived,
    PoolConfig,
    SendFailed,
    SendFailure,
    Target,
    Timeouts,
    Transport,
)

from ._cast import (
    CLIENT_NAME,
    OTHER_NAME,
    PATIENCE_SECONDS,
    POOL_NAME,
    Certificates,
    Client,
    Player,
    Server,
    Stranger,
    promise,
    tls_target,
)
from ._messages import new_call_id
from ._show import escape
from ._stage import ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._stage import Script, Stage

CROWDED = Timeouts(min_idle_seconds=0.25, max_idle_seconds=1.25)
"""Idle times short enough to watch."""


class Acts:
    """The demo's stage with everybody on it."""

    def __init__(self, stage: Stage, certificates: Certificates) -> None:
        self._stage = stage
        self._certificates = certificates
        self.server = Server(stage)
        self._client = Client(stage)
        self._second = Client(stage)
        self._nobody = Client(stage)
        self._impostor = Server(stage)
        self._crowded = Player(stage)

    def raise_curtain(self) -> Script[None]:
        """Open all pools."""
        certificates = self._certificates
        yield from self.server.open(
            "udp:127.0.0.1:0",
            "tcp:127.0.0.1:0",
            "tls:127.0.0.1:0",
            config=PoolConfig(tls=certificates.pool),
        )
        yield from self._impostor.open(
            "tls:127.0.0.1:0", config=PoolConfig(tls=certificates.impostor)
        )
        crowded = PoolConfig(limits=Limits(max_connections=64), timeouts=CROWDED)
        yield from self._crowded.open("tcp:127.0.0.1:0", config=crowded)
        for client, tls in (
            (self._client, certificates.client),
            (self._second, certificates.client),
            (self._nobody, certificates.nobody),
        ):
            yield from client.open("udp:127.0.0.1:0", config=PoolConfig(tls=tls))

    def programme(self) -> list[tuple[str, Callable[[], Script[str]]]]:
        """What is promised, and the act that shows it, in order."""
        return [
            ("UDP: a request is answered, through any NAT (rport)", self.over_udp),
            ("TCP: a request is answered on its own connection", self.over_tcp),
            ("TLS: both sides prove who they are before the first SIP byte", self.over_tls),
            ("Reuse: more requests to the same place take the same connection", self.reuse),
            ("Two clients, same Call-ID and CSeq: each gets its own answer", self.twins),
            ("Ping and pong: a keep-alive is answered, even in two pieces", self.ping_and_pong),
            ("Expiry: the more connections there are, the sooner an idle one goes", self.expiry),
            ("A smuggler: a request hidden behind two lengths is never read", self.smuggler),
            ("A certificate with the wrong name: the server gets no SIP byte", self.wrong_name),
            (
                "No client certificate where one is required: refused, and told so",
                self.no_certificate,
            ),
        ]

    def over_udp(self) -> Script[str]:
        """A datagram there and one back."""
        target = Target(Transport.UDP, self.server.address(Transport.UDP))
        reply = yield from self._client.ask(target)
        via = reply.message.via
        port = self._client.address(Transport.UDP).port
        promise(via is not None and via.rport == port, f"rport {via and via.rport}, not {port}")
        return (
            f"{reply.message.status} in {reply.seconds * 1000:.1f} ms; the answer says that the request"
            f" came from {via and via.received}:{port}"
        )

    def over_tcp(self) -> Script[str]:
        """A new connection."""
        target = Target(Transport.TCP, self.server.address(Transport.TCP))
        reply = yield from self._client.ask(target)
        promise(
            not reply.sent.reused, "it claims to have reused a connection that cannot have been"
        )
        promise(reply.event.flow.id == reply.sent.flow.id, "the answer came another way")
        return (
            f"{reply.message.status} in {reply.seconds * 1000:.1f} ms over {reply.event.flow.local}"
        )

    def over_tls(self) -> Script[str]:
        """Certificates of both sides are checked by SIP's rules (RFC 5922)."""
        target = tls_target(self.server.address(Transport.TLS), POOL_NAME)
        reply = yield from self._client.ask(target)
        ours = reply.event.flow.tls
        promise(ours is not None and ours.matched_identity == POOL_NAME, f"we verified {ours}")
        assert ours is not None
        requests = [
            event.flow for event in self.server.events if isinstance(event, MessageReceived)
        ]
        theirs = requests[-1].tls
        promise(
            theirs is not None and CLIENT_NAME in theirs.identities, f"the pool verified {theirs}"
        )
        return (
            f"{reply.message.status} in {reply.seconds * 1000:.1f} ms, {ours.version}; the client"
            f" verified {ours.matched_identity}, the pool {CLIENT_NAME}"
        )

    def reuse(self) -> Script[str]:
        """The connections of the acts before are still there."""
        before = self._stats_accepted()
        target = Target(Transport.TCP, self.server.address(Transport.TCP))
        secure = tls_target(self.server.address(Transport.TLS), POOL_NAME)
        for where in (target, secure, target, secure):
            reply = yield from self._client.ask(where)
            promise(reply.sent.reused, f"a new connection for {where}")
        promise(self._stats_accepted() == before, "the pool accepted a new connection")
        return "4 more requests, 2 over TCP and 2 over TLS: no new connection"

    def twins(self) -> Script[str]:
        """The same bytes from two clients; the answers are given in the other order."""
        target = Target(Transport.TCP, self.server.address(Transport.TCP))
        request = self._client.request(Transport.TCP, call_id=new_call_id())
        held: list[MessageReceived] = []
        self.server.holding = held
        pair = (self._client, self._second)
        for client in pair:
            client.send(request, target)
        yield from self._stage.until(lambda: len(held) == 2, PATIENCE_SECONDS)
        promise(len(held) == 2, f"{len(held)} of 2 requests came")
        self.server.release()
        yield from self._stage.until(
            lambda: all(client.responses(request) for client in pair), PATIENCE_SECONDS
        )
        # Time for an answer too many.
        yield from self._stage.until(lambda: False, 0.1)
        for client in pair:
            answers = client.responses(request)
            promise(len(answers) == 1, f"{len(answers)} answers instead of one")
            ours = answers[0].flow.local.port
            meant = answers[0].message.headers("x-meant-for")[0].decode()
            promise(meant == str(ours), f"port {ours} got the answer that was meant for {meant}")
        return "answered in the other order, and each answer came to the port it was meant for"

    def ping_and_pong(self) -> Script[str]:
        """RFC 5626 section 4.4.1, from a bare socket."""
        with Stranger(self._stage, self.server.address(Transport.TCP)) as stranger:
            stranger.write(b"\r\n")
            yield from self._stage.until(lambda: False, 0.05)
            promise(not self.server.seen(PingReceived), "half a ping was taken for a ping")
            stranger.write(b"\r\n")
            yield from stranger.read_until(2)
            promise(stranger.received == b"\r\n", f"not a pong: {escape(stranger.received)}")
        return "CRLF, a pause, CRLF: that is a ping, and CRLF came back"

    def expiry(self) -> Script[str]:
        """min + (max - min) / connections, exact to the deadline."""
        alone = yield from self._idle_time(1)
        crowded = yield from self._idle_time(5)
        span = CROWDED.max_idle_seconds - CROWDED.min_idle_seconds
        for seconds, many in ((alone, 1), (crowded, 5)):
            due = CROWDED.min_idle_seconds + span / many
            promise(
                due - 0.05 <= seconds < due + 0.5,
                f"of {many}: closed after {seconds:.2f} s, not {due}",
            )
        usual = Timeouts()
        return (
            f"alone closed after {alone:.2f} s, one of five after {crowded:.2f} s"
            f" (usually {usual.max_idle_seconds:g} s, and towards {usual.min_idle_seconds:g} s)"
        )

    def smuggler(self) -> Script[str]:
        """Two Content-Length headers: what one reader takes for a body, another takes for a request."""
        requests = len(self.server.seen(MessageReceived))
        since = len(self.server.events)
        hidden = bytes(self._client.request(Transport.TCP))
        outer = bytes(self._client.request(Transport.TCP))
        lengths = b"Content-Length: %d\r\nContent-Length: 0\r\n" % len(hidden)
        with Stranger(self._stage, self.server.address(Transport.TCP)) as stranger:
            stranger.write(outer.replace(b"Content-Length: 0\r\n", lengths) + hidden)
            yield from stranger.read_until(65536)
            promise(stranger.is_closed, "the connection stayed open")
        failures = [
            event for event in self.server.events[since:] if isinstance(event, FramingFailed)
        ]
        promise(failures, "nothing was refused")
        defect = failures[0].defect
        promise(defect is Defect.CONFLICTING_CONTENT_LENGTH, f"refused as {defect.value}")
        promise(len(self.server.seen(MessageReceived)) == requests, "the hidden request was read")
        return f"refused as {defect.value}, the connection closed, nothing behind it read"

    def wrong_name(self) -> Script[str]:
        """The certificate is good, but for somebody else."""
        outcome = self._client.send(
            self._client.request(Transport.TLS),
            tls_target(self._impostor.address(Transport.TLS), POOL_NAME),
        )
        yield from self._stage.until(
            lambda: outcome.done and bool(self._impostor.seen(ConnectionClosed)), PATIENCE_SECONDS
        )
        end = ended(outcome)
        promise(
            isinstance(end, SendFailed) and end.reason is SendFailure.IDENTITY_MISMATCH, f"{end}"
        )
        assert isinstance(end, SendFailed)
        promise(not end.bytes_may_be_out, "a part of the request may have gone out")
        promise(not self._impostor.seen(MessageReceived), "the impostor got the request")
        return f"asked for {POOL_NAME}, shown {OTHER_NAME}: {end.reason.value}, nothing sent"

    def no_certificate(self) -> Script[str]:
        """In TLS 1.3 a client learns only afterwards that it was refused."""
        since = len(self.server.events)
        request = self._nobody.request(Transport.TLS)
        target = tls_target(self.server.address(Transport.TLS), POOL_NAME)
        outcome = self._nobody.send(request, target)
        yield from self._stage.until(
            lambda: bool(self._nobody.seen(ConnectionClosed)), PATIENCE_SECONDS
        )
        closed = [event for event in self._nobody.events if isinstance(event, ConnectionClosed)]
        promise(closed, f"the connection stayed open: {ended(outcome)}")
        reason = closed[0].reason
        promise(reason is CloseReason.CERTIFICATE_REFUSED, f"closed as {reason.value}")
        promise(not self.server.seen(MessageReceived, since), "the pool read the request")
        return f"closed as {reason.value}; the pool has not read the request"

    def _idle_time(self, many: int) -> Script[float]:
        """Seconds until the first of so many idle connections is closed."""
        crowded = self._crowded
        since = len(crowded.events)
        with ExitStack() as stack:
            for _ in range(many):
                address = crowded.address(Transport.TCP)
                stack.enter_context(Stranger(self._stage, address))
            yield from self._stage.until(
                lambda: len(crowded.seen(ConnectionOpened, since)) == many, PATIENCE_SECONDS
            )
            began_at = time.monotonic()
            yield from self._stage.until(
                lambda: bool(crowded.seen(ConnectionClosed, since)), PATIENCE_SECONDS
            )
            took = time.monotonic() - began_at
            # The rest of them, so that the next measurement begins alone.
            yield from self._stage.until(
                lambda: len(crowded.seen(ConnectionClosed, since)) == many, PATIENCE_SECONDS
            )
        closed = [event for event in crowded.events[since:] if isinstance(event, ConnectionClosed)]
        reasons = sorted({event.reason.value for event in closed})
        promise(reasons == [CloseReason.EXPIRED.value], f"closed as {reasons}")
        return took

    def _stats_accepted(self) -> int:
        assert self.server.pool is not None
        return self.server.pool.stats.connections_accepted
