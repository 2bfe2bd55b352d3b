"""sippool_sync: the SIP transport layer (RFC 3261 section 18) over plain sockets, for scripts and foreign loops.

::

    with sippool_sync.open_pool("udp:0.0.0.0:5060", "tcp:0.0.0.0:5060") as pool:
        for received in pool:                         # received.message, received.flow
            pool.reply(received, response_bytes)      # goes out on the flow it came by
            pool.send(request_bytes, "sip:10.0.0.7;transport=tcp").wait(timeout=5)

Nothing but Python is needed. `Driver` and what goes with it is for writing other adapters.
"""

from .base import BasePool, listen_at_all, make_config
from .driver import Driver
from .errors import (
    NoDescriptor,
    SendCancelledError,
    SendConnectionError,
    SendError,
    SendRefusedError,
    SendTimeoutError,
)
from .listeners import ListenAt, Listener
from .outcome import BaseOutcome, Outcome
from .pool import SyncPool, open_pool
from .resolve import resolve, socket_type, targets_of
from .sockets import Selector, Socket, SocketLayer, SystemSockets

__all__ = [
    "open_pool",
    "SyncPool",
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
    "Driver",
    "BasePool",
    "BaseOutcome",
    "make_config",
    "listen_at_all",
    "socket_type",
    "targets_of",
    "SocketLayer",
    "Socket",
    "Selector",
    "SystemSockets",
]
