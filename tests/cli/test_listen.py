"""`sippool listen` as a process, on every adapter."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import time

import pytest

from sippool.__main__ import main
from sippool_core import Endpoint, Limits, Timeouts, number_names
from tests.commands import (
    PATIENCE,
    ROOT,
    StreamPeer,
    datagram_peer,
    python,
    request,
    run_sippool,
)

LOOPBACK = ("udp:127.0.0.1:0", "tcp:127.0.0.1:0")


def header_lines(message):
    return message.raw.decode().split("\r\n")


def test_answers_over_every_transport(listen, adapter, ca, server_certificate, client_certificate):
    server = listen(
        *LOOPBACK,
        "udp:[::1]:0",
        "tcp:[::1]:0",
        "tls:127.0.0.1:0",
        "--adapter",
        adapter,
        "--tls-cert",
        server_certificate.certificate,
        "--tls-key",
        server_certificate.key,
        "--tls-ca",
        ca.file,
        "--verify-client",
        "required",
    )
    context = ssl.create_default_context(cafile=ca.file)
    context.load_cert_chain(client_certificate.certificate, client_certificate.key)
    tags = set()
    for key in ("tcp", "tcp6", "tls"):
        secured = (context, "server.test") if key == "tls" else ()
        with StreamPeer(server.addresses[key], *secured) as peer:
            peer.send(request(key[:3].upper(), branch=key))
            answer = peer.receive()
            lines = header_lines(answer)
            assert lines[0] == "SIP/2.0 200 OK"
            assert lines[1].startswith(
                f"Via: SIP/2.0/{key[:3].upper()} 127.0.0.1:5999;branch=z9hG4bK-"
            )
            assert "From: <sip:a@127.0.0.1>;tag=from" in lines
            assert "Call-ID: call@127.0.0.1" in lines
            assert "CSeq: 1 OPTIONS" in lines
            tags.add(answer.to_tag)
    for key in ("udp", "udp6"):
        with datagram_peer(server.addresses[key]) as peer:
            port = peer.getsockname()[1]
            peer.send(request("UDP", branch=key))
            answer = peer.recv(65536)
            assert answer.startswith(b"SIP/2.0 200 OK\r\n")
            assert b"rport=%d" % port in answer
    assert all(len(tag) == 16 for tag in tags)
    assert server.stop()[1].startswith(
        "messages: 5 received (5 requests, 0 of them ACK; 0 responses)"
    )
    shown = "\n".join(server.lines)
    assert "opened (TLSv1.3, client.test)" in shown
    assert "OPTIONS sip:test@127.0.0.1 SIP/2.0" in shown


def test_an_ack_and_a_tagged_to(listen, adapter):
    server = listen(*LOOPBACK, "--adapter", adapter)
    with StreamPeer(server.addresses["tcp"]) as peer:
        peer.send(request("TCP", method="ACK"))
        again = request("TCP", method="BYE", branch="2").replace(
            b"To: <sip:test@127.0.0.1>", b"t: <sip:test@127.0.0.1>;tag=kept"
        )
        peer.send(again)
        answer = peer.receive()
        assert answer.cseq_method == "BYE"
        assert answer.to_tag == b"kept"
    assert "(2 requests, 1 of them ACK; 0 responses), 1 answered" in server.stop()[1]


def test_a_delayed_answer_holds_up_nobody(listen, adapter):
    server = listen(*LOOPBACK, "--adapter", adapter)
    with StreamPeer(server.addresses["tcp"]) as peer:
        began_at = time.monotonic()
        for number, delay in ((1, 600), (2, 200), (3, 0)):
            peer.send(request("TCP", f"x-DELAY: {delay}", number=number, branch=str(number)))
        peer.send(request("TCP", "X-Delay: soon", number=4, branch="4"))
        order, times = [], {}
        for _ in range(4):
            number = peer.receive().cseq_number
            order.append(number)
            times[number] = time.monotonic() - began_at
        assert order == [3, 4, 2, 1]
        assert times[1] >= 0.59
        assert times[2] >= 0.19
    server.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_what_is_owed(listen, adapter, number):
    server = listen(*LOOPBACK, "--adapter", adapter)
    with StreamPeer(server.addresses["tcp"]) as peer:
        peer.send(request("TCP", "X-Delay: 500", number=1, branch="1"))
        peer.send(request("TCP", "X-Delay: 99999999999", number=2, branch="2"))
        peer.send(request("TCP", number=3, branch="3"))
        assert peer.receive().cseq_number == 3
        signalled_at = time.monotonic()
        server.send_signal(number)
        assert peer.receive().cseq_number == 2, "beyond the grace: answered at once"
        assert peer.receive().cseq_number == 1
        assert time.monotonic() - signalled_at < 5
        assert peer.receive() is None
    assert "3 answered, 0 not deliverable, 0 still owed" in server.finish()[1]


def test_a_second_signal_waits_for_nothing(listen, adapter):
    server = listen(*LOOPBACK, "--adapter", adapter, "--quiet")
    with StreamPeer(server.addresses["tcp"]) as peer:
        peer.send(request("TCP", "X-Delay: 4900", branch="1"))
        peer.send(request("TCP", branch="2", number=2))
        assert peer.receive().cseq_number == 2
        server.send_signal(signal.SIGINT)
        while not any("are owed" in line for line in server.lines):
            time.sleep(0.01)
        signalled_at = time.monotonic()
        server.send_signal(signal.SIGINT)
        assert peer.receive() is None
        assert time.monotonic() - signalled_at < 4
    assert "1 answered, 0 not deliverable, 1 still owed" in server.finish()[1]


def test_what_peers_write_is_escaped_and_cut(listen, adapter):
    server = listen(*LOOPBACK, "--adapter", adapter)
    with datagram_peer(server.addresses["udp"]) as peer:
        peer.send(request("UDP", uri="sip:\x1b[2J\x07" + "x" * 500))
        peer.recv(65536)
        peer.send(b"\x1b]0;owned\x07 SIP/2.0\r\n\r\n")
        peer.send(request("UDP", branch="2", uri="sip:ende@127.0.0.1"))
        peer.recv(65536)
    summary = server.stop()
    assert "not_sip" in summary[-1]
    shown = [line for line in server.lines if "\\x1b[2J\\x07xxx" in line]
    assert len(shown) == 1
    assert "... (" in shown[0]
    assert len(shown[0]) < 320
    assert all(line.isprintable() and line.isascii() for line in server.lines)


def test_malformed_and_smuggled_requests_are_answered_and_counted(listen, adapter):
    server = listen(*LOOPBACK, "--adapter", adapter)
    with StreamPeer(server.addresses["tcp"]) as peer:
        peer.send(request("TCP", "Call-ID: another"))
        answer = peer.receive()
        assert answer.status == 400
        assert answer.headers("call-id") == [b"call@127.0.0.1"]
        hidden = request("TCP", branch="hidden")
        two = b"Content-Length: %d\r\nContent-Length: 0\r\n" % len(hidden)
        peer.send(request("TCP", branch="2").replace(b"Content-Length: 0\r\n", two) + hidden)
        assert peer.receive().status == 400
        assert peer.receive() is None
    summary = server.stop()
    assert summary[1].startswith("messages: 0 received")
    assert summary[2].startswith("connections: 1 accepted, 0 opened, 1 closed (1 framing_error)")
    assert summary[3] == "malformed: 2 (1 call_id, 1 conflicting_content_length)"


def test_a_restriction_drops_and_counts_the_others(listen, adapter):
    server = listen(*LOOPBACK, "--adapter", adapter, "--restrict", "127.0.0.1")
    with datagram_peer(server.addresses["udp"], source="127.0.0.2") as stranger:
        stranger.send(request("UDP"))
        stranger.send(request("UDP"))
        with datagram_peer(server.addresses["udp"]) as friend:
            friend.send(request("UDP"))
            assert friend.recv(65536).startswith(b"SIP/2.0 200")
        stranger.settimeout(0.1)
        with pytest.raises(TimeoutError):
            stranger.recv(65536)
    assert server.stop()[-1] == "dropped: 2 (2 not_allowed)"


def test_the_descriptor_limit_is_raised_to_fit(listen, adapter):
    server = listen(
        *LOOPBACK, "--adapter", adapter, "--set", "max_connections=900", before="ulimit -Sn 256"
    )
    server.stop()


def test_a_hard_descriptor_limit_is_told():
    ended = run_sippool("listen", *LOOPBACK, "--set", "max_connections=900", before="ulimit -n 256")
    assert ended.returncode == 64
    assert "900" in ended.stderr
    assert "256" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_port_is_one_clear_line(adapter):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_sippool("listen", f"tcp:127.0.0.1:{port}", "--adapter", adapter)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith("sippool: cannot listen: ")
    assert len(ended.stderr.splitlines()) == 1


def test_numbers_reach_the_pool(listen, adapter):
    server = listen(
        *LOOPBACK,
        "--adapter",
        adapter,
        "--set",
        "max_connections=2",
        "--set",
        "min_idle_seconds=0.1",
        "--set",
        "max_idle_seconds=0.4",
    )
    with StreamPeer(server.addresses["tcp"]) as idle:
        assert idle.receive() is None
    summary = server.stop()
    assert "1 closed (1 expired)" in summary[2]


def test_a_reader_that_has_gone_stops_the_lines_only(adapter):
    command = python("-m", "sippool", "listen", "tcp:127.0.0.1:0", "--adapter", adapter)
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            address = Endpoint.parse(process.stdout.readline().split()[-1]).address
            process.stdout.close()
            with StreamPeer((address.host, address.port)) as peer:
                for number in range(3):
                    peer.send(request("TCP", branch=str(number)))
                    assert peer.receive().status == 200
            process.terminate()
            assert process.wait(PATIENCE) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["listen"],
        ["listen", "127.0.0.1:5060"],
        ["listen", "sctp:127.0.0.1:5060"],
        ["listen", "udp:localhost:5060"],
        ["listen", "udp:127.0.0.1:99999"],
        ["listen", "udp:[::1:5060"],
        ["listen", "tls:127.0.0.1:0"],
        ["listen", "tls:127.0.0.1:0", "--tls-cert", "/nonexistent.pem"],
        ["listen", "udp:127.0.0.1:0", "--tls-key", "/nonexistent.pem"],
        ["listen", "udp:127.0.0.1:0", "--verify-client", "required"],
        ["listen", "udp:127.0.0.1:0", "--verify-client", "perhaps"],
        ["listen", "udp:127.0.0.1:0", "--restrict", "localhost"],
        ["listen", "udp:127.0.0.1:0", "--restrict", "::1"],
        ["listen", "udp:127.0.0.1:0", "--adapter", "twisted"],
        ["listen", "udp:127.0.0.1:0", "--set", "max_connections"],
        ["listen", "udp:127.0.0.1:0", "--set", "max_connections=many"],
        ["listen", "udp:127.0.0.1:0", "--set", "max_connections=0"],
        ["listen", "udp:127.0.0.1:0", "--set", "connect_seconds=nan"],
        ["listen", "udp:127.0.0.1:0", "--set", "no_such_number=1"],
        ["listen", "udp:127.0.0.1:0", "--qui"],
        ["frobnicate"],
        ["demo", "again"],
    ],
)
def test_wrong_usage_is_64(arguments, capsys):
    assert main(arguments) == 64
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1].startswith("sippool: ")


def test_help_lists_every_number(capsys):
    assert main(["listen", "--help"]) == 0
    text = capsys.readouterr().out
    for group in (Limits(), Timeouts()):
        for name in number_names(type(group)):
            assert f"  {name} " in text
            assert str(getattr(group, name)) in text
    assert "max_body_bytes                    65536 bytes" in text


def test_no_adapter_is_imported_before_it_is_asked_for():
    code = (
        "import sys; from sippool.__main__ import main; main(['--help']); "
        "print([name for name in ('anyio', 'ssl', 'asyncio', 'sippool_sync', 'sippool_anyio', 'trustme')"
        " if name in sys.modules])"
    )
    ended = subprocess.run(
        python("-c", code), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert ended.stdout.splitlines()[-1] == "[]"
