"""Whom a TLS engine trusts, and what it learns where it is not trusted."""

from __future__ import annotations

import ssl

import pytest

from sippool_core.config import ClientVerification, TlsSettings
from sippool_core.reasons import CloseReason
from tests.core.tls_rig import (
    MESSAGE,
    VERSIONS,
    client_engine,
    only,
    server_engine,
    shake_hands,
)

# Client certificates


VERIFY = [
    # verify_client, the client shows, how it ends for the server, identities
    ("none", None, None, ()),
    ("none", "good", None, ()),
    ("none", "other", None, ()),
    ("none", "expired", None, ()),
    ("optional", None, None, ()),
    ("optional", "good", None, ("client.test",)),
    ("optional", "other", CloseReason.HANDSHAKE_FAILED, None),
    ("optional", "expired", CloseReason.HANDSHAKE_FAILED, None),
    ("required", None, CloseReason.HANDSHAKE_FAILED, None),
    ("required", "good", None, ("client.test",)),
    ("required", "other", CloseReason.HANDSHAKE_FAILED, None),
    ("required", "expired", CloseReason.HANDSHAKE_FAILED, None),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("verify", "shown", "failure", "identities"), VERIFY)
def test_verify_client(
    version, verify, shown, failure, identities, ca, server_certificate, client_certificates
):
    files = client_certificates.get(shown)
    server = server_engine(
        TlsSettings(
            server_certificate.certificate,
            server_certificate.key,
            ca.file,
            verify_client=ClientVerification(verify),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca.file)
    if files:
        context.load_cert_chain(files.certificate, files.key)
    only(context, version)
    client = client_engine(TlsSettings(client_context=context))
    shake_hands(client, server)
    assert server.failure is failure
    if failure is None:
        assert server.facts.identities == identities
        assert (server.facts.peer_certificate is None) == (identities == ())
        assert client.is_open
        return
    assert server.facts is None
    assert not client.is_open
    if version == "TLSv1.3":
        # The client was open, and learned it on reading.
        assert client.facts is not None
        assert client.failure is CloseReason.CERTIFICATE_REFUSED
    elif shown is None:
        # TLS 1.2 has no alert of its own for a missing certificate.
        assert client.failure is CloseReason.HANDSHAKE_FAILED
    else:
        assert client.failure is CloseReason.CERTIFICATE_REFUSED
    expected = {
        None: "certificate required",
        "other": "unknown ca",
        "expired": "certificate expired",
    }
    if version == "TLSv1.3" or shown is not None:
        assert expected[shown] in client.failure_detail


def test_a_tls13_client_may_write_before_it_learns_that_it_is_refused(ca, server_certificate):
    server = server_engine(
        TlsSettings(
            server_certificate.certificate,
            server_certificate.key,
            ca.file,
            verify_client=ClientVerification.REQUIRED,
        )
    )
    client = client_engine(TlsSettings(ca=ca.file))
    client.start()
    server.receive(client.take_output())
    client.receive(server.take_output())
    assert client.is_open
    client.write(MESSAGE)
    assert server.receive(client.take_output()) == []
    assert server.failure is CloseReason.HANDSHAKE_FAILED
    assert server.failure_detail == "peer did not return a certificate"
    alert = server.take_output()
    assert alert != b""
    assert client.receive(alert) == []
    assert (client.is_open, client.failure) == (False, CloseReason.CERTIFICATE_REFUSED)


def test_one_certificate_serves_both_roles(ca, client_certificate):
    both = TlsSettings(
        client_certificate.certificate,
        client_certificate.key,
        ca.file,
        verify_client=ClientVerification.REQUIRED,
    )
    client, server = client_engine(both, "client.test", "client.test"), server_engine(both)
    shake_hands(client, server)
    assert client.facts.identities == server.facts.identities == ("client.test",)


# The server's certificate


def settle(ca, files, reference, server_name, **more):
    server = server_engine(TlsSettings(files.certificate, files.key))
    client = client_engine(TlsSettings(ca=ca.file, **more), reference, server_name)
    client.start()
    server.receive(client.take_output())
    # What an eager server sends behind its handshake must not be seen by a client that refuses it.
    to_client = server.take_output()
    assert client.receive(to_client) == []
    server.receive(client.take_output())
    if server.is_open:
        server.write(b"eager")
        to_client = server.take_output()
        assert client.receive(to_client) == ([] if client.failure else [b"eager"])
    return client, server


IDENTITY = [
    (["DNS:server.test"], "server.test", True),
    (["DNS:server.test"], "SERVER.test.", True),
    (["DNS:server.test"], "wrong.test", False),
    (["DNS:*.server.test"], "sip.server.test", False),
    (["URI:sip:server.test"], "server.test", True),
    (["DNS:host.test", "URI:sip:server.test"], "server.test", True),
    (["DNS:server.test", "URI:sip:other.test"], "server.test", False),
    (["URI:sips:server.test"], "server.test", False),
    (["URI:sip:alice@server.test"], "server.test", False),
    (["DNS:xn--bcher-kva.test"], "bücher.test", True),
    (["IP:192.0.2.1"], "192.0.2.1", True),
    (["IP:2001:db8::1"], "2001:db8::1", True),
    (["IP:192.0.2.1"], "192.0.2.2", False),
    (["DNS:server.test"], "192.0.2.1", False),
]


@pytest.mark.parametrize(("names", "reference", "matches"), IDENTITY)
def test_whom_a_client_trusts(names, reference, matches, ca, issue_names):
    client, server = settle(ca, issue_names("names", names), reference, reference)
    if matches:
        assert client.is_open
        assert client.facts.matched_identity in client.facts.identities or names[0].startswith("IP")
    else:
        assert client.failure is CloseReason.IDENTITY_MISMATCH
        assert repr(reference) in client.failure_detail
        assert client.facts is None
        # It heard a close_notify, not an end without a word.
        assert server.peer_closed


def test_the_detail_of_a_mismatch_names_five_at_most(ca, issue_names):
    files = issue_names("many", [f"DNS:{n}.many.test" for n in range(9)])
    client, _ = settle(ca, files, "server.test", "server.test")
    assert client.failure_detail.endswith(
        "it names 0.many.test, 1.many.test, 2.many.test, 3.many.test, 4.many.test"
    )
    client, _ = settle(ca, issue_names("address", ["IP:192.0.2.1"]), "server.test", None)
    assert client.failure_detail == "the certificate is not 'server.test''s, it names no SIP domain"


@pytest.mark.parametrize("allowed", [False, True])
def test_common_name_only_where_allowed(allowed, ca):
    files = ca.issue("common", common_name="server.test")
    client, _ = settle(ca, files, "server.test", "server.test", allow_common_name=allowed)
    assert client.is_open == allowed
    assert client.failure is (None if allowed else CloseReason.IDENTITY_MISMATCH)


# A URI (context tag 6) of one byte that is no text.
UNREADABLE = bytes([0x30, 3, 0x86, 1, 0xFF])


def test_a_certificate_that_python_cannot_read_names_nobody(
    ca, client_settings, server_certificate
):
    files = ca.issue("unreadable", raw_alternatives=UNREADABLE, common_name="server.test")
    client, _ = settle(ca, files, "server.test", "server.test", allow_common_name=True)
    assert client.failure is CloseReason.IDENTITY_MISMATCH
    server = server_engine(
        TlsSettings(
            server_certificate.certificate,
            server_certificate.key,
            ca.file,
            verify_client=ClientVerification.REQUIRED,
            allow_common_name=True,
        )
    )
    client = client_engine(TlsSettings(files.certificate, files.key, ca.file))
    shake_hands(client, server)
    assert server.is_open
    assert server.facts.identities == ()
    assert server.facts.peer_certificate == {}
    assert server.facts.peer_certificate_der is not None


@pytest.mark.parametrize("kind", ["other", "expired"])
def test_a_server_whose_chain_is_bad_is_refused_and_told_so(kind, ca, client_certificates):
    files = client_certificates[kind]
    client, server = settle(ca, files, "client.test", "client.test")
    assert client.failure is CloseReason.HANDSHAKE_FAILED
    assert client.failure_detail.startswith("certificate verify failed: ")
    assert server.failure is CloseReason.CERTIFICATE_REFUSED


def test_without_a_ca_the_systems_are_asked(server_settings):
    client, server = client_engine(TlsSettings()), server_engine(server_settings)
    shake_hands(client, server)
    assert client.failure is CloseReason.HANDSHAKE_FAILED
    assert server.failure is CloseReason.CERTIFICATE_REFUSED
