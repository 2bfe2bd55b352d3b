"""One suite of behaviours for three runtimes: scenarios are coroutines, and a `Runtime` hides how they wait.

1. On sync a scenario never suspends: each wait drives all open pools itself. On asyncio and trio it really waits.
2. Peers are plain non-blocking sockets of the test, so what the pool sends is seen as bytes.
3. After each test as many descriptors are open as before, and nothing was warned about.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import os
import re
import select
import socket
import time

import anyio
import pytest

import sippool_anyio
import sippool_sync
from sippool_core import MessageReceived

PATIENCE_SECONDS = 10.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a coroutine test with its `rt`."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or "rt" not in pyfuncitem.funcargs:
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    arguments["rt"].run(pyfuncitem.obj, arguments)
    return True


class Runtime:
    """What a scenario may do, whatever runs it."""

    name = ""

    def __init__(self):
        self.peers = contextlib.ExitStack()

    # Differently on each.

    def run(self, scenario, arguments):
        raise NotImplementedError

    def open(self, *listen_at, **arguments):
        """An asynchronous context manager."""
        raise NotImplementedError

    async def turn(self):
        """Let everything run for a moment."""
        raise NotImplementedError

    async def outcome(self, outcome):
        """Wait for an outcome in the adapter's own way."""
        raise NotImplementedError

    async def receive(self, pool):
        """Wait for a message in the adapter's own way."""
        raise NotImplementedError

    async def close(self, pool):
        """Close in the adapter's own way."""
        raise NotImplementedError

    def begin_to_close(self, pool):
        """Close without waiting, as a handler may."""
        raise NotImplementedError

    # The same for all.

    async def until(self, condition, seconds=PATIENCE_SECONDS):
        """Wait until a condition holds; its last value."""
        ends_at = time.monotonic() + seconds
        while True:
            if value := condition():
                return value
            assert time.monotonic() < ends_at, f"in vain: {inspect.getsource(condition).strip()}"
            await self.turn()

    async def event(self, pool, kind):
        """The next event of a kind; others are skipped."""
        found = []

        def look():
            while (event := pool.take_event()) is not None:
                if isinstance(event, kind):
                    found.append(event)
                    return True
            return False

        await self.until(look)
        return found[0]

    async def message(self, pool):
        """The next message."""
        return await self.event(pool, MessageReceived)

    async def ended(self, outcome):
        """The result of an outcome, all pools being driven meanwhile."""
        await self.until(lambda: outcome.done)
        return outcome.result()

    def keep(self, sock):
        """Close a socket of the test at its end."""
        self.peers.callback(sock.close)
        sock.settimeout(0.0)
        return sock

    def udp(self, host="127.0.0.1"):
        """A bound UDP socket of the test."""
        sock = self.keep(socket.socket(family_of(host), socket.SOCK_DGRAM))
        sock.bind((host, 0))
        return sock

    def server(self, host="127.0.0.1"):
        """A listening TCP socket of the test."""
        sock = self.keep(socket.socket(family_of(host), socket.SOCK_STREAM))
        sock.bind((host, 0))
        sock.listen(16)
        return sock

    def dial(self, address):
        """A TCP connection of the test to a listener; the kernel completes it without the pool."""
        sock = socket.socket(family_of(address.host), socket.SOCK_STREAM)
        self.keep(sock)
        sock.settimeout(5)
        sock.connect((address.host, address.port))
        sock.settimeout(0.0)
        return sock

    async def accept(self, server):
        """The next connection to a server of the test."""
        await self.until(lambda: select.select([server], [], [], 0)[0])
        return self.keep(server.accept()[0])

    async def read(self, sock, size):
        """Exactly that many bytes, or what came before the end."""
        data = bytearray()

        def more():
            with contextlib.suppress(BlockingIOError):
                chunk = sock.recv(size - len(data))
                data.extend(chunk)
                return not chunk or len(data) == size
            return False

        await self.until(more)
        return bytes(data)

    async def read_message(self, sock):
        """One message without a body."""
        data = bytearray()
        while not data.endswith(b"\r\n\r\n"):
            byte = await self.read(sock, 1)
            assert byte, f"the peer closed after {bytes(data)!r}"
            data += byte
        return bytes(data)

    async def datagram(self, sock):
        """The next datagram."""
        await self.until(lambda: select.select([sock], [], [], 0)[0])
        return sock.recv(65536)


class SyncRuntime(Runtime):
    name = "sync"

    def __init__(self):
        super().__init__()
        self.pools = []

    def run(self, scenario, arguments):
        with self.peers, contextlib.suppress(StopIteration):
            scenario(**arguments).send(None)
            pytest.fail("a scenario suspended on sync")

    @contextlib.asynccontextmanager
    async def open(self, *listen_at, **arguments):
        with sippool_sync.open_pool(*listen_at, **arguments) as pool:
            self.pools.append(pool)
            try:
                yield pool
            finally:
                self.pools.remove(pool)

    async def turn(self):
        for pool in self.pools:
            pool.process()
        open_ones = [pool for pool in self.pools if not pool.is_closed]
        select.select(open_ones, [], [], 0.002)

    async def outcome(self, outcome):
        return outcome.wait(PATIENCE_SECONDS)

    async def receive(self, pool):
        return pool.receive(PATIENCE_SECONDS)

    async def close(self, pool):
        pool.close()

    def begin_to_close(self, pool):
        pool.close()


class AnyioRuntime(Runtime):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def run(self, scenario, arguments):
        async def main():
            with anyio.fail_after(6 * PATIENCE_SECONDS):
                await scenario(**arguments)
            if self.name == "asyncio":
                import asyncio

                assert len(asyncio.all_tasks()) == 1, "a task was left behind"

        with self.peers:
            anyio.run(main, backend=self.name)

    def open(self, *listen_at, **arguments):
        return sippool_anyio.open_pool(*listen_at, **arguments)

    async def turn(self):
        await anyio.sleep(0.002)

    async def outcome(self, outcome):
        with anyio.fail_after(PATIENCE_SECONDS):
            return await outcome

    async def receive(self, pool):
        with anyio.fail_after(PATIENCE_SECONDS):
            return await pool.receive()

    async def close(self, pool):
        await pool.aclose()

    def begin_to_close(self, pool):
        pool.close_soon()


@pytest.fixture(params=["sync", "asyncio", "trio"])
def rt(request):
    """The runtime of a scenario."""
    return SyncRuntime() if request.param == "sync" else AnyioRuntime(request.param)


@pytest.fixture(autouse=True)
def _no_descriptor_left():
    """Count descriptors around each test."""
    gc.collect()
    before = descriptors()
    yield
    gc.collect()
    assert descriptors() == before, "a descriptor was left open"


def descriptors():
    """What is open, by number; the one that lists them is not counted."""
    return len(os.listdir("/proc/self/fd")) - 1


def family_of(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class Sip:
    """Messages."""

    @staticmethod
    def request(method="OPTIONS", branch="1", *, via="TCP", call_id="a@test", body=b"", tag="f"):
        head = (
            f"{method} sip:bob@example.test SIP/2.0\r\n"
            f"Via: SIP/2.0/{via} client.test:5060;branch=z9hG4bK{branch};rport\r\n"
            f"From: <sip:alice@example.test>;tag={tag}\r\n"
            "To: <sip:bob@example.test>\r\n"
            f"Call-ID: {call_id}\r\n"
            f"CSeq: 1 {method}\r\n"
            "Max-Forwards: 70\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    @staticmethod
    def answer(request, status=200):
        """The response to a request, given as bytes or as a received message."""
        lines = bytes(request).split(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        kept = [
            line for line in lines if re.match(rb"(Via|From|To|Call-ID|CSeq):", line, re.IGNORECASE)
        ]
        kept = [line + b";tag=t" if line.startswith(b"To:") else line for line in kept]
        return b"\r\n".join([b"SIP/2.0 %d Answer" % status, *kept, b"Content-Length: 0", b"", b""])

    @staticmethod
    def header(message, name):
        """The first value of a header."""
        found = re.search(rb"(?mi)^%s: ([^\r\n]*)" % name.encode(), bytes(message))
        return found[1].decode() if found else None


@pytest.fixture(scope="session")
def sip():
    """Builds messages."""
    return Sip
