"""A script: ask somebody for OPTIONS, wait for the answer, tell its status and how long it took, connecting included.

    python examples/script.py 'sip:127.0.0.1:5060;transport=tcp' --timeout 2

One request is sent once: to repeat it over UDP is the work of a transaction layer.
"""

from __future__ import annotations

import argparse
import secrets
import socket
import sys

import sippool_sync
from sippool_core import Address, Message, Target, TlsSettings, Transport


def options(uri: str, transport: Transport, sent_by: str, branch: str) -> bytes:
    """An OPTIONS request."""
    lines = [
        f"OPTIONS {uri} SIP/2.0",
        f"Via: SIP/2.0/{transport.name} {sent_by};branch={branch};rport",
        "Max-Forwards: 70",
        f"From: <sip:script@{sent_by}>;tag={secrets.token_hex(8)}",
        f"To: <{uri}>",
        f"Call-ID: {secrets.token_hex(12)}",
        "CSeq: 1 OPTIONS",
        "Content-Length: 0",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def local_host(target: Target) -> str:
    """The address of ours that the system would use to get there; nothing is sent."""
    family = socket.AF_INET6 if target.address.family == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((target.address.host, target.address.port))
        return Address.from_sockaddr(probe.getsockname()).bracketed


def ask(uri: str, timeout: float, tls: TlsSettings | None) -> tuple[Message, float]:
    """The final answer, and after how many seconds it came. Raises `OSError`, `TimeoutError` being one."""
    target = sippool_sync.resolve(uri)[0]
    host = local_host(target)
    # A connection can be opened without any listener, but a datagram needs a socket.
    places = [f"udp:{host}:0"] if target.transport is Transport.UDP else []
    with sippool_sync.open_pool(*places, tls=tls) as pool:
        sent_by = str(pool.listeners[0].address) if places else host
        branch = f"z9hG4bK{secrets.token_hex(8)}"
        ends_at = pool.clock() + timeout
        outcome = pool.send(options(uri, target.transport, sent_by, branch), target)
        outcome.wait(timeout)  # not needed to get an answer, but it raises why there will be none
        while True:
            answer = pool.receive(max(0.0, ends_at - pool.clock())).message
            # A request has status 0; what has another branch is not the answer to this.
            if answer.status >= 200 and answer.client_key == (branch.encode(), "OPTIONS"):
                return answer, pool.clock() + timeout - ends_at


def main() -> int:
    """Returns the exit status: 0 for a 2xx."""
    parser = argparse.ArgumentParser(description="ask for OPTIONS")
    parser.add_argument("uri", nargs="?", default="sip:127.0.0.1:5060")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds")
    parser.add_argument("--ca", help="file with the CAs that a TLS server is verified by")
    arguments = parser.parse_args()
    tls = TlsSettings(ca=arguments.ca) if arguments.ca else None
    try:
        answer, seconds = ask(arguments.uri, arguments.timeout, tls)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{answer.status} {answer.reason_phrase.decode(errors='replace')} in {seconds * 1000:.1f} ms"
    )
    return 0 if answer.status < 300 else 1


if __name__ == "__main__":
    sys.exit(main())
