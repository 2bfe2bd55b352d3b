"""What the TLS tests share: a peer of plain `ssl`, and engines that talk to it without any socket."""

from __future__ import annotations

import ssl

from sippool_core.tls import TlsContexts, TlsEngine

MESSAGE = b"OPTIONS sip:server.test SIP/2.0\r\n\r\n"
VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class RawPeer:
    """A peer of plain `ssl`, with the engine's words, so that either end of a test can be one."""

    def __init__(self, context, *, server_side, server_name=None):
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_side, server_hostname=server_name
        )
        self.is_open = False
        self.got_eof = False
        self.error = None

    def start(self):
        self.receive(b"")

    def receive(self, data):
        self.incoming.write(data)
        plaintext = []
        try:
            if not self.is_open:
                self.tls.do_handshake()
                self.is_open = True
            while chunk := self.tls.read(65536):
                plaintext.append(chunk)
            self.got_eof = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.error = error
        return plaintext

    def write(self, data):
        while data:
            data = data[self.tls.write(data) :]

    def take_output(self):
        return self.outgoing.read()


def exchange(left, right):
    """Carry bytes both ways until nobody has any; what each of them understood."""
    to_left, to_right = [], []
    while True:
        a, b = left.take_output(), right.take_output()
        if not a and not b:
            return b"".join(to_left), b"".join(to_right)
        if a:
            to_right += right.receive(a)
        if b:
            to_left += left.receive(b)


def shake_hands(client, server):
    client.start()
    server.start()
    return exchange(client, server)


def client_engine(settings, reference="server.test", server_name="server.test"):
    return TlsEngine(
        TlsContexts.build(settings),
        server_side=False,
        reference=reference,
        server_name=server_name,
    )


def server_engine(settings):
    return TlsEngine(
        TlsContexts.build(settings), server_side=True, reference="192.0.2.9", server_name=None
    )


def only(context, version):
    """`context`, for this one version."""
    context.minimum_version = context.maximum_version = VERSIONS[version]
    return context
