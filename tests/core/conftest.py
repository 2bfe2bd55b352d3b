"""Settings, contexts and open engines for the TLS tests."""

from __future__ import annotations

import ssl

import pytest
from cryptography import x509

from sippool_core.config import TlsSettings
from sippool_core.tls import TlsContexts
from tests.core.tls_rig import VERSIONS, client_engine, only, server_engine, shake_hands


@pytest.fixture
def server_settings(server_certificate):
    return TlsSettings(certificate=server_certificate.certificate, key=server_certificate.key)


@pytest.fixture
def client_settings(ca):
    return TlsSettings(ca=ca.file)


@pytest.fixture
def raw_server_context(server_certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_certificate.certificate, server_certificate.key)
    return context


@pytest.fixture
def raw_client_context(ca):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca.file)
    return context


@pytest.fixture
def pair(client_settings, server_settings):
    """Two open engines: client, server."""
    client, server = client_engine(client_settings), server_engine(server_settings)
    shake_hands(client, server)
    assert client.is_open and server.is_open
    return client, server


@pytest.fixture(scope="session")
def client_certificates(ca, other_ca, client_certificate, issue_names):
    name = x509.UniformResourceIdentifier("sip:client.test")
    return {
        "good": client_certificate,
        "other": other_ca.issue("other", name),
        "expired": ca.issue("expired", name, expired=True),
    }


@pytest.fixture(scope="session")
def cached_contexts(ca, server_certificate):
    return TlsContexts.build(
        TlsSettings(server_certificate.certificate, server_certificate.key, ca.file)
    )


@pytest.fixture(scope="session")
def raw_contexts(ca, server_certificate):
    contexts = {}
    for version in VERSIONS:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.load_verify_locations(ca.file)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(server_certificate.certificate, server_certificate.key)
        contexts[version, False] = only(client, version)
        contexts[version, True] = only(server, version)
    return contexts
