"""Drives one core: performs its commands on sockets, reports what the sockets did, hands out the outcomes.

1. `step` is the only place that waits. It takes at most 16 ready sockets, so that whatever shares the thread
   lives too; what else was ready comes first in the next one.
2. Commands are performed at once after each call, except in a handler: there they wait for the step around it.
3. One thread owns a driver; `wake` alone may be called from others.
4. It decides nothing about SIP, limits, TLS, destinations or time: those are the core's.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING

from sippool_core import (
    CloseConnection,
    ConfigurationError,
    OpenConnection,
    PauseAccepting,
    PauseReading,
    Pool,
    PoolClosed,
    PoolConfig,
    ResumeAccepting,
    ResumeReading,
    SendCancelled,
    SendCompleted,
    SendDatagram,
    SendFailed,
    ShutdownWriting,
    WriteData,
)

from .datagram import DatagramSocket
from .descriptors import fit_descriptors
from .errors import NoDescriptor
from .listeners import Acceptor, Door, Listener, bind
from .sockets import NO_SIGNAL, SystemSockets
from .stream import Stream
from .watch import READ, Waker

if TYPE_CHECKING:
    from collections.abc import Callable

    from sippool_core import Effect, Event, Outcome

    from .listeners import ListenAt
    from .outcome import BaseOutcome
    from .sockets import Socket, SocketLayer
    from .watch import Watch

_SOCKETS_A_STEP = 16
_EVENTS_A_STEP = 256

_log = logging.getLogger("sippool")


class Driver:
    """See the module's rules. `on_change` is called after each step and each call from outside of one."""

    def __init__(
        self,
        config: PoolConfig | None = None,
        *,
        handler: Callable[[Event], None] | None = None,
        sockets: SocketLayer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises `ConfigurationError` for settings that cannot work, and `OSError` where descriptors are used up."""
        self._layer = sockets or SystemSockets()
        config = fit_descriptors(config or PoolConfig(), self._layer.descriptor_limit())
        self.clock = clock
        self.now = clock()
        """The time of the current step or call."""
        self.core = Pool(config, now=self.now)
        self.handler = handler
        self.handler_errors = 0
        """How many exceptions the handler has raised."""
        self.read_bytes = config.limits.read_bytes
        self.on_change: Callable[[], None] = _nothing
        self.is_shut = False
        self.was_woken = False
        """Whether `wake` was called since `take_wake`."""
        self._close_seconds = config.timeouts.close_seconds
        self._thread = threading.get_ident()
        self._is_busy = False
        self._peeked: Event | None = None
        self._ready: deque[tuple[Watch, int]] = deque()
        self._orphans: deque[SendFailed] = deque()
        self._outcomes: dict[int, weakref.ref[BaseOutcome]] = {}
        self._streams: dict[int, Stream] = {}
        self._doors: dict[int, Door] = {}
        self._selector = self._layer.open_selector()
        reader, self._wake_writer = self._layer.open_wake_pair()
        self._waker = Waker(self._selector, reader)

    # What an adapter calls.

    def enter(self) -> float:
        """Begin a call of the application: check the thread, return the time. `perform` ends it."""
        self._check_thread()
        if not self._is_busy:
            self.now = self.clock()
        return self.now

    def perform(self) -> None:
        """Perform what the core commands now; in a handler the step around it will."""
        if self._is_busy:
            return
        self._is_busy = True
        try:
            self._drain()
        finally:
            self._is_busy = False
        self.on_change()

    def step(self, timeout: float | None = 0.0) -> bool:
        """Wait for at most `timeout` seconds (`None`: as long as it takes), then do what is to be done.

        Returns whether anything was. Raises `RuntimeError` in a handler.
        """
        self._check_thread()
        if self._is_busy:
            raise RuntimeError(
                "nothing can wait in a handler; the step around it goes on when it returns"
            )
        if self.is_shut:
            raise PoolClosed("the pool is closed")
        self._is_busy = True
        try:
            did_something = self._step(timeout)
        finally:
            self._is_busy = False
        self.on_change()
        return did_something

    def drive(self, condition: Callable[[], bool], timeout: float | None = None) -> None:
        """Step until the condition holds, the pool is shut, or `timeout` seconds have passed."""
        ends_at = None if timeout is None else self.clock() + timeout
        left: float | None = None
        while not condition() and not self.is_shut and left != 0:
            left = None if ends_at is None else max(0.0, ends_at - self.clock())
            self.step(left)

    @property
    def is_busy(self) -> bool:
        """Whether a step is under way, so that this is a handler's call."""
        return self._is_busy

    @property
    def is_finished(self) -> bool:
        """Whether the pool is closed and everything has been told: time to `shut`."""
        return self.core.is_closed and not (self.handler is not None and self.has_event())

    def finish(self) -> None:
        """End a pool at once that has been closed: what has not gone out by now is given up.

        To the core, giving up early is the passing of the time it would have waited.
        """
        now = self.enter()
        self.core.close(now=now)
        self.core.handle_timer(now=now + self._close_seconds)
        self.perform()
        assert self.core.is_closed, "the core did not end in its own time"
        self.drive(lambda: self.is_finished)

    def shut(self) -> None:
        """Give the listeners' and our own descriptors back; the connections' have gone with `finish`."""
        if self.is_shut:
            return
        self.is_shut = True
        for door in self._doors.values():
            door.watch.close()
            door.bound.release()
        self._doors.clear()
        self._ready.clear()
        self._waker.want(0)
        self._selector.close()
        self._waker.sock.close()
        self._wake_writer.close()

    def wake(self) -> None:
        """Make a waiting `step` return; may be called from any thread, and from a signal handler."""
        self.was_woken = True
        self._interrupt()

    def take_wake(self) -> bool:
        """Whether `wake` was called since this was asked last."""
        was_woken, self.was_woken = self.was_woken, False
        return was_woken

    def fileno(self) -> int:
        """The descriptor that is readable when a `step` has work; raises `NoDescriptor`."""
        fileno: Callable[[], int] | None = getattr(self._selector, "fileno", None)
        if fileno is None:
            raise NoDescriptor(
                f"{type(self._selector).__name__} has no descriptor to wait for; epoll and kqueue have"
            )
        return fileno()

    def next_deadline(self) -> float | None:
        """When to `step` even if the descriptor is not readable; may have passed already."""
        if self._ready or (self.handler is not None and self.has_event()):
            return self.now
        return self.core.next_deadline()

    def has_event(self) -> bool:
        """Whether `next_event` has one."""
        if self._peeked is None:
            while self._orphans:
                self.core.note_unawaited(self._orphans.popleft())
            self._peeked = self.core.next_event()
        return self._peeked is not None

    def next_event(self) -> Event | None:
        """The next event that no handler takes."""
        self.has_event()
        event, self._peeked = self._peeked, None
        return event

    def track(self, outcome: BaseOutcome) -> None:
        """Tell it when its send ends, as long as anybody holds it; then perform."""
        self._outcomes[outcome.send_id] = weakref.ref(outcome)
        self.perform()

    def note_unawaited(self, failed: SendFailed) -> None:
        """A failure was dropped unseen. The garbage collector calls this from any thread."""
        self._orphans.append(failed)
        self._interrupt()

    # Listeners.

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """In the order they were added."""
        return tuple(door.listener for door in self._doors.values())

    def listen(self, where: ListenAt) -> Listener:
        """Open or adopt a socket and serve it; raises what `listeners.bind` and `Pool.add_listener` raise."""
        now = self.enter()
        bound = bind(where, self._layer)
        if any(door.bound.sock is bound.sock for door in self._doors.values()):
            raise ConfigurationError(f"{bound.sock!r} is a listener of this pool already")
        transport, sock, address, peer = (
            bound.transport,
            bound.sock,
            bound.address,
            bound.connected_to,
        )
        try:
            listener_id = self.core.add_listener(transport, address, connected_to=peer, now=now)
        except BaseException:
            bound.release()
            raise
        watch: Acceptor | DatagramSocket
        if transport.is_stream:
            watch = Acceptor(self, self._selector, sock, listener_id)
        else:
            is_connected = peer is not None
            watch = DatagramSocket(self, self._selector, sock, listener_id, connected=is_connected)
        listener = Listener(listener_id, transport, address, sock, peer)
        self._doors[listener_id] = Door(listener, bound, watch)
        return listener

    def add_stream(self, sock: Socket, connection_id: int) -> Stream:
        """A connection has a socket now."""
        stream = self._streams[connection_id] = Stream(self, self._selector, sock, connection_id)
        return stream

    # The step.

    def _step(self, timeout: float | None) -> bool:
        deadline = self.next_deadline()
        if not self._ready:
            if deadline is not None:
                left = max(0.0, deadline - self.clock())
                timeout = left if timeout is None else min(left, timeout)
            self._ready.extend((key.data, events) for key, events in self._selector.select(timeout))
        self.now = self.clock()
        did_something = bool(self._ready)
        for _ in range(min(_SOCKETS_A_STEP, len(self._ready))):
            watch, events = self._ready.popleft()
            # It may have been paused or closed since the selector saw it.
            events &= watch.mask
            if events:
                watch.ready(events)
        if deadline is not None and deadline <= self.now:
            self.core.handle_timer(now=self.now)
            did_something = True
        elif not did_something:
            # The wait is over, and yet it is early: a clock that stepped back meanwhile is the core's to notice.
            self.core.handle_timer(now=self.now)
        self._drain()
        if self.handler is not None:
            self._handle_events(self.handler)
            self._drain()
        return did_something

    def _handle_events(self, handler: Callable[[Event], None]) -> None:
        for _ in range(_EVENTS_A_STEP):
            event = self.next_event()
            if event is None:
                return
            try:
                handler(event)
            except Exception:  # noqa: BLE001 - an application's error must not stop the pool
                self.handler_errors += 1
                _log.exception("the handler of a pool failed on %s", type(event).__name__)

    def _drain(self) -> None:
        while (effect := self.core.next_effect()) is not None:
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, WriteData):
            self._streams[effect.connection_id].write(effect.data)
        elif isinstance(effect, (SendCompleted, SendFailed, SendCancelled)):
            self._end(effect)
        elif isinstance(effect, SendDatagram):
            door = self._doors[effect.listener_id]
            assert isinstance(door.watch, DatagramSocket)
            door.watch.send(effect.send_id, effect.data, effect.peer)
        elif isinstance(effect, OpenConnection):
            self._open(effect)
        elif isinstance(effect, CloseConnection):
            # There is none if not even a socket could be had for it.
            stream = self._streams.pop(effect.connection_id, None)
            if stream is not None:
                stream.close(abort=effect.abort)
        elif isinstance(effect, ShutdownWriting):
            self._streams[effect.connection_id].finish()
        elif isinstance(effect, (PauseReading, ResumeReading)):
            reading = isinstance(effect, ResumeReading)
            self._streams[effect.connection_id].read_on(reading=reading)
        elif isinstance(effect, (PauseAccepting, ResumeAccepting)):
            mask = READ if isinstance(effect, ResumeAccepting) else 0
            self._doors[effect.listener_id].watch.want(mask)
        else:
            door = self._doors.pop(effect.listener_id)
            door.watch.close()
            door.bound.release()

    def _open(self, command: OpenConnection) -> None:
        try:
            sock = self._layer.open_stream(command.peer, command.local)
        except OSError as error:
            self.core.handle_lost(command.connection_id, error.errno or 0, now=self.now)
            return
        self.add_stream(sock, command.connection_id).connect(command.peer)

    def _end(self, ending: Outcome) -> None:
        reference = self._outcomes.pop(ending.send_id, None)
        outcome = None if reference is None else reference()
        if outcome is not None:
            outcome.end(ending)
        elif isinstance(ending, SendFailed):
            self.core.note_unawaited(ending)

    def _interrupt(self) -> None:
        # Closed meanwhile, or so many bytes that the pair is full: either way there is nothing to do.
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"\0", NO_SIGNAL)

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                "a pool belongs to the thread that made it; only wake() is for others"
            )


def _nothing() -> None:
    pass
