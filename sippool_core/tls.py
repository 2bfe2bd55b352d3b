"""TLS without sockets: ciphertext in and out as bytes, on `ssl.MemoryBIO` and `ssl.SSLObject`.

1. The only module of the core that imports `ssl`; it is loaded when a pool first needs TLS.
2. An engine is open when the handshake is done and, where we connected, the certificate names the peer
   (`identity`). Before that not one byte of plaintext goes in or out, so bytes that were sent before or inside
   a handshake can never pass for protected ones (CVE-2023-40217 was that).
3. Nothing a peer sends raises: it ends in `failure`, and the alert that says so waits in `take_output`.
4. Contexts that the caller made are judged, never changed.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import identity
from .config import ClientVerification, TlsSettings
from .errors import ConfigurationError
from .events import TlsFacts
from .reasons import CloseReason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_HANDSHAKE_RECORD = 22
_RECORD_TYPES = range(20, 25)
_RECORD_HEADER = 5
_RECORD_PLAINTEXT = 2**14
"""Bytes of plaintext in one record, at most (RFC 8446 section 5.1)."""

_VERIFY_MODES = {
    ClientVerification.NONE: ssl.CERT_NONE,
    ClientVerification.OPTIONAL: ssl.CERT_OPTIONAL,
    ClientVerification.REQUIRED: ssl.CERT_REQUIRED,
}

_CERTIFICATE_ALERTS = {
    "NO_CERTIFICATE",
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
    "CERTIFICATE_REQUIRED",
}
"""The alerts of RFC 8446 section 6.2 that speak about our certificate or the want of it."""


@dataclass(frozen=True, slots=True)
class TlsContexts:
    """The contexts of one pool, for both roles."""

    server: ssl.SSLContext | None
    """`None` where there is no certificate to show, so that nothing can be accepted."""
    client: ssl.SSLContext
    settings: TlsSettings

    @classmethod
    def build(cls, settings: TlsSettings) -> TlsContexts:
        """Read the files, or judge the caller's contexts.

        Raises `ConfigurationError` for what cannot work or would be unsafe; the text has the line that mends it.
        """
        server = settings.server_context
        if server is not None:
            _judge_server_context(server, settings.verify_client)
        elif settings.certificate is not None:
            server = _build_server_context(settings)
        client = settings.client_context
        if client is not None:
            _judge_client_context(client)
        else:
            client = _build_client_context(settings)
        return cls(server, client, settings)


class TlsEngine:
    """One connection's TLS; `start` it, then give it what arrives and send what it has to say.

    `reference` is what the certificate of a server must name, and `server_name` what is asked for by SNI
    (`None`, or an IP literal: nothing); the server role needs neither.
    """

    def __init__(
        self, contexts: TlsContexts, *, server_side: bool, reference: str, server_name: str | None
    ) -> None:
        context = contexts.server if server_side else contexts.client
        assert context is not None, "a TLS listener was made without a server context"
        self.facts: TlsFacts | None = None
        """What was proved; set when the engine opens, and kept."""
        self.failure: CloseReason | None = None
        self.failure_detail = ""
        """OpenSSL's words or ours, printable."""
        self.peer_closed = False
        """Whether the peer's close_notify has come. An EOF without it may be an attacker's."""
        self._allow_common_name = contexts.settings.allow_common_name
        self._reference = None if server_side else reference
        self._closed = False
        self._records = _RecordCutter()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            # Always the normal form: SNI has neither U-labels nor a last dot (RFC 6066 section 3).
            server_hostname=identity.normal_domain(server_name or ""),
        )

    @property
    def is_open(self) -> bool:
        """Whether plaintext may be written: handshake and identity check are done, nothing failed since."""
        return self.facts is not None and self.failure is None and not self._closed

    def start(self) -> None:
        """Begin the handshake: a client's hello is then in `take_output`."""
        self._shake_hands()

    def receive(self, data: bytes) -> list[bytes]:
        """Take ciphertext; the plaintext it completes. What comes after a failure or a close is dropped."""
        plaintext: list[bytes] = []
        for kind, piece in self._records.cut(data) if self._needs_cutting else [(0, data)]:
            if self.failure is not None or self.peer_closed or self._closed:
                break
            if self.facts is None:
                self._incoming.write(piece)
                self._shake_hands()
                if kind not in _RECORD_TYPES and self.failure is None:
                    # OpenSSL still reads an SSL 2.0 hello, whose records cannot be followed.
                    self._fail(CloseReason.HANDSHAKE_FAILED, "not a TLS record")
            elif kind == _HANDSHAKE_RECORD and self._needs_cutting:
                self._say_goodbye()
                self._fail(CloseReason.RENEGOTIATION, "the peer began another handshake")
            else:
                self._incoming.write(piece)
                self._decrypt(plaintext)
        return plaintext

    def receive_eof(self) -> None:
        """The peer will send nothing more; whether it said so is in `peer_closed`."""
        if self.facts is None and self.failure is None:
            self._fail(CloseReason.HANDSHAKE_FAILED, "the peer closed during the handshake")

    def write(self, plaintext: bytes) -> None:
        """Encrypt; only while `is_open`, and look at `failure` afterwards."""
        assert self.is_open
        rest = memoryview(plaintext)
        try:
            while rest:
                # One record at a time: Python turns on SSL_MODE_ENABLE_PARTIAL_WRITE.
                rest = rest[self._tls.write(rest) :]
        except ssl.SSLError as error:
            # OpenSSL would want to read here if a hello inside Finished's own record got past `receive`.
            self._fail(CloseReason.SYSTEM_ERROR, _words(error))

    def take_output(self) -> bytes:
        """The ciphertext to send now; an alert too, after a failure."""
        return self._outgoing.read()

    def close(self) -> None:
        """Queue close_notify. The peer's is not waited for (RFC 8446 section 6.1)."""
        if self.is_open:
            self._say_goodbye()
        self._closed = True

    @property
    def _needs_cutting(self) -> bool:
        # TLS 1.3 has no renegotiation. In TLS 1.2 a MemoryBIO does not prevent it, nor need the caller's
        # context, and OpenSSL would do it without a word: a peer's way to spend our time and to change who it is.
        # The type of a record is not encrypted there.
        return self.facts is None or self.facts.version == "TLSv1.2"

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            refused = _is_about_our_certificate(error)
            reason = CloseReason.CERTIFICATE_REFUSED if refused else CloseReason.HANDSHAKE_FAILED
            self._fail(reason, _words(error))
            return
        self._open()

    def _open(self) -> None:
        """The handshake is done: learn who the peer is, and refuse a server that is not the one we want."""
        try:
            certificate = self._tls.getpeercert()
        except (ValueError, ssl.SSLError):
            # Names that are not text: Python cannot decode the certificate, though its chain is good. It names
            # nobody then.
            certificate = {}
        shown: Mapping[str, object] = certificate or {}
        lenient = self._allow_common_name
        found = identity.identities(shown, allow_common_name=lenient)
        matched = None
        if self._reference is not None:
            matched = identity.match(shown, self._reference, allow_common_name=lenient)
            if matched is None:
                # OpenSSL has no call that sends a chosen alert.
                self._say_goodbye()
                names = ", ".join(found[:5]) or "no SIP domain"
                self._fail(
                    CloseReason.IDENTITY_MISMATCH,
                    f"the certificate is not {self._reference!a}'s, it names {names}",
                )
                return
        cipher = self._tls.cipher()
        self.facts = TlsFacts(
            version=self._tls.version() or "",
            cipher=cipher[0] if cipher else "",
            identities=found,
            matched_identity=matched,
            peer_certificate=certificate,
            peer_certificate_der=self._tls.getpeercert(binary_form=True),
        )

    def _decrypt(self, plaintext: list[bytes]) -> None:
        try:
            while data := self._tls.read(_RECORD_PLAINTEXT):
                plaintext.append(data)
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            # In TLS 1.3 the client is done before the server has judged its certificate.
            if _is_about_our_certificate(error):
                reason = CloseReason.CERTIFICATE_REFUSED
            elif _alert_of(error):
                reason = CloseReason.RESET
            else:
                reason = CloseReason.SYSTEM_ERROR
            self._fail(reason, _words(error))
            return
        self.peer_closed = True

    def _say_goodbye(self) -> None:
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            # Our close_notify is out; the error is about the peer's, which is not here.
            return

    def _fail(self, reason: CloseReason, detail: str) -> None:
        self.failure = reason
        self.failure_detail = detail


class _RecordCutter:
    """Cuts a stream of ciphertext where its records end, so that the handshake ends at a known byte."""

    def __init__(self) -> None:
        self._header = b""
        self._body_left = 0
        self._kind = 0

    def cut(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Pieces of `data`, each a record or a part of one, with the content type of the record."""
        position = 0
        while position < len(data):
            start = position
            if not self._body_left:
                if not self._header:
                    self._kind = data[position]
                position = min(start + _RECORD_HEADER - len(self._header), len(data))
                self._header += data[start:position]
                if len(self._header) == _RECORD_HEADER:
                    self._body_left = int.from_bytes(self._header[3:], "big")
                    self._header = b""
            end = min(position + self._body_left, len(data))
            self._body_left -= end - position
            position = end
            yield self._kind, data[start:position]


def _build_server_context(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    _load_certificate(context, settings)
    context.verify_mode = _VERIFY_MODES[settings.verify_client]
    if settings.verify_client is not ClientVerification.NONE:
        _load_ca(context, settings)
    return context


def _build_client_context(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    if settings.certificate is not None:
        _load_certificate(context, settings)
    if settings.ca is not None:
        _load_ca(context, settings)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _load_certificate(context: ssl.SSLContext, settings: TlsSettings) -> None:
    assert settings.certificate is not None
    try:
        context.load_cert_chain(settings.certificate, settings.key, password=_no_password)
    except ConfigurationError:
        raise
    except (OSError, ValueError) as error:
        files = f"certificate {settings.certificate!s}"
        if settings.key is not None:
            files += f" and key {settings.key!s}"
        raise ConfigurationError(
            f"{files}: {error}; both must be readable PEM files that belong together"
        ) from error


def _no_password() -> str:
    # Without this OpenSSL asks on the terminal, and the program stands still.
    raise ConfigurationError(
        "the TLS key is encrypted: make the contexts yourself, with"
        " context.load_cert_chain(certificate, key, password), and give them as server_context and client_context"
    )


def _load_ca(context: ssl.SSLContext, settings: TlsSettings) -> None:
    try:
        context.load_verify_locations(settings.ca)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"ca {settings.ca!s}: {error}; it must be a readable PEM file with at least one certificate"
        ) from error


def _judge_server_context(context: ssl.SSLContext, wanted: ClientVerification) -> None:
    _judge(context, "server", ssl.PROTOCOL_TLS_SERVER)
    mode = _VERIFY_MODES[wanted]
    # The context is used as it is, so a stricter setting beside it would be lost without a word.
    if wanted is not ClientVerification.NONE and context.verify_mode is not mode:
        raise ConfigurationError(
            f"verify_client is {wanted.value}, but server_context says otherwise:"
            f" server_context.verify_mode = ssl.{mode.name}"
        )


def _judge_client_context(context: ssl.SSLContext) -> None:
    _judge(context, "client", ssl.PROTOCOL_TLS_CLIENT)
    if context.verify_mode is not ssl.CERT_REQUIRED:
        raise ConfigurationError(
            "client_context does not verify servers: client_context.verify_mode = ssl.CERT_REQUIRED"
        )


def _judge(context: ssl.SSLContext, role: str, protocol: int) -> None:
    """What both roles need of a context that the caller made."""
    name = f"{role}_context"
    if context.protocol not in (protocol, ssl.PROTOCOL_TLS):
        raise ConfigurationError(
            f"{name} was made for something else: {name} = ssl.SSLContext(ssl.PROTOCOL_TLS_{role.upper()})"
        )
    if context.check_hostname:
        raise ConfigurationError(
            f"{name} checks host names by the web's rules, and SIP has its own (RFC 5922 section 7):"
            f" {name}.check_hostname = False"
        )
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:
        raise ConfigurationError(
            f"{name} accepts versions below TLS 1.2: {name}.minimum_version = ssl.TLSVersion.TLSv1_2"
        )


def _alert_of(error: ssl.SSLError) -> str:
    """The peer's alert, without the version that OpenSSL puts before it; empty if the error is our own."""
    return (error.reason or "").partition("_ALERT_")[2]


def _is_about_our_certificate(error: ssl.SSLError) -> bool:
    return _alert_of(error) in _CERTIFICATE_ALERTS


def _words(error: ssl.SSLError) -> str:
    """What a human wants of an SSLError: no file names and line numbers of CPython."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    return (error.reason or "tls error").replace("_", " ").lower()
