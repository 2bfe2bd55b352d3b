"""Every example as a process of its own, talked to over loopback; and the Python of the documents.

Warnings are errors in these processes too, and whatever they write on standard error fails the test.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import os
import re
import select
import signal
import socket
import subprocess
import threading

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from cryptography import x509

import sippool_anyio
import sippool_core
import sippool_sync
from sippool_core import Endpoint, Limits, MessageReceived, frame_datagram
from tests.commands import PATIENCE, ROOT, StreamPeer, datagram_peer, python, request

BACKENDS = ("asyncio", "trio")


class Example:
    """A running example that tells where it listens."""

    def __init__(self, name, *arguments, listeners):
        self.process = start(name, *arguments)
        self.addresses = {}
        for _ in range(listeners):
            line = self.process.stdout.readline()
            found = re.match(r"listening on ([^ ,\n]+)", line)
            if found is None:
                pytest.fail(f"it does not listen: {line!r} {self.process.communicate()}")
            endpoint = Endpoint.parse(found[1])
            self.addresses[endpoint.transport.value] = endpoint.address[:2]

    def stop(self):
        """It ends well on Ctrl-C, and has not complained."""
        self.process.send_signal(signal.SIGINT)
        out, errors = self.process.communicate(timeout=PATIENCE)
        assert (self.process.returncode, errors) == (0, ""), (out, errors)


def start(name, *arguments):
    return subprocess.Popen(
        python(str(ROOT / "examples" / name), *arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)},
    )


def run(name, *arguments):
    """Run an example to its end: exit status, standard output, standard error."""
    process = start(name, *arguments)
    try:
        return (*process.communicate(timeout=PATIENCE), process.returncode)
    finally:
        process.kill()


@pytest.fixture
def example():
    """Starts examples that listen; each must end well at the end of the test."""
    running = []

    def begin(name, *arguments, listeners=2):
        running.append(Example(name, *arguments, listeners=listeners))
        return running[-1].addresses

    yield begin
    try:
        for one in running:
            one.stop()
    finally:
        for one in running:
            one.process.kill()


@pytest.fixture
def sockets():
    """Closes the sockets of the test."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context


class Server:
    """A TCP server of the test: the other side of the relay."""

    def __init__(self, sockets):
        self._sockets = sockets
        self._listener = sockets(socket.create_server(("127.0.0.1", 0)))
        self._listener.settimeout(PATIENCE)
        self.port = self._listener.getsockname()[1]

    def accept(self):
        peer = StreamPeer.__new__(StreamPeer)
        peer.socket = self._sockets(self._listener.accept()[0])
        peer.socket.settimeout(PATIENCE)
        peer._framer = sippool_core.StreamFramer(Limits())
        return peer


def read_datagram(sock):
    return frame_datagram(sock.recv(65536), Limits())


def answer(message, status=200, *, length=True):
    """The response to a request, as plain as can be."""
    lines = [f"SIP/2.0 {status} Fine".encode()]
    for name in ("Via", "From", "To", "Call-ID", "CSeq"):
        lines += [name.encode() + b": " + value for value in message.headers(name)]
    lines += [b"Content-Length: 0"] if length else []
    return b"\r\n".join([*lines, b"", b""])


def is_quiet(sock, seconds=0.2):
    return not select.select([sock], [], [], seconds)[0]


# Servers.


SERVERS = [
    ("async_server.py", "udp:127.0.0.1:0", "tcp:127.0.0.1:0", "--backend", "asyncio"),
    ("async_server.py", "udp:127.0.0.1:0", "tcp:127.0.0.1:0", "--backend", "trio"),
    ("bare_core.py", "--port", "0"),
]


@pytest.fixture(params=SERVERS, ids=["asyncio", "trio", "bare_core"])
def server(request, example):
    return example(*request.param)


def test_a_server_answers_over_udp(server, sockets):
    peer = sockets(datagram_peer(server["udp"]))
    for number in (1, 2):
        peer.send(request("UDP", number=number, branch=f"b{number}"))
        response = read_datagram(peer)
        assert (response.status, response.cseq_number) == (200, number)
        assert response.via.rport == peer.getsockname()[1]
        assert response.to_tag


def test_a_server_answers_over_tcp_and_on_the_same_connection(server, sockets):
    first, second = (sockets(StreamPeer(server["tcp"])) for _ in range(2))
    second.send(request("TCP", branch="second"))
    first.send(request("TCP", branch="one") + request("TCP", branch="two", number=2))
    assert [first.receive().via.branch for _ in range(2)] == [b"z9hG4bK-one", b"z9hG4bK-two"]
    assert second.receive().via.branch == b"z9hG4bK-second"


def test_a_server_outlives_bad_peers(server, sockets):
    with StreamPeer(server["tcp"]) as stranger:
        stranger.send(b"GET / HTTP/1.1\r\n\r\n")
        assert stranger.receive() is None
    with StreamPeer(server["tcp"]) as rude:
        rude.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        rude.send(request("TCP")[:50])
    peer = sockets(datagram_peer(server["udp"]))
    peer.send(b"nonsense")
    peer.send(request("UDP", method="ACK"))
    peer.send(request("UDP", method="OPTIONS"))
    assert read_datagram(peer).method == "OPTIONS"


def test_a_server_is_done_with_a_broken_stream_in_two_steps(server, sockets):
    peer = sockets(StreamPeer(server["tcp"]))
    peer.send(b"GET / HTTP/1.1\r\n\r\n")
    assert peer.receive() is None, "FIN first: a reset would destroy answers on their way"
    for _ in range(3):
        peer.send(b"still here")
    with pytest.raises(ConnectionError):  # after close_seconds
        while True:
            peer.send(b"and now?")
            is_quiet(peer.socket, 0.1)


def test_a_server_answers_the_last_request_of_a_client_that_has_finished(server, sockets):
    peer = sockets(StreamPeer(server["tcp"]))
    peer.send(request("TCP"))
    peer.socket.shutdown(socket.SHUT_WR)
    assert peer.receive().status == 200
    assert peer.receive() is None


def test_the_bare_core_keeps_whole_what_the_kernel_does_not_take_at_once(example, sockets):
    server = example("bare_core.py", "--port", "0")
    peer = sockets(StreamPeer(server["tcp"]))

    def ask(number):
        # The Via comes back, so the answers are as long as the requests.
        text = request("TCP", number=number, branch=f"{number}")
        peer.send(text.replace(b";rport", b";long=" + b"x" * 12_000))

    # More than the buffers of both kernels and the pool's queue hold: some will not be answered.
    count = 1500
    for number in range(1, count):
        ask(number)
    numbers = [peer.receive().cseq_number]
    while numbers[-1] < count:
        # Whenever there is nothing to be read, there is room for the last answer.
        if is_quiet(peer.socket, 0.1):
            ask(count)
        numbers.append(peer.receive().cseq_number)
    assert numbers == sorted(numbers)
    assert 1 < len(numbers) < count


def test_the_bare_core_refuses_what_it_does_not_know(example, sockets):
    peer = sockets(datagram_peer(example("bare_core.py", "--port", "0")["udp"]))
    peer.send(request("UDP", method="MESSAGE"))
    response = read_datagram(peer)
    assert (response.status, response.headers("allow")) == (405, [b"OPTIONS"])


# The script.


def test_the_script_tells_status_and_time(example):
    server = example("bare_core.py", "--port", "0")
    for transport in ("udp", "tcp"):
        uri = "sip:{}:{};transport={}".format(*server[transport], transport)
        out, errors, code = run("script.py", uri, "--timeout", "3")
        assert (code, errors) == (0, "")
        assert re.fullmatch(r"200 OK in \d+\.\d ms\n", out)


def test_the_script_says_why_there_is_no_answer(sockets):
    silent = sockets(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    silent.bind(("127.0.0.1", 0))
    out, errors, code = run(
        "script.py", f"sip:127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.2"
    )
    assert (out, code) == ("", 1)
    assert "within" in errors
    refusing = sockets(socket.socket())
    refusing.bind(("127.0.0.1", 0))
    uri = f"sip:127.0.0.1:{refusing.getsockname()[1]};transport=tcp"
    out, errors, code = run("script.py", uri)
    assert (out, code) == ("", 1)
    assert "refused" in errors


def test_the_script_is_not_fooled_by_another_branch(sockets):
    server = sockets(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    server.bind(("127.0.0.1", 0))
    server.settimeout(PATIENCE)
    process = start("script.py", f"sip:127.0.0.1:{server.getsockname()[1]}")
    data, peer = server.recvfrom(65536)
    response = answer(frame_datagram(data, Limits()), 486)
    server.sendto(response.replace(b"z9hG4bK", b"z9hG4bKx").replace(b"486", b"200"), peer)
    server.sendto(response.replace(b"486", b"100"), peer)
    server.sendto(response, peer)
    out, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (1, "")
    assert out.startswith("486 Fine in ")


def test_the_script_verifies_tls(ca):
    files = ca.issue("localhost", x509.DNSName("localhost"))
    tls = sippool_core.TlsSettings(certificate=files.certificate, key=files.key)
    with serving("tls:127.0.0.1:0", tls=tls) as pool:
        uri = f"sips:localhost:{pool.listeners[0].address.port}"
        out, errors, code = run("script.py", uri)
        assert (out, code) == ("", 1), "an unknown CA"
        out, errors, code = run("script.py", uri, "--ca", ca.file)
        assert errors == "", errors
        assert code == 0
        assert out.startswith("200 ")


@contextlib.contextmanager
def serving(*places, **arguments):
    """A pool in a thread of its own that answers."""
    ready = threading.Event()
    pools = []

    def handle(pool, event):
        if isinstance(event, MessageReceived) and event.message.can_be_answered:
            pool.reply(event, answer(event.message))

    def serve():
        with sippool_sync.open_pool(*places, handler=handle, **arguments) as pool:
            pools.append(pool)
            ready.set()
            pool.run()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield pools[0]
    finally:
        pools[0].wake()
        thread.join()


# The foreign loop.


def test_a_pool_is_detached_from_a_foreign_loop_and_attached_again():
    out, errors, code = run("foreign_loop.py")
    assert (code, errors) == (0, "")
    assert out.splitlines() == [
        "attached: SIP/2.0 200 OK",
        "a client that says nothing: the end",
        "detached: nothing",
        "attached again: SIP/2.0 200 OK",
    ]


# The relay.


@pytest.fixture(params=BACKENDS)
def relay(request, example):
    """Starts a relay to a port of the test."""

    def begin(to, *arguments, listen="udp"):
        return example(
            "relay.py",
            *("--listen", f"{listen}:127.0.0.1:0", "--to", to, "--backend", request.param),
            *arguments,
            listeners=1,
        )[listen]

    return begin


def to_tcp(server):
    return f"sip:127.0.0.1:{server.port};transport=tcp"


def test_the_relay_puts_its_via_on_top_and_takes_it_off_again(relay, sockets):
    server = Server(sockets)
    client = sockets(datagram_peer(relay(to_tcp(server))))
    client.send(request("UDP", branch="client"))
    connection = server.accept()
    forwarded = connection.receive()
    ours, theirs = forwarded.headers("via")
    assert ours.startswith(b"SIP/2.0/TCP 127.0.0.1:")
    assert b"branch=z9hG4bK-client" in theirs
    assert b"rport=%d" % client.getsockname()[1] in theirs
    assert forwarded.headers("max-forwards") == [b"69"]
    connection.send(answer(forwarded, 100) + answer(forwarded, 180) + answer(forwarded))
    responses = [read_datagram(client) for _ in range(2)]
    assert [response.status for response in responses] == [180, 200]
    assert all(response.headers("via") == [theirs] for response in responses)
    assert is_quiet(client)


def test_the_relay_takes_its_via_out_of_a_list(relay, sockets):
    server = Server(sockets)
    client = sockets(datagram_peer(relay(to_tcp(server))))
    client.send(request("UDP"))
    connection = server.accept()
    forwarded = connection.receive()
    response = answer(forwarded)
    first = response.index(b"Via:")
    second = response.index(b"Via:", first + 1)
    connection.send(response[: second - 2] + b"\r\n , " + response[second + len(b"Via: ") :])
    assert read_datagram(client).headers("via") == forwarded.headers("via")[1:]


def test_the_relay_goes_from_tcp_to_udp(relay, sockets):
    server = sockets(datagram_server())
    uri = f"sip:127.0.0.1:{server.getsockname()[1]}"
    client = sockets(StreamPeer(relay(uri, listen="tcp")))
    client.send(request("TCP"))
    data, source = server.recvfrom(65536)
    # A datagram needs no Content-Length, but the connection back to the client does.
    server.sendto(answer(frame_datagram(data, Limits()), length=False), source)
    response = client.receive()
    assert (response.status, response.content_length) == (200, 0)


def test_the_relay_adds_the_content_length_that_a_stream_needs(relay, sockets):
    server = Server(sockets)
    client = sockets(datagram_peer(relay(to_tcp(server))))
    text = request("UDP", method="MESSAGE").replace(b"Content-Length: 0\r\n", b"") + b"hello"
    client.send(text)
    assert server.accept().receive().body == b"hello"


def test_the_relay_changes_nothing_in_a_body(relay, sockets):
    server = Server(sockets)
    client = sockets(datagram_peer(relay(to_tcp(server))))
    body = b"MESSAGE sip:b@test SIP/2.0\r\nVia: SIP/2.0/UDP b\r\nMax-Forwards: 3\r\n\r\nrest"
    text = request("UDP", method="MESSAGE").replace(b"Max-Forwards: 70\r\n", b"")
    client.send(text.replace(b"Content-Length: 0", b"Content-Length: %d" % len(body)) + body)
    connection = server.accept()
    forwarded = connection.receive()
    assert (forwarded.body, forwarded.headers("max-forwards")) == (body, [b"69"])
    response = answer(forwarded).replace(b"Content-Length: 0", b"Content-Length: %d" % len(body))
    connection.send(response + body)
    assert read_datagram(client).body == body


def test_the_relay_gives_each_client_its_own_answer(relay, sockets):
    server = Server(sockets)
    address = relay(to_tcp(server))
    clients = [sockets(datagram_peer(address)) for _ in range(3)]
    for client in clients:
        client.send(request("UDP", branch="all-the-same"))
    connection = server.accept()
    forwarded = [connection.receive() for _ in clients]
    assert len({message.via.branch for message in forwarded}) == 3
    for message in reversed(forwarded):
        connection.send(answer(message))
    for client in clients:
        assert read_datagram(client).via.rport == client.getsockname()[1]


def test_the_relay_keeps_the_branch_of_retransmission_cancel_and_ack(relay, sockets):
    server = Server(sockets)
    client = sockets(datagram_peer(relay(to_tcp(server))))
    for method in ("INVITE", "INVITE", "CANCEL", "ACK", "OPTIONS"):
        client.send(request("UDP", method=method, number=1 if method != "OPTIONS" else 2))
    connection = server.accept()
    forwarded = [connection.receive() for _ in range(5)]
    *same, other = [message.via.branch for message in forwarded]
    assert len(set(same)) == 1
    assert other not in same
    invite, _, cancel, *_ = forwarded
    connection.send(answer(cancel) + answer(invite, 487))
    statuses = [read_datagram(client) for _ in range(2)]
    assert [(r.status, r.method) for r in statuses] == [(200, "CANCEL"), (487, "INVITE")]


def test_the_relay_says_503_where_nobody_listens(relay, sockets):
    closed = sockets(socket.socket())
    closed.bind(("127.0.0.1", 0))
    uri = f"sip:127.0.0.1:{closed.getsockname()[1]};transport=tcp"
    client = sockets(datagram_peer(relay(uri)))
    client.send(request("UDP"))
    response = read_datagram(client)
    assert response.status == 503
    assert response.to_tag
    client.send(request("UDP", method="ACK"))
    assert is_quiet(client)


@pytest.mark.parametrize("hops", [b"0", b"none", b"1000"])
def test_the_relay_ends_loops(relay, sockets, hops):
    server = Server(sockets)
    client = sockets(datagram_peer(relay(to_tcp(server))))
    client.send(request("UDP").replace(b"Max-Forwards: 70", b"Max-Forwards:\r\n " + hops))
    assert read_datagram(client).status == 483


def test_the_relay_forgets_whom_nobody_answers(relay, sockets):
    server = Server(sockets)
    client = sockets(datagram_peer(relay(to_tcp(server), "--t1", "0.001")))
    client.send(request("UDP", branch="late"))
    connection = server.accept()
    late = connection.receive()
    assert is_quiet(client, 0.1)
    connection.send(answer(late) + answer(late))
    assert is_quiet(client)
    client.send(request("UDP", branch="early"))
    connection.send(answer(connection.receive()))
    assert read_datagram(client).via.branch == b"z9hG4bK-early"


def test_the_relay_passes_a_final_answer_once(relay, sockets):
    server = Server(sockets)
    client = sockets(datagram_peer(relay(to_tcp(server))))
    client.send(request("UDP"))
    connection = server.accept()
    forwarded = connection.receive()
    connection.send(answer(forwarded) + answer(forwarded, 500))
    assert read_datagram(client).status == 200
    assert is_quiet(client)


def datagram_server():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(PATIENCE)
    return sock


# The Python of the documents.


def blocks(document):
    """Its Python, each block where it stands, so that errors name the right line."""
    text = (ROOT / document).read_text()
    for found in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield "\n" * text.count("\n", 0, found.start(1)) + found[1]


DOCUMENTS = [
    *(path.name for path in ROOT.glob("*.md")),
    *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]


def compiled(block, document="README.md"):
    return compile(block, document, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("document", sorted(DOCUMENTS))
def test_the_python_of_a_document_is_python(document):
    for block in blocks(document):
        compiled(block, document)


def readme_block(word):
    """The one block of the README with this word in it."""
    [block] = [block for block in blocks("README.md") if word in block]
    return block


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_async_block_of_the_readme_runs(backend, sockets):
    server = Server(sockets)
    block = readme_block("sippool_anyio.open_pool").replace(":5060", ":0")
    names = {
        "sippool_anyio": sippool_anyio,
        "answer_to": lambda received: answer(received.message),
        "request": request("TCP", branch="onward"),
    }
    code = compiled(block.replace(":5070", f":{server.port}"))
    assert code.co_flags & inspect.CO_COROUTINE

    def talk():
        [address] = [one.address for one in names["pool"].listeners if one.transport.value == "udp"]
        client = sockets(datagram_peer(address[:2]))
        client.send(request("UDP", branch="inward"))
        assert read_datagram(client).via.branch == b"z9hG4bK-inward"
        assert server.accept().receive().via.branch == b"z9hG4bK-onward"

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(functools.partial(eval, code, names))
            while "pool" not in names:
                await anyio.lowlevel.checkpoint()
            await anyio.to_thread.run_sync(talk)
            tasks.cancel_scope.cancel()

    anyio.run(main, backend=backend)


def test_the_sync_block_of_the_readme_runs(capsys):
    block = readme_block("sippool_sync.open_pool")
    with serving("udp:127.0.0.1:0") as pool:
        names = {"sippool_sync": sippool_sync, "request": request("UDP")}
        port = pool.listeners[0].address.port
        exec(compiled(block.replace(":5070", f":{port}")), names)  # noqa: S102
    assert capsys.readouterr().out == "200\n"


def test_the_bare_block_of_the_readme_runs():
    performed = []
    names = {
        "sippool_core": sippool_core,
        "clock": lambda: 0.0,
        "connection_id": 1,
        "data": request("TCP"),
        "perform": performed.append,
    }
    exec(compiled(readme_block("sippool_core.Pool(")), names)  # noqa: S102
    assert isinstance(names["pool"], sippool_core.Pool)
    assert performed == [], "nobody has connected yet"
