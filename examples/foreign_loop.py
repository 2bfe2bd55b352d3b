"""A pool in somebody else's loop: attached, detached, and attached again, without losing what came in between.

    python examples/foreign_loop.py

`Loop` stands for any loop that can wait for a descriptor and for an instant (Qt, GLib, a game's); `Attachment` is
all that such a loop needs to drive a pool. The clients know of neither.
"""

from __future__ import annotations

import secrets
import selectors
import socket
import time
from typing import TYPE_CHECKING

import sippool_sync
from sippool_core import Event, Message, MessageReceived, PoolConfig

if TYPE_CHECKING:
    from collections.abc import Callable

TAG = secrets.token_hex(8).encode()


class Loop:
    """Knows descriptors and instants, and nothing of SIP."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.alarms: dict[Callable[[], None], float] = {}

    def run(self, seconds: float) -> None:
        """Serve everybody for this long."""
        ends_at = time.monotonic() + seconds
        while (now := time.monotonic()) < ends_at:
            next_at = min([ends_at, *self.alarms.values()])
            for key, _ in self.selector.select(max(0.0, next_at - now)):
                key.data()
            for callback, at in tuple(self.alarms.items()):
                if at <= time.monotonic():
                    del self.alarms[callback]
                    callback()


class Attachment:
    """A pool's place in the loop: one descriptor and one alarm."""

    def __init__(self, loop: Loop, pool: sippool_sync.SyncPool) -> None:
        self._loop, self._pool = loop, pool
        # A bound method is made anew whenever it is looked up; the loop knows alarms by their callback.
        self._callback = self.process

    def attach(self) -> None:
        """From now on the loop drives the pool; what waits in the kernel comes first."""
        self._loop.selector.register(self._pool.fileno(), selectors.EVENT_READ, self._callback)
        self.process()

    def detach(self) -> None:
        """Nothing is read, answered or timed out until `attach`; the kernel keeps what comes."""
        self._loop.selector.unregister(self._pool.fileno())
        self._loop.alarms.pop(self._callback, None)

    def process(self) -> None:
        """Do what is due. Also to be called after `send` or `reply` outside of the handler: deadlines change."""
        self._pool.process()
        self._loop.alarms.pop(self._callback, None)
        deadline = self._pool.next_deadline()  # of time.monotonic, the loop's clock as well
        if deadline is not None:
            self._loop.alarms[self._callback] = deadline


def answer(pool: sippool_sync.SyncPool, event: Event) -> None:
    """The pool's handler: 200 to every request."""
    if isinstance(event, MessageReceived) and event.message.can_be_answered:
        pool.reply(event, ok(event.message))


def ok(request: Message) -> bytes:
    """The answer, with what RFC 3261 section 8.2.6.2 says to copy."""
    to = request.headers("to")[0] + (b"" if request.to_tag else b";tag=" + TAG)
    lines = [
        b"SIP/2.0 200 OK",
        *(b"Via: " + via for via in request.headers("via")),
        b"From: " + request.headers("from")[0],
        b"To: " + to,
        b"Call-ID: " + request.call_id,
        b"CSeq: %d %b" % (request.cseq_number, request.method.encode()),
        b"Content-Length: 0",
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


class Client:
    """Somebody else's too: a connection that the same loop reads."""

    def __init__(self, loop: Loop, address: tuple[str, int]) -> None:
        self._loop = loop
        self._socket = socket.create_connection(address)
        self._loop.selector.register(self._socket, selectors.EVENT_READ, self._read)
        self.heard = "nothing"

    def ask(self) -> None:
        """Send a request."""
        here = "{}:{}".format(*self._socket.getsockname())
        lines = [
            "OPTIONS sip:localhost SIP/2.0",
            f"Via: SIP/2.0/TCP {here};branch=z9hG4bK{secrets.token_hex(8)}",
            "Max-Forwards: 70",
            f"From: <sip:client@{here}>;tag={secrets.token_hex(8)}",
            "To: <sip:localhost>",
            f"Call-ID: {secrets.token_hex(12)}",
            "CSeq: 1 OPTIONS",
            "Content-Length: 0",
        ]
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def close(self) -> None:
        """Hang up."""
        if self._socket.fileno() >= 0:
            self._loop.selector.unregister(self._socket)
            self._socket.close()

    def _read(self) -> None:
        data = self._socket.recv(65536)
        self.heard = data.decode().partition("\r\n")[0] if data else "the end"
        if not data:
            self.close()


def main() -> None:
    """Attach, detach, attach."""
    loop = Loop()
    config = PoolConfig().replace(first_message_seconds=0.2)
    with sippool_sync.open_pool("tcp:127.0.0.1:0", config=config, handler=answer) as pool:
        listener = pool.listeners[0]
        address = (listener.address.host, listener.address.port)
        attachment = Attachment(loop, pool)

        attachment.attach()
        first, silent = Client(loop, address), Client(loop, address)
        first.ask()
        loop.run(0.4)
        print(f"attached: {first.heard}")
        print(f"a client that says nothing: {silent.heard}")  # the alarm's work

        attachment.detach()
        second = Client(loop, address)  # the kernel takes the connection and the request
        second.ask()
        loop.run(0.2)
        print(f"detached: {second.heard}")

        attachment.attach()
        loop.run(0.2)
        print(f"attached again: {second.heard}")

        attachment.detach()
        for client in (first, silent, second):
            client.close()
    loop.selector.close()


if __name__ == "__main__":
    main()
