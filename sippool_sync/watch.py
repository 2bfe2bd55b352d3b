"""A socket's place in the selector: registered exactly while something is wanted of it.

An empty mask is not the same: epoll reports hang-ups whatever the mask, so a paused socket would spin.
"""

from __future__ import annotations

import selectors
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .sockets import Selector, Socket

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Watch(ABC):
    """What every kind of socket of a pool has in common."""

    __slots__ = ("_selector", "mask", "sock")

    def __init__(self, selector: Selector, sock: Socket) -> None:
        self._selector = selector
        self.sock = sock
        self.mask = 0
        """What is wanted now."""

    def want(self, mask: int) -> None:
        """Wait for these events from now on; 0: for nothing."""
        if mask == self.mask:
            return
        if not self.mask:
            self._selector.register(self.sock, mask, self)
        elif mask:
            self._selector.modify(self.sock, mask, self)
        else:
            self._selector.unregister(self.sock)
        self.mask = mask

    @abstractmethod
    def ready(self, events: int) -> None:
        """Some of the wanted events are there."""


class Waker(Watch):
    """The end of the wake pair that is read."""

    __slots__ = ()

    def __init__(self, selector: Selector, sock: Socket) -> None:
        super().__init__(selector, sock)
        self.want(READ)

    def ready(self, events: int) -> None:
        """There was an interruption, or several."""
        self.sock.recv(4096)
