"""A whole stack on the bare core: plain sockets and `select`, no adapter. Answers OPTIONS over UDP and TCP.

    python examples/bare_core.py --host 127.0.0.1 --port 5060

It shows the contract of `sippool_core.Pool`: report what the sockets did, do what it says, wait until its deadline.
It opens no connections, so there is no `OpenConnection` to perform.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import select
import signal
import socket
import struct
import time

import sippool_core as core

RESET = struct.pack("ii", 1, 0)  # SO_LINGER for no time: close sends RST
TAG = secrets.token_hex(8).encode()


class Stack:
    """A pool and its sockets, known by the numbers that the pool gave them."""

    def __init__(self, host: str, port: int) -> None:
        self.now = time.monotonic()
        # select() can watch no descriptor above 1023.
        self.pool = core.Pool(core.PoolConfig().replace(max_connections=900), now=self.now)
        self.sockets: dict[int, socket.socket] = {}
        self.reading: set[int] = set()
        self.unsent: dict[int, bytes] = {}
        self.udp = self.listen(core.Transport.UDP, socket.SOCK_DGRAM, host, port)
        self.tcp = self.listen(core.Transport.TCP, socket.SOCK_STREAM, host, port)
        # A signal only makes a byte readable, so it never falls between a command and its performance.
        self.stop, self.stopper = socket.socketpair()
        self.stopper.settimeout(0)
        signal.set_wakeup_fd(self.stopper.fileno())
        signal.signal(signal.SIGINT, lambda *_: None)

    def listen(self, transport: core.Transport, kind: int, host: str, port: int) -> int:
        """Bind a socket, and tell the pool."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        local = core.Address.from_sockaddr(sock.getsockname())
        print(f"listening on {transport.value}:{local}")
        return self.add(self.pool.add_listener(transport, local, now=self.now), sock)

    def add(self, number: int, sock: socket.socket) -> int:
        """Serve a socket from now on."""
        sock.settimeout(0)
        self.sockets[number] = sock
        self.reading.add(number)
        return number

    def run(self) -> None:
        """Serve until a signal comes, then close in order: what is queued still goes out."""
        while not self.pool.is_closed:
            deadline = self.pool.next_deadline()
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            readers = [self.stop, *(self.sockets[number] for number in self.reading)]
            writers = [self.sockets[number] for number in self.unsent]
            readable, writable, _ = select.select(readers, writers, [], timeout)
            self.now = time.monotonic()
            for number in [n for n in self.reading if self.sockets[n] in readable]:
                self.read(number)
            for number in [n for n in self.unsent if self.sockets[n] in writable]:
                self.write(number)
            if self.stop in readable:
                self.stop.recv(1)
                self.pool.close(now=self.now)
            self.pool.handle_timer(now=self.now)
            self.settle()
        self.stop.close()
        self.stopper.close()

    def settle(self) -> None:
        """Perform every command and answer every request, until there is neither."""
        while True:
            while (effect := self.pool.next_effect()) is not None:
                self.perform(effect)
            event = self.pool.next_event()
            if event is None:
                return
            if isinstance(event, core.MessageReceived) and event.message.can_be_answered:
                # It raises where a peer does not read its answers, and while we close.
                with contextlib.suppress(core.SippoolError):
                    self.pool.reply(event, answer(event.message), now=self.now)

    def perform(self, effect: core.Effect) -> None:
        """Do what the pool says; the outcomes of sends are effects too, and nobody here waits for them."""
        match effect:
            case core.WriteData(number, data):
                self.unsent[number] = data
                self.write(number)
            case core.SendDatagram(number, send_id, data, peer):
                try:
                    self.sockets[number].sendto(data, (peer.host, peer.port))
                    self.pool.handle_datagram_sent(send_id, now=self.now)
                except OSError as error:  # no room now (EAGAIN) as well: the peer will ask again
                    self.pool.handle_datagram_failed(send_id, error.errno or 0, now=self.now)
            case core.PauseReading(number) | core.PauseAccepting(number):
                self.reading.discard(number)
            case core.ResumeReading(number) | core.ResumeAccepting(number):
                self.reading.add(number)
            case core.ShutdownWriting(number):
                try:
                    self.sockets[number].shutdown(socket.SHUT_WR)
                except OSError as error:
                    self.failed(number, error)
            case core.CloseConnection(number, abort):
                self.remove(number, abort=abort)
            case core.CloseListener(number):
                self.remove(number)

    def read(self, number: int) -> None:
        """Read once, and report."""
        sock = self.sockets[number]
        try:
            if number == self.tcp:
                self.accept(*sock.accept())
            elif number == self.udp:
                data, source = sock.recvfrom(65536)
                peer = core.Address.from_sockaddr(source)
                self.pool.handle_datagram(number, data, peer, now=self.now)
            elif data := sock.recv(65536):
                self.pool.handle_data(number, data, now=self.now)
            else:
                self.reading.discard(number)  # it would be readable for ever
                self.pool.handle_eof(number, now=self.now)
        except BlockingIOError:
            pass
        except OSError as error:
            self.failed(number, error)

    def accept(self, sock: socket.socket, source: tuple[str, int]) -> None:
        """Ask the pool whether it wants this connection."""
        peer, local = map(core.Address.from_sockaddr, (source, sock.getsockname()))
        number = self.pool.handle_accepted(self.tcp, peer, local, now=self.now)
        if number is not None:
            self.add(number, sock)
        else:
            close(sock, abort=True)

    def write(self, number: int) -> None:
        """Write what the kernel takes, keep the rest, and report."""
        try:
            count = self.sockets[number].send(self.unsent[number])
        except BlockingIOError:
            return
        except OSError as error:
            self.failed(number, error)
            return
        rest = self.unsent.pop(number)[count:]
        if rest:
            self.unsent[number] = rest
        self.pool.handle_written(number, count, now=self.now)

    def failed(self, number: int, error: OSError) -> None:
        """Report an error. What becomes of the socket is the pool's to say."""
        code = error.errno or 0
        if number == self.tcp:  # out of descriptors, for instance
            self.pool.handle_accept_failed(number, code, now=self.now)
        elif number == self.udp:
            self.pool.handle_unreachable(number, code, None, now=self.now)
        else:
            self.reading.discard(number)
            self.unsent.pop(number, None)
            self.pool.handle_lost(number, code, now=self.now)

    def remove(self, number: int, *, abort: bool = False) -> None:
        """Close a socket, and forget its number."""
        self.reading.discard(number)
        self.unsent.pop(number, None)
        close(self.sockets.pop(number), abort=abort)


def close(sock: socket.socket, *, abort: bool) -> None:
    """Close a socket, if `abort` with RST."""
    if abort:
        with contextlib.suppress(OSError):  # some systems refuse it once the peer has reset
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def answer(request: core.Message) -> bytes:
    """200 to OPTIONS, 405 to all else, with what RFC 3261 section 8.2.6.2 says to copy."""
    status = b"200 OK" if request.method == "OPTIONS" else b"405 Method Not Allowed"
    to = request.headers("to")[0] + (b"" if request.to_tag else b";tag=" + TAG)
    lines = [
        b"SIP/2.0 " + status,
        *(b"Via: " + via for via in request.headers("via")),
        b"From: " + request.headers("from")[0],
        b"To: " + to,
        b"Call-ID: " + request.call_id,
        b"CSeq: %d %b" % (request.cseq_number, request.method.encode()),
        b"Allow: OPTIONS",
        b"Content-Length: 0",
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="answer OPTIONS over UDP and TCP")
    parser.add_argument("--host", default="127.0.0.1", help="an IP address")
    parser.add_argument("--port", type=int, default=5060, help="0: any, another for each")
    arguments = parser.parse_args()
    Stack(arguments.host, arguments.port).run()
