"""`python -m bench.leaks`: connections that come and go in random phases, and what is left of them.

1. The pool, its peers and whoever it calls are in one process and one thread; loopback only.
2. A cycle is one connection: connect, perhaps shake hands, perhaps speak, perhaps wait, then end by RST, FIN or
   close_notify. A third of them are opened by the pool itself; some of those sends are cancelled.
3. What is held is compared with what was held after a first share of the cycles, which fills the caches of Python.
   The exit status is 1 if anything is left: descriptors, tasks, deadlines, entries of tables, objects, memory.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import random
import socket
import ssl
import struct
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import sippool_sync
from sippool_core import MessageReceived, PoolConfig, SippoolError, TlsSettings

from .attacks.certificates import Certificates
from .attacks.sip import request
from .holdings import Holdings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sippool_core import Event
    from sippool_sync import BaseOutcome

    from .holdings import SomePool

ADAPTERS = ("sync", "asyncio", "trio")
Cycle = Generator[None, None, None]
Turns = Generator[None, None, None]
"""Each step of it is a turn that the pool must have."""
_AT_ONCE = 16
_WARM_UP_SHARE = 0.1
_MOST_TURNS = 400
_SETTLE_SECONDS = 40.0
_ABORT = struct.pack("ii", 1, 0)
_ANSWERED_HEADERS = (b"Via:", b"From:", b"To:", b"Call-ID:", b"CSeq:")


def answer(pool: SomePool, event: Event) -> None:
    """The pool's handler."""
    if isinstance(event, MessageReceived) and event.message.is_request:
        lines = bytes(event.message).partition(b"\r\n\r\n")[0].split(b"\r\n")
        kept = [line for line in lines if line.startswith(_ANSWERED_HEADERS)]
        response = b"\r\n".join([b"SIP/2.0 200 OK", *kept, b"Content-Length: 0", b"", b""])
        with contextlib.suppress(SippoolError):
            pool.reply(event, response)


class Cycles:
    """Makes cycles for one pool."""

    def __init__(self, pool: SomePool, certificates: Certificates, seed: int) -> None:
        self.random = random.Random(seed)
        self.pool = pool
        self.outcomes: deque[BaseOutcome] = deque()
        self.done = 0
        self._addresses = {
            listener.transport.value: (listener.address.host, listener.address.port)
            for listener in pool.listeners
        }
        self._client_context = certificates.context(certificates.client, trusting=True)
        self._server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server_context.load_cert_chain(str(certificates.server))

    def run(self, count: int) -> Turns:
        """So many cycles, some at once; each step needs a turn of the pool."""
        begun = 0
        going: deque[Cycle] = deque()
        while begun < count or going:
            while begun < count and len(going) < _AT_ONCE:
                begun += 1
                going.append(self._inbound() if self.random.random() < 0.67 else self._outbound())
            for _ in range(len(going)):
                cycle = going.popleft()
                try:
                    next(cycle)
                except (StopIteration, OSError):
                    self.done += 1
                    cycle.close()
                else:
                    going.append(cycle)
            while self.outcomes and self.outcomes[0].done:
                self.outcomes.popleft()
            yield

    def settle(self) -> Turns:
        """Until nothing is going on any more, but not for ever."""
        ends_at = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < ends_at:
            yield
            busy = self.pool.stats.connections or self.pool._driver.core.next_deadline()
            if not busy and all(outcome.done for outcome in self.outcomes):
                break
        self.outcomes = deque(outcome for outcome in self.outcomes if not outcome.done)
        # Failures that nobody has looked at become events when their outcomes are collected.
        gc.collect()
        for _ in range(10):
            yield

    def _inbound(self) -> Cycle:
        """A peer of ours connects to the pool."""
        transport = "tls" if self.random.random() < 0.3 else "tcp"
        with socket.socket() as sock:
            sock.settimeout(0.0)
            with contextlib.suppress(BlockingIOError):
                sock.connect(self._addresses[transport])
            yield from self._pause()
            if transport == "tcp":
                yield from self._talk(sock)
                return
            phase = self.random.random()
            if phase < 0.4:
                sock.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[: int(phase * 25) + 1])
                yield from self._pause()
                self._end(sock)
                return
            yield from self._talk_tls(sock, self._client_context, server_side=False)

    def _outbound(self) -> Cycle:
        """The pool connects to a server of ours, which may be gone."""
        transport = "tls" if self.random.random() < 0.3 else "tcp"
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            port = server.getsockname()[1]
            if listens := self.random.random() < 0.8:
                server.listen(1)
                server.settimeout(0.0)
            message = request(transport, f"leak{port}x{self.random.randrange(1 << 40)}")
            outcome = self.pool.send(message, f"{transport}:127.0.0.1:{port}")
            self.outcomes.append(outcome)
            yield from self._pause()
            if self.random.random() < 0.2:
                outcome.cancel()
            if not listens or self.random.random() < 0.2:
                return
            sock = yield from self._accept(server)
            with sock:
                if transport == "tls":
                    yield from self._talk_tls(sock, self._server_context, server_side=True)
                else:
                    yield from self._talk(sock)

    def _accept(self, server: socket.socket) -> Generator[None, None, socket.socket]:
        for _ in range(_MOST_TURNS):
            with contextlib.suppress(BlockingIOError):
                sock, _ = server.accept()
                sock.settimeout(0.0)
                return sock
            yield
        raise ConnectionError("nobody came")

    def _talk_tls(
        self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool
    ) -> Cycle:
        turns = _MOST_TURNS if self.random.random() < 0.7 else self.random.randrange(3)
        with context.wrap_socket(
            sock, server_side=server_side, do_handshake_on_connect=False
        ) as secured:
            for _ in range(turns):
                try:
                    secured.do_handshake()
                except ssl.SSLWantReadError:
                    yield
                else:
                    yield from self._talk(secured)
                    return
            self._end(secured)

    def _talk(self, sock: socket.socket) -> Cycle:
        """Say something, whole, half or wrong; perhaps wait for the answer; end."""
        whole = request("tcp", f"leak{self.random.randrange(1 << 60)}", body=b"x" * 50)
        cut = self.random.choice([0, self.random.randrange(len(whole)), len(whole), len(whole)])
        said = whole[:cut] if self.random.random() < 0.95 else b"GET / HTTP/1.1\r\n\r\n"
        if said:
            sock.send(said)
        if self.random.random() < 0.5:
            for _ in range(_MOST_TURNS if said == whole else 3):
                yield
                with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
                    sock.recv(65536)
                    break
        self._end(sock)
        yield from self._pause()

    def _end(self, sock: socket.socket) -> None:
        dice = self.random.random()
        if dice < 0.4:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        elif dice < 0.6:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
        elif dice < 0.8 and isinstance(sock, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                sock.unwrap()

    def _pause(self) -> Cycle:
        for _ in range(self.random.randrange(3)):
            yield


def run_all(
    pool: SomePool, certificates: Certificates, cycles: int, seed: int, tasks: Callable[[], int]
) -> Generator[None, None, list[str]]:
    """Warm up, look, run, look again; returns what is left."""
    work = Cycles(pool, certificates, seed)
    began_at = time.monotonic()
    warm_up = max(200, int(cycles * _WARM_UP_SHARE))
    for part in (work.run(warm_up), work.settle()):
        yield from part
    before = Holdings.now(pool, tasks())
    for part in (work.run(cycles), work.settle()):
        yield from part
    after = Holdings.now(pool, tasks())
    seconds = time.monotonic() - began_at
    print(f"{work.done} cycles in {seconds:.1f} s, {warm_up} of them before the first look")
    for item in fields(Holdings):
        print(f"  {item.name:15} {getattr(before, item.name):>9} {getattr(after, item.name):>9}")
    reasons = ", ".join(
        f"{count} {reason.value}" for reason, count in pool.stats.connections_closed.most_common()
    )
    print(f"  connections closed: {reasons}")
    left = after.left_since(before)
    if work.outcomes:
        left.append(f"{len(work.outcomes)} sends have not ended")
    return left


def _drive(steps: Iterator[None], turn: Callable[[], None]) -> None:
    for _ in steps:
        turn()


def run(adapter: str, cycles: int, seed: int) -> list[str]:
    """Run on that adapter; returns what is left, in words."""
    with tempfile.TemporaryDirectory(prefix="leaks-") as directory:
        certificates = Certificates(Path(directory)).make()
        tls = TlsSettings(str(certificates.server), ca=str(certificates.ca))
        config = PoolConfig(tls=tls)
        if adapter == "sync":
            return _run_sync(config, certificates, cycles, seed)
        return _run_anyio(adapter, config, certificates, cycles, seed)


def _run_sync(config: PoolConfig, certificates: Certificates, cycles: int, seed: int) -> list[str]:
    left: list[str] = []

    def steps(pool: SomePool) -> Turns:
        left.extend((yield from run_all(pool, certificates, cycles, seed, lambda: 0)))

    with sippool_sync.open_pool(
        "tcp:127.0.0.1:0", "tls:127.0.0.1:0", config=config, handler=answer
    ) as pool:
        _drive(steps(pool), pool.process)
    return left


def _run_anyio(
    backend: str, config: PoolConfig, certificates: Certificates, cycles: int, seed: int
) -> list[str]:
    import anyio.lowlevel

    import sippool_anyio

    def tasks() -> int:
        if backend == "asyncio":
            import asyncio

            return len(asyncio.all_tasks())
        import trio

        return trio.lowlevel.current_statistics().tasks_living

    async def main() -> list[str]:
        async with sippool_anyio.open_pool(
            "tcp:127.0.0.1:0", "tls:127.0.0.1:0", config=config, handler=answer
        ) as pool:
            steps = run_all(pool, certificates, cycles, seed, tasks)
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    left: list[str] = end.value
                    return left
                await anyio.lowlevel.checkpoint()

    return anyio.run(main, backend=backend)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.leaks", description="What connections leave behind; loopback only."
    )
    parser.add_argument("--cycles", type=int, default=2000, help="how many (2000)")
    parser.add_argument("--adapter", choices=ADAPTERS, default="sync", help="which (sync)")
    parser.add_argument("--seed", type=int, default=0, help="of the dice (0)")
    options = parser.parse_args(arguments)
    left = run(options.adapter, options.cycles, options.seed)
    print(f"{options.adapter}: {'; '.join(left) or 'nothing is left'}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
