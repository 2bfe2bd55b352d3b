"""Random applications, and the peers they talk to: what the tests of application faults are made of.

1. A script is a list of acts from a seed: sends of all kinds, receiving, answering, letting go, raising.
2. The peers are one thread that reads in odd portions and answers what arrived whole; each stream is kept.
3. The ledger sees every send a driver takes and every ending it tells.
"""

from __future__ import annotations

import contextlib
import random
import re
import selectors
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass

from sippool_core import SendCancelled, SendFailed
from sippool_sync import Driver, SystemSockets

KINDS = (
    "send_tcp",
    "send_tcp",
    "send_large",
    "send_udp",
    "send_refused",
    "send_together",
    "send_and_let_go",
    "send_and_cancel",
    "receive",
    "receive",
    "reply",
    "close_flow",
    "rest",
    "raise",
    "close",
)
_MARK = re.compile(rb"Call-ID: (m\d+)\r\n")
_LONGEST_HEADER = 400


class Oops(Exception):
    """The application's own error."""


@dataclass(frozen=True)
class Act:
    """One step of a script."""

    kind: str
    patience: float | None
    """Seconds that it is given, if any limit is set."""


def script(seed):
    """What an application does; the rare acts that end it come rarely."""
    rng = random.Random(seed)
    acts = []
    for _ in range(rng.randrange(4, 13)):
        kind = rng.choice(KINDS)
        if kind in ("raise", "close") and rng.random() < 0.6:
            kind = "send_large"
        acts.append(Act(kind, rng.choice([None, None, 0, 0.001, 0.005])))
    return acts


class Ledger:
    """Counts how often each send ended, whatever the driver."""

    def __init__(self, monkeypatch):
        self._taken = Counter()
        self._ended = Counter()
        self._marks = {}
        self.kept_back = set()
        """Marks of the messages of which, as was told, no byte went out."""
        self.endings = Counter()
        """How sends ended, and whether bytes may be out."""
        track, end = Driver.track, Driver._end

        def see_track(driver, outcome):
            self._taken[id(driver), outcome.send_id] += 1
            track(driver, outcome)

        def see_end(driver, ending):
            self._ended[id(driver), ending.send_id] += 1
            self.endings[type(ending), getattr(ending, "bytes_may_be_out", True)] += 1
            if isinstance(ending, SendFailed | SendCancelled) and not ending.bytes_may_be_out:
                self.kept_back.add(self._marks.get((id(driver), ending.send_id)))
            end(driver, ending)

        monkeypatch.setattr(Driver, "track", see_track)
        monkeypatch.setattr(Driver, "_end", see_end)

    def name(self, outcome, mark):
        """A send's message has that mark."""
        self._marks[id(outcome._driver), outcome.send_id] = mark
        if outcome.done:
            ending = outcome._ending
            if isinstance(ending, SendFailed | SendCancelled) and not ending.bytes_may_be_out:
                self.kept_back.add(mark)

    def check(self):
        """Each send that was taken has ended, once."""
        assert self._ended == self._taken
        assert set(self._taken.values()) <= {1}
        self._taken.clear()
        self._ended.clear()
        self._marks.clear()


class Messages:
    """Makes messages that are known again when they arrive."""

    def __init__(self, seed):
        self._random = random.Random(seed)
        self._number = 0
        self.sent = {}

    def make(self, via="TCP", *, large=False):
        """A request; returns its mark too."""
        self._number += 1
        mark = f"m{self._number}"
        size = self._random.randrange(20000, 60000) if large else self._random.randrange(100)
        body = self._random.randbytes(size)
        head = (
            "MESSAGE sip:peer@test SIP/2.0\r\n"
            f"Via: SIP/2.0/{via} app.test:5060;branch=z9hG4bK{mark};rport\r\n"
            f"Call-ID: {mark}\r\n"
            "From: <sip:app@test>;tag=f\r\nTo: <sip:peer@test>\r\nCSeq: 1 MESSAGE\r\n"
            f"Content-Length: {size}\r\n\r\n"
        )
        self.sent[mark] = head.encode() + body
        return mark, self.sent[mark]

    def check(self, streams, kept_back):
        """Only whole messages, each once; what is cut is the very end of its stream."""
        seen = Counter()
        for data in streams:
            at = 0
            while at < len(data):
                if data.startswith(b"SIP/2.0 ", at):
                    # An answer; it has no body.
                    end = data.find(b"\r\n\r\n", at)
                    assert end > 0 or b"MESSAGE" not in data[at:], "an answer is torn"
                    assert data.count(b"SIP/2.0 200", at, end) == 1, "an answer is torn"
                    at = end + 4 if end > 0 else len(data)
                    continue
                found = _MARK.search(data[at : at + _LONGEST_HEADER])
                if found is None:
                    assert any(message.startswith(data[at:]) for message in self.sent.values())
                    break
                mark = found[1].decode()
                message = self.sent[mark]
                part = data[at : at + len(message)]
                assert message.startswith(part), f"the stream is torn at {at}: {part[:100]!r}"
                seen[mark] += 1
                at += len(message)
        assert set(seen.values()) <= {1}, f"sent twice: {seen.most_common(3)}"
        assert not kept_back & set(seen), "a message went out that had been taken back"
        return seen


class Peers:
    """A TCP server, a UDP socket, and a port where nobody is; `streams` are what came."""

    def __init__(self, seed):
        self._random = random.Random(seed)
        self._selector = selectors.DefaultSelector()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._server.settimeout(0.0)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self._udp.settimeout(0.0)
        with socket.create_server(("127.0.0.1", 0)) as gone:
            self.refusing = f"tcp:127.0.0.1:{gone.getsockname()[1]}"
        self.tcp = f"tcp:127.0.0.1:{self._server.getsockname()[1]}"
        self.udp = f"udp:127.0.0.1:{self._udp.getsockname()[1]}"
        self._living = {}
        self._ended = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        for sock in (self._server, self._udp):
            self._selector.register(sock, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._thread.join()
        self._selector.close()
        for sock in (self._server, self._udp, *self._living):
            sock.close()

    def streams(self):
        """What came on each connection since this was asked last, all of them having ended."""
        ends_at = time.monotonic() + 10
        while time.monotonic() < ends_at:
            with self._lock:
                if not self._living and not self._is_waiting():
                    ended, self._ended = self._ended, []
                    return ended
            time.sleep(0.0005)
        raise AssertionError(f"{len(self._living)} connections have not ended")

    def _is_waiting(self):
        return any(key.fileobj is self._server for key, _ in self._selector.select(0))

    def _run(self):
        while not self._stopped.is_set():
            ready = self._selector.select(0.001)
            with self._lock:
                for key, _ in ready:
                    self._look(key.fileobj)

    def _look(self, sock):
        if sock is self._server:
            with contextlib.suppress(BlockingIOError):
                connection, _ = sock.accept()
                connection.settimeout(0.0)
                self._living[connection] = bytearray()
                self._selector.register(connection, selectors.EVENT_READ)
        elif sock is self._udp:
            with contextlib.suppress(BlockingIOError):
                data, source = sock.recvfrom(65536)
                sock.sendto(b"\r\n\r\n" + _echo(data), source)
        elif self._random.random() < 0.7:
            self._read(sock)

    def _read(self, sock):
        try:
            data = sock.recv(self._random.choice([100, 5000, 65536]))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(sock)
            self._ended.append(bytes(self._living.pop(sock)))
            sock.close()
            return
        self._living[sock] += data
        for found in _MARK.finditer(data):
            with contextlib.suppress(OSError):
                sock.send(_echo(found[0]))


def _echo(data):
    """A request of the peer's own, so that there is something to receive and to answer."""
    found = _MARK.search(data)
    mark = found[1].decode() if found else "none"
    text = (
        "INFO sip:app@test SIP/2.0\r\n"
        f"Via: SIP/2.0/TCP peer.test:5060;branch=z9hG4bKe{mark};rport\r\n"
        f"Call-ID: e{mark}\r\nFrom: <sip:peer@test>;tag=f\r\nTo: <sip:app@test>\r\n"
        "CSeq: 1 INFO\r\nContent-Length: 0\r\n\r\n"
    )
    return text.encode()


def answer_to(message):
    """The peer reads no answers, so they can be short; they are known by their ids."""
    kept = [
        line
        for line in bytes(message).split(b"\r\n")
        if line.startswith((b"Via:", b"From:", b"To:", b"Call-ID:", b"CSeq:"))
    ]
    return b"\r\n".join([b"SIP/2.0 200 OK", *kept, b"Content-Length: 0", b"", b""])


class SmallSockets(SystemSockets):
    """The kernel takes only a little at a time, so that most messages are half written for a while."""

    def open_stream(self, peer, local):
        sock = super().open_stream(peer, local)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return sock


class Cut:
    """Awaits a coroutine, counting the places where it is suspended; at one of them something befalls it."""

    def __init__(self, coroutine, at=None, befall=None):
        self._coroutine = coroutine
        self._at = at
        self._befall = befall
        self.places = 0

    def __await__(self):
        inner, answer, error = self._coroutine.__await__(), None, None
        while True:
            try:
                waits_for = inner.send(answer) if error is None else inner.throw(error)
            except StopIteration as end:
                return end.value
            self.places += 1
            if self.places == self._at:
                self._befall()
            try:
                answer, error = (yield waits_for), None
            except BaseException as raised:  # noqa: BLE001 - it is the coroutine's
                error = raised
