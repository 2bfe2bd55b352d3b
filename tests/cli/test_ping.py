"""`sippool ping`: what it shows, and the exit code for each way in which it can go wrong."""

from __future__ import annotations

import json
import re
import socket
import ssl
import sys
import threading
from contextlib import ExitStack

import pytest

import sippool_sync
from sippool.__main__ import main
from sippool_core import Address, Target, Transport
from tests.commands import PATIENCE, request, run_sippool

KINDS = {"udp": "udp:127.0.0.1:0", "tcp": "tcp:127.0.0.1:0"}


@pytest.fixture
def tls_server(listen, server_certificate, ca):
    """Starts a TLS server; `required`: it wants a client certificate."""

    def start(*, required=False):
        server = listen(
            "tls:127.0.0.1:0",
            "--tls-cert",
            server_certificate.certificate,
            "--tls-key",
            server_certificate.key,
            "--tls-ca",
            ca.file,
            *(("--verify-client", "required") if required else ()),
        )
        return server.addresses["tls"][1]

    return start


@pytest.fixture
def serve():
    """A TCP server of few words: reads once from each connection and writes what it is told."""
    threads = []
    sockets = []

    def start(*, respond=None, context=None):
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def run():
            try:
                peer, _ = listener.accept()
                sockets.append(peer)
                if context is not None:
                    peer = context.wrap_socket(peer, server_side=True)
                    sockets.append(peer)
                data = peer.recv(65536)
                if respond is not None:
                    peer.sendall(respond(data))
            except OSError:
                return

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return listener.getsockname()[1]

    yield start
    for one in sockets:
        one.close()
    for thread in threads:
        thread.join(PATIENCE)


def silent_datagram_socket():
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    return silent


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ping(capsys, *arguments):
    """Run it within this process: exit code, and the lines it wrote."""
    code = main(["ping", *arguments])
    printed = capsys.readouterr()
    assert printed.err == ""
    return code, printed.out.splitlines()


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_answered(listen, adapter, capsys, kind):
    server = listen(KINDS[kind])
    port = server.addresses[kind][1]
    code, lines = ping(
        capsys,
        f"sip:me@127.0.0.1:{port};transport={kind}",
        "--count=3",
        "--interval=0.01",
        "--adapter",
        adapter,
    )
    assert code == 0
    ways = [""] * 3 if kind == "udp" else ["  new connection", *["  connection reused"] * 2]
    for number, (line, way) in enumerate(zip(lines, ways, strict=True), 1):
        assert re.fullmatch(
            rf"200 OK  {kind}:127\.0\.0\.1:{port}  seq {number}  \d+\.\d ms{way}", line
        )
    assert any(f"OPTIONS sip:me@127.0.0.1:{port}" in line for line in server.lines)


def test_over_ipv6(listen, adapter, capsys):
    server = listen("udp:[::1]:0", "tcp:[::1]:0")
    for kind in ("udp", "tcp"):
        port = server.addresses[f"{kind}6"][1]
        assert ping(capsys, f"{kind}:[::1]:{port}", "--adapter", adapter)[0] == 0


def test_tls_facts(tls_server, ca, adapter, capsys):
    port = tls_server()
    arguments = [f"sips:127.0.0.1:{port}", "--tls-ca", ca.file, "--adapter", adapter]
    code, lines = ping(capsys, *arguments, "--count=2", "--interval=0")
    assert code == 0
    assert re.fullmatch(
        r"    TLSv1\.3 TLS_\w+, identity 127\.0\.0\.1,"
        r" certificate valid until 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ, [01] days left",
        lines[1],
    )
    assert lines[2].endswith("connection reused")
    assert len(lines) == 3
    code, lines = ping(capsys, *arguments, "--json", "--tls-name", "SERVER.test.")
    assert code == 0
    told = json.loads(lines[0])
    assert (told["result"], told["status"], told["reused"]) == ("answered", 200, False)
    assert told["tls"]["version"] == "TLSv1.3"
    assert told["tls"]["identity"].lower().rstrip(".") == "server.test"
    assert 0 < told["tls"]["certificate_seconds_left"] <= 86400
    assert told["tls"]["certificate_expires"].endswith("Z")


def test_with_a_client_certificate(tls_server, ca, client_certificate, adapter, capsys):
    port = tls_server(required=True)
    arguments = [f"tls:127.0.0.1:{port}", "--tls-ca", ca.file, "--adapter", adapter]
    shown = ["--tls-cert", client_certificate.certificate, "--tls-key", client_certificate.key]
    assert ping(capsys, *arguments, *shown)[0] == 0
    code, lines = ping(capsys, *arguments)
    assert code == 3
    assert len(lines) == 1
    assert lines[0].startswith(f"TLS refused: tls:127.0.0.1:{port}  seq 1  (certificate_refused")


def test_a_name_is_resolved(listen, adapter, capsys):
    server = listen(KINDS["tcp"])
    port = server.addresses["tcp"][1]
    code, lines = ping(capsys, f"tcp:localhost:{port}", "--adapter", adapter)
    assert code == 0
    assert f"tcp:127.0.0.1:{port}" in lines[0]


def test_the_next_address_is_tried(listen, adapter, capsys, monkeypatch):
    server = listen(KINDS["udp"], KINDS["tcp"])
    for transport in (Transport.UDP, Transport.TCP):
        port = server.addresses[transport.value][1]
        monkeypatch.setattr(
            sippool_sync,
            "resolve",
            lambda _, transport=transport, port=port: [
                Target(transport, Address(host, port), "host.test") for host in ("::1", "127.0.0.1")
            ],
        )
        code, lines = ping(
            capsys,
            f"{transport.value}:host.test:{port}",
            "--adapter",
            adapter,
            "--count=2",
            "--interval=0",
        )
        assert code == 0
        assert all("127.0.0.1" in line for line in lines)


def test_an_unknown_name_is_not_reachable(capsys, monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert main(["ping", "sip:nobody.test"]) == 2
    printed = capsys.readouterr()
    assert "nobody.test cannot be resolved" in printed.err + printed.out


def test_nobody_answers(adapter, capsys, serve):
    with silent_datagram_socket() as silent:
        port = silent.getsockname()[1]
        code, lines = ping(capsys, f"sip:127.0.0.1:{port}", "--timeout=0.2", "--adapter", adapter)
    assert (code, len(lines)) == (1, 1)
    assert lines[0].startswith(f"no answer: udp:127.0.0.1:{port}  seq 1  (timeout")
    code, lines = ping(
        capsys, f"tcp:127.0.0.1:{serve()}", "--timeout=0.2", "--adapter", adapter, "--json"
    )
    assert code == 1
    assert json.loads(lines[0])["result"] == "no_answer"


def test_a_tls_server_that_says_nothing(adapter, capsys, serve):
    code, lines = ping(capsys, f"sips:127.0.0.1:{serve()}", "--timeout=0.2", "--adapter", adapter)
    assert (code, len(lines)) == (1, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="a full backlog drops connects on Linux only")
def test_a_place_that_does_not_even_connect(adapter, capsys):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        code, lines = ping(capsys, f"tcp:127.0.0.1:{port}", "--timeout=0.3", "--adapter", adapter)
    assert (code, len(lines)) == (2, 1)
    assert "connect_timeout" in lines[0]


def test_a_server_that_hangs_up(adapter, capsys, serve):
    port = serve(respond=lambda _: b"SIP/2.0 100 Trying\r\n" + b"x" * 20000)
    code, lines = ping(capsys, f"tcp:127.0.0.1:{port}", "--timeout=5", "--adapter", adapter)
    assert (code, len(lines)) == (1, 1)
    assert "framing_error" in lines[0]


@pytest.mark.parametrize(
    ("transport", "kind", "why"),
    [("udp", socket.SOCK_DGRAM, "icmp"), ("tcp", socket.SOCK_STREAM, "connection_refused")],
)
def test_nobody_is_there(adapter, capsys, transport, kind, why):
    port = free_port(kind)
    code, lines = ping(
        capsys, f"{transport}:127.0.0.1:{port}", "--adapter", adapter, "--count=2", "--interval=0"
    )
    assert (code, len(lines)) == (2, 2)
    for number, line in enumerate(lines, 1):
        assert line.startswith(
            f"not reachable: {transport}:127.0.0.1:{port}  seq {number}  ({why}: "
        )


def test_the_wrong_name(tls_server, ca, adapter, capsys):
    port = tls_server()
    code, lines = ping(
        capsys,
        f"sips:127.0.0.1:{port}",
        "--tls-ca",
        ca.file,
        "--tls-name",
        "other.test",
        "--adapter",
        adapter,
    )
    assert (code, len(lines)) == (3, 1)
    assert lines[0].startswith(
        f"TLS refused: tls:127.0.0.1:{port} (other.test)  seq 1  (identity_mismatch"
    )


def test_an_unknown_authority(tls_server, other_ca, adapter, capsys):
    port = tls_server()
    code, lines = ping(
        capsys, f"sips:127.0.0.1:{port}", "--tls-ca", other_ca.file, "--adapter", adapter
    )
    assert (code, len(lines)) == (3, 1)
    assert "handshake_failed" in lines[0]


def test_a_server_without_tls(listen, adapter, capsys):
    port = listen(KINDS["tcp"]).addresses["tcp"][1]
    code, lines = ping(capsys, f"sips:127.0.0.1:{port}", "--adapter", adapter)
    assert (code, len(lines)) == (3, 1)


def test_any_final_response_is_an_answer_and_is_escaped(adapter, capsys, serve):
    def respond(data):
        head = data.split(b"\r\n")
        copied = [
            line for line in head if line[:4] in (b"Via:", b"From", b"To: ", b"Call", b"CSeq")
        ]
        body = b"\r\n".join([*copied, b"Content-Length: 0", b"", b""])
        return (
            b"SIP/2.0 100 Trying\r\n"
            + body
            + request("TCP", uri="sip:back@127.0.0.1")
            + b"SIP/2.0 503 \x1b[31mNo\\\xff\r\n"
            + body
        )

    port = serve(respond=respond)
    code, lines = ping(capsys, f"tcp:127.0.0.1:{port}", "--adapter", adapter)
    assert code == 0
    assert lines[0].startswith("503 \\x1b[31mNo\\x5c\\xff  tcp:")


def test_an_answer_to_something_else_is_none(adapter, capsys, serve):
    def respond(data):
        head = data.replace(b"z9hG4bK", b"z9hG4bKx").split(b"\r\n")[1:]
        return b"\r\n".join([b"SIP/2.0 200 OK", *head])

    code, _ = ping(
        capsys, f"tcp:127.0.0.1:{serve(respond=respond)}", "--timeout=0.3", "--adapter", adapter
    )
    assert code == 1


def test_as_a_process(listen, adapter):
    port = listen(KINDS["udp"]).addresses["udp"][1]
    ended = run_sippool("ping", f"udp:127.0.0.1:{port}", "--adapter", adapter)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("200 OK")


def test_tls_1_2(serve, server_certificate, ca, adapter, capsys):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_certificate.certificate, server_certificate.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def respond(data):
        return data.replace(data.split(b"\r\n")[0], b"SIP/2.0 200 OK", 1)

    port = serve(respond=respond, context=context)
    code, lines = ping(capsys, f"sips:127.0.0.1:{port}", "--tls-ca", ca.file, "--adapter", adapter)
    assert code == 0
    assert "TLSv1.2" in lines[1]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["127.0.0.1"],
        ["http://127.0.0.1/"],
        ["sip:[::1"],
        ["sip:127.0.0.1;transport=sctp"],
        ["sip:127.0.0.1:0"],
        ["sip:127.0.0.1", "--count=0"],
        ["sip:127.0.0.1", "--count=x"],
        ["sip:127.0.0.1", "--timeout=0"],
        ["sip:127.0.0.1", "--timeout=nan"],
        ["sip:127.0.0.1", "--interval=-1"],
        ["sip:127.0.0.1", "--tls-name=x"],
        ["sip:127.0.0.1", "--tls-ca=/nonexistent.pem"],
        ["sips:127.0.0.1", "--tls-ca=/nonexistent.pem"],
        ["sips:127.0.0.1", "--tls-key=/nonexistent.pem"],
        ["sip:b\u00fccher.test"],
        ["sip:127.0.0.1", "--js"],
    ],
)
def test_wrong_usage_of_ping_is_64(arguments, capsys):
    assert main(["ping", *arguments]) == 64
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1].startswith("sippool: ")
