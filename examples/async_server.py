"""The shortest useful server on asyncio or trio: every request gets 200, on the connection it came by.

    python examples/async_server.py udp:127.0.0.1:5060 tcp:127.0.0.1:5060 --backend trio

What it shows is how little is left to do; what it answers to an INVITE would need a Contact and a session.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import signal
from typing import TYPE_CHECKING

import anyio

import sippool_anyio
from sippool_core import Message, SippoolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TAG = secrets.token_hex(8).encode()
"""The same for a retransmission, for this server remembers nothing (RFC 3261 section 8.2.7)."""


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


async def serve(*places: str) -> None:
    """Answer until Ctrl-C, then close in order."""
    # A KeyboardInterrupt could come at any line, on trio within the pool's own too; a signal receiver waits its turn.
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        async with sippool_anyio.open_pool(*places) as pool, anyio.create_task_group() as tasks:
            tasks.start_soon(close_on, signals, pool)
            for listener in pool.listeners:
                print(f"listening on {listener}")
            async for received in pool:
                if received.message.can_be_answered:  # responses and ACKs are not
                    with contextlib.suppress(SippoolError):  # a peer that does not read its answers
                        pool.reply(received, ok(received.message))


async def close_on(signals: AsyncIterator[signal.Signals], pool: sippool_anyio.AsyncPool) -> None:
    """End the iteration over the pool when a signal comes."""
    await anext(signals)
    pool.close_soon()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="answer every SIP request with 200")
    parser.add_argument(
        "places", nargs="*", default=["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"], metavar="PLACE"
    )
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    arguments = parser.parse_args()
    anyio.run(serve, *arguments.places, backend=arguments.backend)
