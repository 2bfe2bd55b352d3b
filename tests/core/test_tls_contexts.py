"""The contexts a pool makes, and those of the caller: judged with the line that mends them, never changed."""

from __future__ import annotations

import ssl
import warnings

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from sippool_core.config import ClientVerification, TlsSettings
from sippool_core.errors import ConfigurationError
from sippool_core.tls import TlsContexts
from tests.conftest import private_pem


def good(role):
    """A context of the caller that is accepted."""
    protocol = ssl.PROTOCOL_TLS_SERVER if role == "server_context" else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    return context


def legacy(context):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1_1


def execute(line, names):
    """Run a mending line as its reader would."""
    names = {"ssl": ssl, **names}
    exec(line, names)  # noqa: S102 - our own text
    return names


def test_contexts_that_the_pool_makes(ca, server_certificate):
    contexts = TlsContexts.build(
        TlsSettings(server_certificate.certificate, server_certificate.key, ca.file)
    )
    for context in (contexts.server, contexts.client):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION
        assert not context.check_hostname
    # A CA alone does not make clients show certificates.
    assert contexts.server.verify_mode is ssl.CERT_NONE
    assert contexts.client.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("verify", ClientVerification)
def test_verify_client_is_the_mode_of_the_server_context(verify, ca, server_certificate):
    made = TlsSettings(
        server_certificate.certificate, server_certificate.key, ca.file, verify_client=verify
    )
    mode = TlsContexts.build(made).server.verify_mode
    assert mode is ssl.VerifyMode[f"CERT_{verify.name}"]
    # Made once more of the same settings: nothing was taken out of them.
    assert TlsContexts.build(made).server.verify_mode is mode


def test_certificate_and_key_in_one_file(tmp_path, server_certificate):
    both = tmp_path / "both.pem"
    with open(server_certificate.certificate) as crt, open(server_certificate.key) as key:
        both.write_text(key.read() + crt.read())
    assert TlsContexts.build(TlsSettings(both)).server is not None


# role, what spoils a good context, the line that mends it
BAD = [
    (
        "server_context",
        lambda context: setattr(context, "check_hostname", True),
        "server_context.check_hostname = False",
    ),
    (
        "client_context",
        lambda context: setattr(context, "check_hostname", True),
        "client_context.check_hostname = False",
    ),
    ("server_context", legacy, "server_context.minimum_version = ssl.TLSVersion.TLSv1_2"),
    ("client_context", legacy, "client_context.minimum_version = ssl.TLSVersion.TLSv1_2"),
    (
        "client_context",
        lambda context: setattr(context, "minimum_version", ssl.TLSVersion.MINIMUM_SUPPORTED),
        "client_context.minimum_version = ssl.TLSVersion.TLSv1_2",
    ),
    (
        "client_context",
        lambda context: setattr(context, "verify_mode", ssl.CERT_NONE),
        "client_context.verify_mode = ssl.CERT_REQUIRED",
    ),
    (
        "client_context",
        lambda context: setattr(context, "verify_mode", ssl.CERT_OPTIONAL),
        "client_context.verify_mode = ssl.CERT_REQUIRED",
    ),
]


@pytest.mark.parametrize(("role", "spoil", "line"), BAD)
def test_a_bad_context_is_refused_with_the_line_that_mends_it(role, spoil, line):
    context = good(role)
    spoil(context)
    before = state(context)
    with pytest.raises(ConfigurationError) as caught:
        TlsContexts.build(TlsSettings(**{role: context}))
    assert str(caught.value).endswith(": " + line)
    assert state(context) == before
    # The line is what it says it is.
    execute(line, {role: context})
    TlsContexts.build(TlsSettings(**{role: context}))


@pytest.mark.parametrize(
    ("role", "other"), [("server_context", "client_context"), ("client_context", "server_context")]
)
def test_a_context_for_the_other_role_is_refused(role, other):
    with pytest.raises(ConfigurationError) as caught:
        TlsContexts.build(TlsSettings(**{role: good(other)}))
    line = str(caught.value).partition(": ")[2]
    mended = execute(line, {})
    mended[role].check_hostname = False
    TlsContexts.build(TlsSettings(**{role: mended[role]}))


@pytest.mark.parametrize("verify", [ClientVerification.OPTIONAL, ClientVerification.REQUIRED])
def test_verify_client_beside_a_server_context_must_agree_with_it(verify):
    context = good("server_context")
    made = TlsSettings(server_context=context, verify_client=verify)
    with pytest.raises(ConfigurationError) as caught:
        TlsContexts.build(made)
    assert context.verify_mode is ssl.CERT_NONE
    line = str(caught.value).partition(": ")[2]
    execute(line, {"server_context": context})
    assert TlsContexts.build(made).server is context


@pytest.mark.parametrize("mode", [ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED])
def test_a_server_context_may_ask_for_certificates_by_itself(mode):
    context = good("server_context")
    context.verify_mode = mode
    assert TlsContexts.build(TlsSettings(server_context=context)).server is context


def test_contexts_of_the_caller_are_used_and_left_alone(ca, server_certificate):
    server, client = good("server_context"), good("client_context")
    before = state(server), state(client)
    made = TlsSettings(
        server_certificate.certificate,
        server_certificate.key,
        ca.file,
        server_context=server,
        client_context=client,
    )
    contexts = TlsContexts.build(made)
    assert (contexts.server, contexts.client) == (server, client)
    assert (state(server), state(client)) == before


def test_the_files_serve_the_role_without_a_context(ca, server_certificate):
    client = good("client_context")
    files = TlsSettings(
        server_certificate.certificate, server_certificate.key, ca.file, client_context=client
    )
    contexts = TlsContexts.build(files)
    assert contexts.client is client
    assert contexts.server is not None
    contexts = TlsContexts.build(TlsSettings(ca=ca.file, server_context=good("server_context")))
    assert contexts.client.cert_store_stats()["x509_ca"] == 1


def test_a_context_for_any_role_will_do():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    contexts = TlsContexts.build(TlsSettings(server_context=context, client_context=context))
    assert contexts.server is contexts.client


def state(context):
    """Everything of a context that can be read."""
    return (
        context.check_hostname,
        context.verify_mode,
        context.verify_flags,
        context.minimum_version,
        context.maximum_version,
        context.options,
        context.get_ciphers(),
        context.cert_store_stats(),
        context.sni_callback,
        context.post_handshake_auth,
    )


# Files


def test_files_that_cannot_be_read(tmp_path, ca, server_certificate, client_certificate):
    missing, empty = tmp_path / "missing.pem", tmp_path / "empty.pem"
    empty.write_bytes(b"")
    for settings, names in [
        (TlsSettings(missing), [str(missing)]),
        (TlsSettings(missing, server_certificate.key), [str(missing), server_certificate.key]),
        (TlsSettings(server_certificate.certificate, missing), [str(missing)]),
        (TlsSettings(server_certificate.certificate), [server_certificate.certificate]),
        (
            TlsSettings(server_certificate.certificate, client_certificate.key),
            ["KEY_VALUES_MISMATCH"],
        ),
        (TlsSettings("nul\0.pem"), ["PEM"]),
        (TlsSettings(ca=missing), [str(missing)]),
        (TlsSettings(ca=empty), [str(empty)]),
        (TlsSettings(ca="nul\0.pem"), ["PEM"]),
    ]:
        with pytest.raises(ConfigurationError) as caught:
            TlsContexts.build(settings)
        for name in names:
            assert name in str(caught.value)


def test_an_unreadable_ca_for_clients_is_refused_too(tmp_path, server_certificate):
    made = TlsSettings(
        server_certificate.certificate,
        server_certificate.key,
        tmp_path / "missing.pem",
        verify_client=ClientVerification.REQUIRED,
        client_context=good("client_context"),
    )
    with pytest.raises(ConfigurationError, match=r"missing\.pem"):
        TlsContexts.build(made)


def test_an_encrypted_key_is_refused_and_nobody_is_asked(tmp_path, server_certificate):
    key = tmp_path / "encrypted.pem"
    key.write_bytes(private_pem(ec.generate_private_key(ec.SECP256R1()), b"secret"))
    with pytest.raises(ConfigurationError, match=r"load_cert_chain\(certificate, key, password\)"):
        TlsContexts.build(TlsSettings(server_certificate.certificate, key))
