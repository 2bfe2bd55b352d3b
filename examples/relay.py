"""A relay between UDP and TCP: forwards what it is asked to another place, and brings the answers back.

    python examples/relay.py --listen udp:127.0.0.1:5060 --to 'sip:127.0.0.1:5080;transport=tcp' --backend trio

It shows what a transport leaves to whoever uses it, and what not. It is NOT a proxy: it repeats nothing (so what is
lost behind it stays lost), knows no Route, no forking, no Timer C and no loops but those Max-Forwards ends, and it
forwards whatever anybody sends.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import re
import secrets
import signal
from itertools import takewhile
from typing import TYPE_CHECKING

import anyio
import anyio.abc

import sippool_anyio
from sippool_core import (
    Address,
    Endpoint,
    Message,
    MessageReceived,
    SippoolError,
    Target,
    Transport,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAX_WAITING = 10_000
"""Requests that may be unanswered at a time; a peer that sends more gets 503."""
OUR_VIA = re.compile(rb"\r\n(?:via|v)[ \t]*:(?:[^\r\n,]|\r\n[ \t])*(,?)", re.IGNORECASE)
MAX_FORWARDS = re.compile(rb"\r\nmax-forwards[ \t]*:(?:[^\r\n]|\r\n[ \t])*", re.IGNORECASE)
REASONS = {408: b"Request Timeout", 483: b"Too Many Hops", 503: b"Service Unavailable"}
SECRET = secrets.token_bytes(16)
TAG = secrets.token_hex(8).encode()


class Relay:
    """The pool, where everything goes, and who waits for which answer."""

    def __init__(
        self, pool: sippool_anyio.AsyncPool, target: Target, sent_by: Address, seconds: float
    ) -> None:
        self._pool, self._target, self._seconds = pool, target, seconds
        self._via = f"SIP/2.0/{target.transport.name} {sent_by.bracketed}:{sent_by.port}".encode()
        # By what a response is known by (branch and method): the request and when to forget it, oldest first.
        self._waiting: dict[tuple[bytes, str], tuple[MessageReceived, float]] = {}

    async def run(self, tasks: anyio.abc.TaskGroup) -> None:
        """Relay until the pool is closed."""
        async for received in self._pool:
            self._forget_the_old()
            if received.message.is_request:
                self._forward(received, tasks)
            else:
                self._bring_back(received.message)

    def _forward(self, received: MessageReceived, tasks: anyio.abc.TaskGroup) -> None:
        request = received.message
        hops = (request.headers("max-forwards") or [b"70"])[0]
        if not hops.isdigit() or len(hops) > 3 or int(hops) == 0:
            return self._answer(received, 483)
        if len(self._waiting) >= MAX_WAITING:
            return self._answer(received, 503)
        branch = self._branch(received)
        key = (branch, request.method)
        if request.can_be_answered:  # an ACK is not
            self._waiting.pop(key, None)  # a retransmission goes to the end
            self._waiting[key] = (received, self._pool.clock() + self._seconds)
        head, end, body = with_length(request).partition(b"\r\n\r\n")
        start, _, fields = MAX_FORWARDS.sub(b"", head, count=1).partition(b"\r\n")
        via = b"Via: %b;branch=%b;rport" % (self._via, branch)
        lines = [start, via, b"Max-Forwards: %d" % (int(hops) - 1), fields]
        try:
            # Sent from here, not from the task below, so that messages leave in the order they came in.
            outcome = self._pool.send(b"\r\n".join(lines) + end + body, self._target)
        except SippoolError:  # a full queue
            return self._give_up(key, 503)
        tasks.start_soon(self._watch, outcome, key)

    async def _watch(self, outcome: sippool_anyio.Outcome, key: tuple[bytes, str]) -> None:
        try:
            await outcome
        except sippool_anyio.SendTimeoutError:
            self._give_up(key, 408)
        except sippool_anyio.SendError:
            self._give_up(key, 503)

    def _bring_back(self, response: Message) -> None:
        key = response.client_key
        if key not in self._waiting or response.status == 100:
            return  # nobody waits (any longer); or 100, which is from hop to hop (RFC 3261 section 16.7)
        received, _ = self._waiting[key]
        if response.status >= 200:
            del self._waiting[key]
        raw = OUR_VIA.sub(
            lambda via: b"\r\nVia:" if via[1] else b"", with_length(response), count=1
        )
        # A queue may be full, or the other Vias not what they were.
        with contextlib.suppress(SippoolError):
            self._pool.reply(received, raw)

    def _branch(self, received: MessageReceived) -> bytes:
        """Nobody can guess it, and a retransmission, an ACK and a CANCEL get that of their request (section 16.11)."""
        message = received.message
        seed = repr(
            (received.flow.peer, message.via, message.call_id, message.cseq_number)
        ).encode()
        return b"z9hG4bK" + hashlib.blake2b(seed, digest_size=12, key=SECRET).hexdigest().encode()

    def _give_up(self, key: tuple[bytes, str], status: int) -> None:
        if key in self._waiting:
            self._answer(self._waiting.pop(key)[0], status)

    def _answer(self, received: MessageReceived, status: int) -> None:
        request = received.message
        if not request.can_be_answered:
            return
        to = request.headers("to")[0] + (b"" if request.to_tag else b";tag=" + TAG)
        lines = [b"SIP/2.0 %d %b" % (status, REASONS[status])]
        lines += [b"Via: " + via for via in request.headers("via")]
        lines += [b"From: " + request.headers("from")[0], b"To: " + to]
        lines += [b"Call-ID: " + request.call_id, b"CSeq: " + request.headers("cseq")[0]]
        with contextlib.suppress(SippoolError):  # a peer that does not read its answers
            self._pool.reply(received, b"\r\n".join([*lines, b"Content-Length: 0", b"", b""]))

    def _forget_the_old(self) -> None:
        """Their clients gave up at the same time (Timers B and F of RFC 3261)."""
        now = self._pool.clock()
        for key in [*takewhile(lambda key: self._waiting[key][1] <= now, self._waiting)]:
            del self._waiting[key]


def with_length(message: Message) -> bytes:
    """A datagram may come without Content-Length; a stream cannot carry it so."""
    if message.content_length is not None:
        return message.raw
    head, end, body = message.raw.partition(b"\r\n\r\n")
    return b"%b\r\nContent-Length: %d%b%b" % (head, len(body), end, body)


async def main(listen: Endpoint, to: str, t1: float) -> None:
    """Open the sockets of both sides, and relay."""
    target = (await sippool_anyio.resolve(to))[0]
    places = [listen]
    if target.transport is not listen.transport and target.transport is not Transport.TLS:
        places.append(Endpoint(target.transport, listen.address._replace(port=0)))
    # A KeyboardInterrupt could come at any line, on trio within the pool's own too; a signal receiver waits its turn.
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        async with sippool_anyio.open_pool(*places) as pool, anyio.create_task_group() as tasks:
            tasks.start_soon(close_on, signals, pool)
            print(f"listening on {pool.listeners[0]}, relaying to {target}")
            await Relay(pool, target, pool.listeners[-1].address, 64 * t1).run(tasks)


async def close_on(signals: AsyncIterator[signal.Signals], pool: sippool_anyio.AsyncPool) -> None:
    """End the iteration over the pool when a signal comes."""
    await anext(signals)
    pool.close_soon()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="relay SIP between UDP and TCP")
    parser.add_argument("--listen", type=Endpoint.parse, default="udp:127.0.0.1:5060")
    parser.add_argument("--to", default="sip:127.0.0.1:5080;transport=tcp", metavar="URI")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--t1", type=float, default=0.5, help="RFC 3261's T1, in seconds")
    arguments = parser.parse_args()
    anyio.run(main, arguments.listen, arguments.to, arguments.t1, backend=arguments.backend)
