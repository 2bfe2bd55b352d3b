"""sippool_anyio: the SIP transport layer (RFC 3261 section 18) for asyncio and trio.

::

    async with sippool_anyio.open_pool("udp:0.0.0.0:5060", "tcp:0.0.0.0:5060") as pool:
        async for received in pool:                   # received.message, received.flow
            pool.reply(received, response_bytes)      # queued at once, on the flow it came by
            await pool.send(request_bytes, "sip:10.0.0.7;transport=tcp")    # done when the kernel has it

It waits for one descriptor; the rest is `sippool_sync`'s driver. Needs `pip install 'sippool[anyio]'`.
"""

from sippool_sync import (
    ListenAt,
    Listener,
    NoDescriptor,
    SendCancelledError,
    SendConnectionError,
    SendError,
    SendRefusedError,
    SendTimeoutError,
)

from .outcome import Outcome
from .pool import AsyncPool, EventIterator, open_pool
from .resolve import resolve

__all__ = [
    "open_pool",
    "AsyncPool",
    "EventIterator",
    "Outcome",
    "Listener",
    "ListenAt",
    "resolve",
    "SendError",
    "SendRefusedError",
    "SendTimeoutError",
    "SendConnectionError",
    "SendCancelledError",
    "NoDescriptor",
]
