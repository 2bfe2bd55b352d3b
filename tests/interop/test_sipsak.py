"""sipsak against `sippool listen`."""

from __future__ import annotations

import subprocess

import pytest

pytestmark = pytest.mark.interop


def run(sipsak, *arguments):
    return subprocess.run(
        [sipsak, "-H", "127.0.0.1", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_sipsak_pings(sipsak, listen, adapter, transport):
    server = listen(f"{transport}:127.0.0.1:0", "--adapter", adapter)
    port = server.addresses[transport][1]
    ended = run(sipsak, "-E", transport, "-vv", "-s", f"sip:test@127.0.0.1:{port}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "SIP/2.0 200 OK" in ended.stdout
    summary = server.stop()
    assert "(1 requests, 0 of them ACK; 0 responses), 1 answered" in summary[1]
    # sipsak 0.9.8 cuts the last digit of a port of five.
    assert any("OPTIONS sip:test@127.0.0.1:" in line for line in server.lines)
