"""SIPp against `sippool listen`, and `sippool ping` against SIPp's server."""

from __future__ import annotations

import re
import socket
import time

import pytest

from tests.commands import run_sippool

pytestmark = pytest.mark.interop

CALLS = 200
# SIPp's names: u1 is one UDP socket, t1 one TCP connection for all calls, tn one for each call.
WAYS = [
    pytest.param("u1", "udp", "127.0.0.1", 0, id="udp"),
    pytest.param("t1", "tcp", "127.0.0.1", 1, id="one-tcp"),
    pytest.param("tn", "tcp", "127.0.0.1", CALLS, id="many-tcp"),
    pytest.param("u1", "udp", "::1", 0, id="udp-ipv6"),
    pytest.param("t1", "tcp", "::1", 1, id="one-tcp-ipv6"),
]


def received(summary):
    """Requests, ACKs, answers, and the connections accepted, of `listen`'s summary."""
    numbers = [int(number) for number in re.findall(r"\d+", summary[1])]
    assert summary[1].endswith("0 not deliverable, 0 still owed")
    assert summary[3] == "malformed: 0"
    assert summary[4] == "dropped: 0"
    return (*numbers[1:3], numbers[4], int(re.findall(r"\d+", summary[2])[0]))


@pytest.mark.parametrize(("mode", "transport", "host", "connections"), WAYS)
@pytest.mark.parametrize("scenario", ["call", "options"])
def test_sipp_calls(sipp, listen, adapter, scenario, mode, transport, host, connections):
    bracketed = f"[{host}]" if ":" in host else host
    server = listen(f"{transport}:{bracketed}:0", "--quiet", "--adapter", adapter)
    port = next(iter(server.addresses.values()))[1]
    sipp.call(
        scenario,
        host,
        *("-t", mode, "-m", str(CALLS), "-r", "1000", "-max_socket", "1000"),
        f"{bracketed}:{port}",
    )
    requests, acks, answered, accepted = received(server.stop())
    per_call = {"call": (3, 1, 2), "options": (1, 0, 1)}[scenario]
    if transport == "tcp":
        assert (requests, acks, answered) == tuple(number * CALLS for number in per_call)
    else:
        # SIPp may send a datagram again on a busy machine.
        assert requests >= per_call[0] * CALLS
        assert answered >= per_call[2] * CALLS
    assert accepted == connections


@pytest.mark.parametrize(("mode", "transport"), [("u1", "udp"), ("t1", "tcp")])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_sippool_pings_sipp(sipp, adapter, mode, transport, host):
    port = free_port(transport, host)
    bracketed = f"[{host}]" if ":" in host else host
    server = sipp.start("answer_options", host, "-t", mode, "-p", str(port), "-m", "3")
    wait_for_server(transport, port)
    ended = run_sippool(
        "ping",
        f"sip:sipp@{bracketed}:{port};transport={transport}",
        "--count=3",
        "--interval=0.01",
        "--adapter",
        adapter,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    lines = ended.stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("200 All well  ") for line in lines)
    if transport == "tcp":
        assert [line.endswith("connection reused") for line in lines] == [False, True, True]
    assert server.wait(10) == 0, sipp.told()


def free_port(transport, host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def wait_for_server(transport, port):
    """Until something is bound to the port; asking by a connection would be a call to SIPp."""
    wanted = f":{port:04X}"
    tables = [f"/proc/net/{transport}", f"/proc/net/{transport}6"]
    ends_at = time.monotonic() + 10
    while time.monotonic() < ends_at:
        for table in tables:
            with open(table) as lines:
                if any(line.split()[1].endswith(wanted) for line in lines):
                    return
        time.sleep(0.02)
    raise AssertionError("SIPp does not listen")
