"""The TLS engine against itself and against plain `ssl` peers, where all goes well."""

from __future__ import annotations

import itertools
import ssl
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sippool_core.reasons import CloseReason
from sippool_core.tls import TlsContexts, TlsEngine
from tests.core.tls_rig import (
    MESSAGE,
    VERSIONS,
    RawPeer,
    client_engine,
    exchange,
    only,
    server_engine,
    shake_hands,
)

# Both ends ours


def test_facts_of_an_open_pair(pair):
    client, server = pair
    assert client.facts.version == server.facts.version == "TLSv1.3"
    assert client.facts.cipher == server.facts.cipher != ""
    assert client.facts.identities == ("server.test", "3cx.test")
    assert client.facts.matched_identity == "server.test"
    assert ("DNS", "3cx.test") in client.facts.peer_certificate["subjectAltName"]
    assert client.facts.peer_certificate_der[0] == 0x30
    assert server.facts.identities == ()
    assert server.facts.matched_identity is None
    assert server.facts.peer_certificate is None
    assert server.facts.peer_certificate_der is None
    assert (client.failure, server.failure) == (None, None)


def test_messages_of_many_records_both_ways(pair):
    client, server = pair
    big = bytes(range(256)) * 400
    client.write(big)
    client.write(MESSAGE)
    server.write(big[1:])
    server.write(b"")
    assert exchange(client, server) == (big[1:], big + MESSAGE)


def test_nothing_is_encrypted_or_understood_before_the_handshake_is_done(
    client_settings, server_settings
):
    client, server = client_engine(client_settings), server_engine(server_settings)
    assert client.take_output() == b""
    client.start()
    assert not client.is_open and client.facts is None
    with pytest.raises(AssertionError):
        client.write(MESSAGE)
    hello = client.take_output()
    assert server.receive(hello) == []
    assert not server.is_open
    with pytest.raises(AssertionError):
        server.write(MESSAGE)


def test_a_client_only_pool_has_no_server_context(client_settings):
    contexts = TlsContexts.build(client_settings)
    assert contexts.server is None
    with pytest.raises(AssertionError):
        TlsEngine(contexts, server_side=True, reference="", server_name=None)


# SNI


@pytest.mark.parametrize(
    ("server_name", "sni"),
    [
        ("server.test", "server.test"),
        ("3cx.test", "3cx.test"),
        ("Server.Test.", "server.test"),
        ("bücher.test", "xn--bcher-kva.test"),
        ("pbx_1.test", "pbx_1.test"),
        ("127.0.0.1", None),
        ("::1", None),
        ("*.test", None),
        ("a" * 64 + ".test", None),
        ("", None),
        (None, None),
    ],
)
def test_sni_is_sent_for_names_and_for_names_only(
    server_name, sni, client_settings, raw_server_context
):
    seen = []
    raw_server_context.sni_callback = lambda tls, name, context: seen.append(name)
    client = client_engine(client_settings, "127.0.0.1", server_name)
    server = RawPeer(raw_server_context, server_side=True)
    shake_hands(client, server)
    assert client.is_open
    assert seen == [sni]


# Foreign peers


@pytest.mark.parametrize("version", VERSIONS)
def test_plain_ssl_peers_in_both_roles(
    version, client_settings, server_settings, raw_client_context, raw_server_context
):
    client = client_engine(client_settings)
    peer = RawPeer(only(raw_server_context, version), server_side=True)
    shake_hands(client, peer)
    assert client.facts.version == version
    client.write(MESSAGE)
    peer.write(b"answer")
    assert exchange(client, peer) == (b"answer", MESSAGE)

    server = server_engine(server_settings)
    peer = RawPeer(only(raw_client_context, version), server_side=False, server_name="server.test")
    shake_hands(peer, server)
    assert server.facts.version == version
    server.write(b"answer")
    peer.write(MESSAGE)
    assert exchange(peer, server) == (b"answer", MESSAGE)


@pytest.mark.parametrize("version", [ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER])
@pytest.mark.parametrize("old", ["TLSv1", "TLSv1_1"])
def test_old_versions_are_refused(
    old, version, ca, client_settings, server_settings, server_certificate
):
    context = ssl.SSLContext(version)
    context.check_hostname = False
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion[old]
    if version is ssl.PROTOCOL_TLS_CLIENT:
        context.load_verify_locations(ca.file)
        engine, peer = server_engine(server_settings), RawPeer(context, server_side=False)
    else:
        context.load_cert_chain(server_certificate.certificate, server_certificate.key)
        engine, peer = client_engine(client_settings), RawPeer(context, server_side=True)
    engine.start()
    peer.start()
    exchange(engine, peer)
    assert engine.failure is CloseReason.HANDSHAKE_FAILED
    assert not peer.is_open
    assert peer.error is not None


# Any split


@given(
    messages=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5),
    sizes=st.lists(
        st.sampled_from([1, 2, 4, 5, 6]) | st.integers(1, 1500), min_size=1, max_size=20
    ),
    server_side=st.booleans(),
)
@pytest.mark.parametrize("version", VERSIONS)
def test_any_split_of_the_ciphertext_gives_the_same_plaintext(
    version, messages, sizes, server_side, cached_contexts, raw_contexts
):
    engine = TlsEngine(
        cached_contexts, server_side=server_side, reference="server.test", server_name="server.test"
    )
    peer = RawPeer(raw_contexts[version, not server_side], server_side=not server_side)
    engine.start()
    peer.start()
    size = itertools.cycle(sizes)
    written = False
    got = []
    while True:
        peer.receive(engine.take_output())
        if peer.is_open and not written:
            # The peer's last flight of the handshake and its messages come as one stream of bytes.
            written = True
            for message in messages:
                peer.write(message)
            with pytest.raises(ssl.SSLWantReadError):
                peer.tls.unwrap()
        flight = peer.take_output()
        if not flight:
            break
        while flight:
            end = next(size)
            got += engine.receive(flight[:end])
            flight = flight[end:]
    assert b"".join(got) == b"".join(messages)
    assert engine.peer_closed and engine.failure is None
