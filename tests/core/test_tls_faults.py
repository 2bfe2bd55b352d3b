"""TLS peers that do what they should not: garbage, cuts, changed bytes, renegotiation."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sippool_core.config import TlsSettings
from sippool_core.reasons import CloseReason
from sippool_core.tls import TlsEngine
from tests.core.tls_rig import (
    MESSAGE,
    RawPeer,
    client_engine,
    exchange,
    only,
    server_engine,
    shake_hands,
)

# Not a handshake


GARBAGE = {
    "plain SIP": (MESSAGE, None),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", None),
    "one byte": (b"O", None),
    "a record of 0xffff": (b"\x16\x03\x01\xff\xff" + bytes(100), "length"),
    "an SSL 2.0 hello": (bytes.fromhex("802e010301001500000010000039000038000035000016000013") + bytes(40), None),
    "application data": (b"\x17\x03\x03\x00\x10" + bytes(16), None),
    "an alert": (b"\x15\x03\x03\x00\x02\x02\x28", None),
    "an empty hello": (b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", None),
    "NULs": (bytes(64), None),
}  # fmt: skip


@pytest.mark.parametrize("step", [1, 10_000])
@pytest.mark.parametrize("role", ["server", "client"])
@pytest.mark.parametrize(("data", "detail"), GARBAGE.values(), ids=GARBAGE.keys())
def test_bytes_that_are_not_a_handshake(data, detail, role, step, client_settings, server_settings):
    engine = server_engine(server_settings) if role == "server" else client_engine(client_settings)
    engine.start()
    engine.take_output()
    for start in range(0, len(data), step):
        assert engine.receive(data[start : start + step]) == []
    assert engine.failure is CloseReason.HANDSHAKE_FAILED
    assert engine.failure_detail.isprintable() and engine.failure_detail
    assert (detail or "") in engine.failure_detail
    assert not engine.is_open
    # It stays dead, and keeps nothing.
    reason = engine.failure_detail
    assert engine.receive(bytes(100_000)) == []
    engine.receive_eof()
    engine.close()
    assert engine.failure_detail == reason


def test_an_sslv2_hello_is_refused_even_where_openssl_reads_it(server_settings):
    # Version 3.3, one cipher spec of TLS 1.2 that the server has, a challenge of 32 bytes.
    specs = bytes.fromhex("00c02b00c02f0000ff")
    body = b"\x01\x03\x03" + len(specs).to_bytes(2, "big") + b"\0\0\0\x20" + specs + bytes(32)
    server = server_engine(server_settings)
    assert server.receive(bytes([0x80, len(body)]) + body) == []
    assert server.failure is CloseReason.HANDSHAKE_FAILED


def test_plain_bytes_before_the_hello_end_the_connection(client_settings, server_settings):
    client, server = client_engine(client_settings), server_engine(server_settings)
    client.start()
    assert server.receive(MESSAGE + client.take_output()) == []
    assert server.failure is CloseReason.HANDSHAKE_FAILED


def test_plain_bytes_behind_the_hello_are_never_plaintext(client_settings, server_settings):
    client, server = client_engine(client_settings), server_engine(server_settings)
    client.start()
    assert server.receive(client.take_output() + MESSAGE) == []
    assert client.receive(server.take_output()) == []
    assert server.receive(client.take_output()) == []
    assert server.failure is CloseReason.HANDSHAKE_FAILED


@given(
    st.binary(max_size=600),
    st.booleans(),
    st.sampled_from([b"", b"\x16\x03\x01", b"\x15\x03\x03\x00\x02"]),
)
@settings(max_examples=100)
def test_no_bytes_raise(cached_contexts, data, server_side, start):
    engine = TlsEngine(
        cached_contexts, server_side=server_side, reference="server.test", server_name="server.test"
    )
    engine.start()
    assert engine.receive(start + data) == []
    assert not engine.is_open
    engine.receive_eof()
    assert (
        engine.failure is CloseReason.HANDSHAKE_FAILED
        or engine.failure is CloseReason.CERTIFICATE_REFUSED
    )


# The end of a connection


@pytest.mark.parametrize("bytes_before", [0, 1, 100])
def test_eof_in_the_handshake(bytes_before, client_settings, server_settings):
    client, server = client_engine(client_settings), server_engine(server_settings)
    client.start()
    server.receive(client.take_output()[:bytes_before])
    server.receive_eof()
    assert server.failure is CloseReason.HANDSHAKE_FAILED
    assert server.failure_detail == "the peer closed during the handshake"
    client.receive_eof()
    assert client.failure is CloseReason.HANDSHAKE_FAILED


def test_close_notify_in_both_directions(pair):
    client, server = pair
    client.write(MESSAGE)
    client.close()
    assert not client.is_open and client.failure is None
    assert server.receive(client.take_output()) == [MESSAGE]
    assert server.peer_closed and server.is_open
    # Half closed: an answer still goes out, though nothing more comes in.
    server.write(b"answer")
    assert server.take_output() != b""
    assert server.receive(b"anything at all") == []
    server.close()
    assert server.take_output() != b""
    assert (server.failure, server.is_open) == (None, False)
    client.close()
    assert client.take_output() == b""


def test_after_close_nothing_is_read(pair):
    client, server = pair
    server.write(MESSAGE)
    client.close()
    assert client.receive(server.take_output()) == []
    assert client.failure is None


def test_close_in_the_handshake_says_nothing(client_settings):
    client = client_engine(client_settings)
    client.start()
    client.take_output()
    client.close()
    assert client.take_output() == b""
    assert not client.is_open


def test_truncation_shows_as_an_eof_without_close_notify(pair):
    client, server = pair
    client.write(MESSAGE)
    assert server.receive(client.take_output()[:-1]) == []
    server.receive_eof()
    assert (server.peer_closed, server.failure) == (False, None)


def test_a_changed_record_ends_the_connection(pair):
    client, server = pair
    client.write(MESSAGE)
    record = bytearray(client.take_output())
    record[-1] ^= 1
    assert server.receive(bytes(record)) == []
    assert server.failure is CloseReason.SYSTEM_ERROR
    assert "bad record mac" in server.failure_detail
    # The client hears why.
    assert client.receive(server.take_output()) == []
    assert client.failure is CloseReason.RESET
    assert client.failure_detail.endswith("alert bad record mac")


def test_plaintext_before_a_bad_record_is_kept(pair):
    client, server = pair
    client.write(MESSAGE)
    assert server.receive(client.take_output() + b"\x17\x03\x03\xff\xff") == [MESSAGE]
    assert server.failure is CloseReason.SYSTEM_ERROR


def test_an_error_in_writing_is_a_failure_not_an_exception(
    client_settings, server_settings, raw_client_context
):
    class Deaf(ssl.SSLObject):
        def write(self, data):
            return self.read(1)

    raw_client_context.sslobject_class = Deaf
    client = client_engine(TlsSettings(client_context=raw_client_context))
    shake_hands(client, server_engine(server_settings))
    client.write(MESSAGE)
    assert (client.is_open, client.failure) == (False, CloseReason.SYSTEM_ERROR)
    assert client.failure_detail == "tls error"


# Renegotiation


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("role", ["server", "client"])
def test_a_handshake_record_after_a_tls12_handshake(
    role, together, client_settings, server_settings, raw_client_context, raw_server_context
):
    if role == "server":
        engine = server_engine(server_settings)
        peer = RawPeer(only(raw_client_context, "TLSv1.2"), server_side=False)
    else:
        engine = client_engine(client_settings)
        peer = RawPeer(only(raw_server_context, "TLSv1.2"), server_side=True)
    engine.start()
    peer.start()
    exchange(engine, peer)
    assert engine.is_open
    peer.write(MESSAGE)
    data = peer.take_output()
    if together:
        assert engine.receive(data + b"\x16\x03\x03\x00\x20" + bytes(32)) == [MESSAGE]
    else:
        assert engine.receive(data + b"\x16") == [MESSAGE]
    assert engine.failure is CloseReason.RENEGOTIATION
    assert not engine.is_open
    peer.receive(engine.take_output())
    assert peer.got_eof
    assert engine.receive(data) == []


def test_what_comes_after_close_notify_is_not_even_looked_at(server_settings, raw_client_context):
    server = server_engine(server_settings)
    peer = RawPeer(only(raw_client_context, "TLSv1.2"), server_side=False)
    shake_hands(peer, server)
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.unwrap()
    assert server.receive(peer.take_output() + b"\x16\x03\x03\x00\x20" + bytes(32)) == []
    assert server.receive(b"\x16") == []
    assert (server.peer_closed, server.failure, server.is_open) == (True, None, True)


def test_a_handshake_record_after_a_tls13_handshake_is_a_broken_record(pair):
    _, server = pair
    assert server.receive(b"\x16\x03\x03\x00\x20" + bytes(32)) == []
    assert server.failure is CloseReason.SYSTEM_ERROR
