"""Certificates of one run, in a directory that lives as long: the server's, a good client's, and wrong ones."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path

SERVER_NAME = "server.test"
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Certificates:
    """PEM files: each certificate with its key in one file."""

    directory: Path

    @property
    def ca(self) -> Path:
        """The CA that both sides trust."""
        return self.directory / "ca.pem"

    @property
    def server(self) -> Path:
        """Names `server.test`."""
        return self.directory / "server.pem"

    @property
    def client(self) -> Path:
        """Names `client.test`."""
        return self.directory / "client.pem"

    @property
    def wrong(self) -> list[Path]:
        """Client certificates that a server must refuse, each for another reason."""
        return sorted(self.directory.glob("wrong-*.pem"))

    def make(self) -> Certificates:
        """Write all of them."""
        now = datetime.datetime.now(datetime.UTC)
        ca, stranger = trustme.CA(), trustme.CA()
        ca.cert_pem.write_to_path(str(self.ca))
        issued = {
            "server": ca.issue_cert(SERVER_NAME, "127.0.0.1"),
            "client": ca.issue_cert("client.test"),
            "wrong-ca": stranger.issue_cert("client.test"),
            "wrong-expired": ca.issue_cert(
                "client.test", not_before=now - 3 * _DAY, not_after=now - _DAY
            ),
            "wrong-future": ca.issue_cert(
                "client.test", not_before=now + _DAY, not_after=now + 3 * _DAY
            ),
        }
        for name, certificate in issued.items():
            certificate.private_key_and_cert_chain_pem.write_to_path(
                str(self.directory / f"{name}.pem")
            )
        # A CA that vouches for itself alone.
        itself = self.directory / "wrong-itself.pem"
        itself.write_bytes(stranger.private_key_pem.bytes() + stranger.cert_pem.bytes())
        return self

    def context(self, certificate: Path | None = None, *, trusting: bool = False) -> ssl.SSLContext:
        """A client's context; `trusting`: the server may show whatever it likes."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if trusting:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context.load_verify_locations(str(self.ca))
        if certificate is not None:
            context.load_cert_chain(str(certificate))
        return context
