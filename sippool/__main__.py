"""The door of the command line: `sippool` and `python -m sippool`.

1. Wrong usage ends with 64 (EX_USAGE) and one line, whatever the subcommand; never with a traceback.
2. Nothing is imported but what the subcommand needs: an adapter only when it is asked for.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

from sippool_core import ConfigurationError

from ._show import complain, escape
from ._stage import ADAPTERS, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Sequence

WRONG_USAGE = 64
"""EX_USAGE of sysexits.h."""
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        complain(escape(message))
        raise SystemExit(WRONG_USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    try:
        return _run(_parser().parse_args(argv))
    except SystemExit as end:
        # argparse's own way to end: --help and wrong usage.
        return end.code if isinstance(end.code, int) else 0
    except (ConfigurationError, MissingExtra) as error:
        complain(escape(str(error), limit=1000))
        return WRONG_USAGE
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "listen":
        from . import listen

        return listen.command(
            arguments.endpoints,
            adapter=arguments.adapter,
            config=listen.configuration(
                arguments.numbers, _tls(arguments), arguments.verify_client, arguments.restrict
            ),
            quiet=arguments.quiet,
        )
    if arguments.command == "ping":
        from . import ping

        return ping.command(
            arguments.target,
            ping.Wishes(
                count=arguments.count,
                interval=arguments.interval,
                timeout=arguments.timeout,
                tls=_tls(arguments),
                tls_name=arguments.tls_name,
                as_json=arguments.json,
            ),
            adapter=arguments.adapter,
        )
    from . import demo

    return demo.command(adapter=arguments.adapter)


def _parser() -> _Parser:
    from ._numbers import table

    parser = _Parser(
        prog="sippool", description="A SIP transport layer at work.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="listen | ping | demo")
    listen = commands.add_parser(
        "listen",
        help="answer every request with 200",
        description="Answer every request but ACK with 200, until SIGINT or SIGTERM. A request header"
        " 'X-Delay: MS' delays its answer (60 s at most).",
        epilog=table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    listen.add_argument(
        "endpoints",
        nargs="+",
        metavar="ENDPOINT",
        help="udp:127.0.0.1:5060, tcp:[::1]:5060, tls:0.0.0.0:5061; port 0 is any free one",
    )
    _add_tls(listen)
    listen.add_argument(
        "--verify-client",
        choices=("none", "optional", "required"),
        default="none",
        help="whether TLS clients must show a certificate (default none)",
    )
    listen.add_argument(
        "--restrict",
        metavar="HOST[:PORT]",
        help="the only address to talk to; others are dropped unparsed",
    )
    listen.add_argument(
        "--set",
        dest="numbers",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one of the numbers below; may be given again",
    )
    listen.add_argument("--quiet", action="store_true", help="no line an event")
    ping = commands.add_parser(
        "ping",
        help="send OPTIONS and show what comes back",
        description="Send OPTIONS, show the status, the time and the connection. Exit code: 0 answered, 1 no"
        " answer in time, 2 not reachable, 3 TLS or identity refused, 64 wrong usage.",
        allow_abbrev=False,
    )
    ping.add_argument(
        "target", metavar="TARGET", help="a SIP URI (sips:host) or an endpoint (tcp:host:5060)"
    )
    ping.add_argument("--count", type=_count, default=1, metavar="N", help="how many (default 1)")
    ping.add_argument(
        "--interval", type=_pause, default=1.0, metavar="S", help="seconds between them (default 1)"
    )
    ping.add_argument(
        "--timeout",
        type=_span,
        default=5.0,
        metavar="S",
        help="seconds to wait for each (default 5)",
    )
    _add_tls(ping)
    ping.add_argument(
        "--tls-name",
        metavar="NAME",
        help="what the certificate must name (default: the host of TARGET)",
    )
    ping.add_argument("--json", action="store_true", help="one JSON object a line")
    demo = commands.add_parser(
        "demo",
        help="see a pool at work on this machine",
        description="A pool and its clients over UDP, TCP and TLS on this machine's loopback.",
        allow_abbrev=False,
    )
    for command in (listen, ping, demo):
        command.add_argument(
            "--adapter", choices=ADAPTERS, default="sync", help="what waits (default sync)"
        )
    return parser


def _add_tls(command: argparse.ArgumentParser) -> None:
    command.add_argument("--tls-cert", metavar="F", help="our certificate chain, PEM")
    command.add_argument(
        "--tls-key", metavar="F", help="its private key, PEM (default: in the same file)"
    )
    command.add_argument("--tls-ca", metavar="F", help="the CAs that peers must be signed by, PEM")


def _tls(arguments: argparse.Namespace) -> tuple[str | None, str | None, str | None]:
    return arguments.tls_cert, arguments.tls_key, arguments.tls_ca


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _pause(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not within 0 to 86400 seconds")
    return seconds


def _span(text: str) -> float:
    seconds = _pause(text)
    if not seconds:
        raise argparse.ArgumentTypeError("0 is no time at all")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
