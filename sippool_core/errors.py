"""What callers did wrong, as exceptions; each is also the built-in one that a script would catch.

What a peer does is never an exception: it is an event (`events`), or the reason of a failed send.
"""

from __future__ import annotations


class SippoolError(Exception):
    """The root of everything this library raises on purpose."""


class ConfigurationError(SippoolError, ValueError):
    """A setting, an address or an SSL context that cannot work; the text says what mends it."""


class InvalidMessage(SippoolError, ValueError):
    """An outgoing message that our own framer would not accept; nothing was queued."""


class NoRoute(SippoolError, ValueError):
    """The pool has no socket that could carry this message, or was told no target; nothing was queued."""


class AmbiguousTransaction(SippoolError, LookupError):
    """A response without a flow whose transaction key is alive on two flows; nothing was queued."""


class QueueFull(SippoolError, BlockingIOError):
    """A bound on queued bytes or messages is reached; nothing was queued, try again later."""


class PoolClosed(SippoolError, RuntimeError):
    """The pool is closing or closed; nothing was queued."""
