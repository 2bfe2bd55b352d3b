"""Certificates, hypothesis profiles and the event loops that every test file may use.

1. Certificates are made once a run, by CAs that live in a temporary directory only.
2. `SIPPOOL_HYPOTHESIS_PROFILE` says how hard the properties are tried: `dev` (default), `ci` or `nightly`.
"""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import hypothesis
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

hypothesis.settings.register_profile("dev", deadline=None, max_examples=50)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=200, derandomize=True)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=5000)
hypothesis.settings.load_profile(os.environ.get("SIPPOOL_HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Tests marked `anyio` run on both."""
    return str(request.param)


@dataclass(frozen=True)
class CertificateFiles:
    """The PEM files of one certificate."""

    certificate: str
    """The chain."""
    key: str


@dataclass(frozen=True)
class Authority:
    """A CA that makes certificates of any kind, bad ones included."""

    directory: Path
    trustme_ca: trustme.CA

    @property
    def file(self) -> str:
        """Its own certificate, as `TlsSettings.ca` wants it."""
        path = self.directory / "ca.pem"
        if not path.exists():
            self.trustme_ca.cert_pem.write_to_path(path)
        return str(path)

    def issue(
        self,
        name: str,
        *alternatives: x509.GeneralName,
        common_name: str | None = None,
        raw_alternatives: bytes | None = None,
        expired: bool = False,
    ) -> CertificateFiles:
        """A certificate with these subjectAltNames (none: without the extension), in files called `name`.

        `raw_alternatives` is the DER of the extension, for what no honest tool would write.
        """
        signer = x509.load_pem_x509_certificate(self.trustme_ca.cert_pem.bytes())
        signer_key = serialization.load_pem_private_key(
            self.trustme_ca.private_key_pem.bytes(), password=None
        )
        assert isinstance(signer_key, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        names = (
            [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(
                x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "sippool tests"), *names])
            )
            .issuer_name(signer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 3 * day)
            .not_valid_after(now - day if expired else now + day)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key.public_key()),
                critical=False,
            )
        )
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        elif raw_alternatives is not None:
            extension = x509.UnrecognizedExtension(
                ExtensionOID.SUBJECT_ALTERNATIVE_NAME, raw_alternatives
            )
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(signer_key, hashes.SHA256())
        files = CertificateFiles(
            str(self.directory / f"{name}.crt"), str(self.directory / f"{name}.key")
        )
        _write(files.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        _write(files.key, private_pem(key))
        return files


def private_pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    """A private key as PEM, encrypted if there is a password."""
    encryption = (
        serialization.NoEncryption()
        if password is None
        else serialization.BestAvailableEncryption(password)
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA that both sides trust."""
    return Authority(tmp_path_factory.mktemp("ca"), trustme.CA())


@pytest.fixture(scope="session")
def other_ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("other_ca"), trustme.CA())


@pytest.fixture(scope="session")
def issue_names(ca: Authority) -> Callable[[str, Sequence[str]], CertificateFiles]:
    """Certificates from text such as `DNS:a.test`, `URI:sip:a.test`, `IP:192.0.2.1`; made once each."""
    made: dict[tuple[str, ...], CertificateFiles] = {}

    def issue(name: str, alternatives: Sequence[str]) -> CertificateFiles:
        key = (name, *alternatives)
        if key not in made:
            made[key] = ca.issue(name, *(_general_name(item) for item in alternatives))
        return made[key]

    return issue


def _general_name(text: str) -> x509.GeneralName:
    import ipaddress

    kind, _, value = text.partition(":")
    if kind == "DNS":
        return x509.DNSName(value)
    if kind == "URI":
        return x509.UniformResourceIdentifier(value)
    return x509.IPAddress(ipaddress.ip_address(value))


@pytest.fixture(scope="session")
def server_certificate(
    issue_names: Callable[[str, Sequence[str]], CertificateFiles],
) -> CertificateFiles:
    """A server known as `server.test`, `3cx.test`, 127.0.0.1 and ::1."""
    return issue_names("server", ["DNS:server.test", "DNS:3cx.test", "IP:127.0.0.1", "IP:::1"])


@pytest.fixture(scope="session")
def client_certificate(
    issue_names: Callable[[str, Sequence[str]], CertificateFiles],
) -> CertificateFiles:
    """A client known as `client.test`."""
    return issue_names("client", ["URI:sip:client.test", "DNS:host7.client.test"])
