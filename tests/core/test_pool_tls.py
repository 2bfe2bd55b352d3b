"""TLS in the pool: who is trusted for what, what leaves when, and how it ends."""

import errno
import os
import ssl

import pytest

from sippool_core import (
    Address,
    ClientVerification,
    CloseReason,
    ConnectionClosed,
    ConnectionOpened,
    DropReason,
    MessageReceived,
    PeerFinished,
    PoolConfig,
    SendCompleted,
    SendFailure,
    Target,
    TlsSettings,
    Transport,
)
from tests.core.rig import PEER, Rig, request, response

SERVER = Address("192.0.2.50", 5061)


def target(name="server.test"):
    return Target(Transport.TLS, SERVER, name)


def tls_request(**kwargs):
    return request(transport="TLS", **kwargs)


class Link:
    """A client pool and a server pool, joined where the client's connection was opened."""

    def __init__(self, client_tls, server_tls, *, accept=True, **numbers):
        self.client = Rig(PoolConfig(tls=client_tls).replace(**numbers))
        self.server = Rig(PoolConfig(tls=server_tls).replace(**numbers))
        self.listener = self.server.listen("tls:192.0.2.50:5061")
        self.pairs = []
        self.carried = {}

    def join(self):
        """Accept every connection that the client has opened since."""
        for connection in self.client.opened[len(self.pairs) :]:
            self.pairs.append((connection, self.server.accept(self.listener)))
            self.client.connected(connection)
        self.carry()

    def carry(self):
        """Move bytes both ways until nobody has any."""
        moved = True
        while moved:
            moved = False
            for ours, theirs in self.pairs:
                moved |= self._move(self.client, ours, self.server, theirs)
                moved |= self._move(self.server, theirs, self.client, ours)

    def _move(self, source, connection, sink, other):
        wire = source.wires[connection]
        done = self.carried.get((id(source), connection), 0)
        data = wire.written[done:]
        self.carried[id(source), connection] = len(wire.written)
        if data:
            sink.data(other, data)
        if wire.closed and not self.carried.get((id(source), connection, "fin")):
            self.carried[id(source), connection, "fin"] = 1
            sink.eof(other)
            return True
        return bool(data)


@pytest.fixture
def server_tls(server_certificate, ca):
    return TlsSettings(server_certificate.certificate, server_certificate.key, ca.file)


@pytest.fixture
def client_tls(ca):
    return TlsSettings(ca=ca.file)


@pytest.fixture
def link(client_tls, server_tls):
    return Link(client_tls, server_tls)


def test_a_request_and_its_answer_and_what_was_proved(link):
    send_id = link.client.send(tls_request(), target())
    link.join()
    assert isinstance(link.client.outcomes[send_id], SendCompleted)
    [received] = link.server.take(MessageReceived)
    facts = received.flow.tls
    assert (facts.version, facts.identities, facts.peer_certificate) == ("TLSv1.3", (), None)
    link.server.reply(received, response(received.message))
    link.carry()
    [answer] = link.client.take(MessageReceived)
    facts = answer.flow.tls
    assert facts.matched_identity == "server.test"
    assert facts.identities == ("server.test", "3cx.test")
    assert facts.peer_certificate["subjectAltName"] and facts.peer_certificate_der and facts.cipher
    opened = link.client.take(ConnectionOpened)
    assert [event.flow for event in opened] == [answer.flow]
    # Not a word of SIP is on either wire.
    for rig in (link.client, link.server):
        assert all(b"SIP/2.0" not in wire.written for wire in rig.wires.values())


def test_nothing_leaves_before_the_identity_is_checked(link):
    sends = [
        link.client.send(tls_request(branch=f"z9hG4bK{n}"), target("other.test")) for n in range(2)
    ]
    link.join()
    for send_id in sends:
        failed = link.client.outcomes[send_id]
        assert (failed.reason, failed.bytes_may_be_out) == (SendFailure.IDENTITY_MISMATCH, False)
        assert "server.test" in failed.detail
    assert link.client.take(ConnectionClosed)[0].reason is CloseReason.IDENTITY_MISMATCH
    assert not link.server.take(MessageReceived) and not link.client.take(ConnectionOpened)
    assert link.server.take(ConnectionClosed)


def test_a_connection_verified_for_one_name_is_never_used_for_another(link):
    link.client.send(tls_request(branch="z9hG4bK1"), target("server.test"))
    link.join()
    again = link.client.send(tls_request(branch="z9hG4bK2"), target("SERVER.test."))
    assert link.client.outcomes[again].reused and len(link.client.opened) == 1
    for name in ("3cx.test", None, "evil.test"):
        link.client.send(tls_request(branch="z9hG4bK3"), target(name))
    link.join()
    assert len(link.client.opened) == 4
    reasons = [event.reason for event in link.client.take(ConnectionClosed)]
    # 3cx.test is in the certificate; 192.0.2.50 and evil.test are not.
    assert reasons == [CloseReason.IDENTITY_MISMATCH] * 2


def test_an_accepted_tls_connection_is_reached_by_its_flow_alone(link):
    link.client.send(tls_request(), target())
    link.join()
    [received] = link.server.take(MessageReceived)
    link.server.send(tls_request(branch="z9hG4bKback"), flow=received.flow)
    link.carry()
    assert link.client.take(MessageReceived)[0].message.via.branch == b"z9hG4bKback"
    link.server.send(
        tls_request(branch="z9hG4bKdial"), Target(Transport.TLS, received.flow.peer, "x.test")
    )
    assert len(link.server.opened) == 1


@pytest.mark.parametrize("verify", list(ClientVerification))
@pytest.mark.parametrize("shown", ["nothing", "good", "of another CA"])
def test_client_certificates(verify, shown, server_certificate, client_certificate, ca, other_ca):
    from cryptography import x509

    server = TlsSettings(server_certificate.certificate, server_certificate.key, ca.file, verify)
    mine = None
    if shown == "good":
        mine = client_certificate
    elif shown == "of another CA":
        mine = other_ca.issue("stranger", x509.DNSName("client.test"))
    client = TlsSettings(mine and mine.certificate, mine and mine.key, ca.file)
    link = Link(client, server)
    link.client.send(tls_request(), target())
    link.join()
    welcome = verify is ClientVerification.NONE or shown == "good"
    welcome = welcome or (verify is ClientVerification.OPTIONAL and shown == "nothing")
    received = link.server.take(MessageReceived)
    assert bool(received) is welcome
    if not welcome:
        assert link.server.take(ConnectionClosed)[0].reason is CloseReason.HANDSHAKE_FAILED
        # In TLS 1.3 the client learns it by reading, after its handshake is done.
        assert link.client.take(ConnectionClosed)[0].reason is CloseReason.CERTIFICATE_REFUSED
    elif shown == "good" and verify is not ClientVerification.NONE:
        assert received[0].flow.tls.identities == ("client.test",)


def test_an_untrusted_server_gets_no_bytes(server_tls, other_ca):
    link = Link(TlsSettings(ca=other_ca.file), server_tls)
    send_id = link.client.send(tls_request(), target())
    link.join()
    failed = link.client.outcomes[send_id]
    assert failed.reason is SendFailure.HANDSHAKE_FAILED and not failed.bytes_may_be_out
    assert link.server.take(ConnectionClosed)[0].reason is CloseReason.CERTIFICATE_REFUSED


def test_without_settings_the_systems_authorities_are_used(link):
    rig = Rig()
    rig.send(tls_request(), target())
    link.pairs.append((rig.opened[0], link.server.accept(link.listener)))
    link.client = rig
    rig.connected(rig.opened[0])
    link.carry()
    assert rig.take(ConnectionClosed)[0].reason is CloseReason.HANDSHAKE_FAILED


def test_an_orderly_close_says_so_and_waits_for_nobody(link):
    link.client.send(request("ACK"), target())
    link.join()
    [received] = link.server.take(MessageReceived)
    link.server.pool.close_flow(received.flow, now=link.server.now)
    link.server.drain()
    assert link.server.wires[received.flow.id].closed
    link.carry()
    assert link.client.take(ConnectionClosed)[0].reason is CloseReason.CLOSED_BY_PEER


@pytest.mark.parametrize("half", [False, True])
def test_an_end_without_close_notify_is_told_apart(link, half):
    link.client.send(request("ACK"), target())
    link.join()
    [(ours, theirs)] = link.pairs
    if half:
        link.client.writes_complete = False
        link.client.send(tls_request(body=bytes(40_000)), target())
        link.client.accept_write(ours, 30_000)
        link.carry()
    link.server.eof(theirs)
    expected = CloseReason.TRUNCATED if half else CloseReason.UNCLEAN_TLS_CLOSE
    assert link.server.take(ConnectionClosed)[0].reason is expected


def test_close_notify_alone_is_a_half_close_and_the_answer_still_goes_out(link):
    link.client.send(tls_request(), target())
    link.join()
    [received] = link.server.take(MessageReceived)
    link.client.pool.close_flow(link.client.take(ConnectionOpened)[0].flow, now=link.client.now)
    link.client.drain()
    [(ours, theirs)] = link.pairs
    wire = link.client.wires[ours]
    link.server.data(theirs, wire.written[link.carried[id(link.client), ours] :])
    assert link.server.take(PeerFinished)
    before = len(link.server.wires[theirs].written)
    link.server.reply(received, response(received.message))
    assert len(link.server.wires[theirs].written) > before and link.server.wires[theirs].closed
    assert link.server.take(ConnectionClosed)[0].reason is CloseReason.CLOSED_BY_PEER


@pytest.mark.parametrize("garbage", [tls_request(), os.urandom(50), b"\x16\x03\x01\xff\xff"])
def test_what_is_no_tls_is_refused_with_an_alert_and_no_event(server_tls, garbage):
    rig = Rig(PoolConfig(tls=server_tls))
    connection = rig.accept(rig.listen("tls:192.0.2.1:5061"))
    rig.data(connection, garbage)
    rig.advance(11)
    [closed] = rig.take(ConnectionClosed)
    assert closed.reason in (CloseReason.HANDSHAKE_FAILED, CloseReason.HANDSHAKE_TIMEOUT)
    assert not rig.take(object)


@pytest.mark.parametrize("end", ["eof", "reset"])
def test_an_end_inside_the_handshake(link, end):
    send_id = link.client.send(tls_request(), target())
    link.client.connected(link.client.opened[0])
    theirs = link.server.accept(link.listener)
    link.server.data(theirs, link.client.wires[link.client.opened[0]].written[:100])
    if end == "eof":
        link.server.eof(theirs)
        link.client.eof(link.client.opened[0])
        assert link.server.take(ConnectionClosed)[0].reason is CloseReason.HANDSHAKE_FAILED
        assert link.client.outcomes[send_id].reason is SendFailure.HANDSHAKE_FAILED
    else:
        link.server.lost(theirs, errno.ECONNRESET)
        link.client.lost(link.client.opened[0], errno.ECONNRESET)
        assert link.server.take(ConnectionClosed)[0].reason is CloseReason.RESET
        assert link.client.outcomes[send_id].reason is SendFailure.CONNECTION_LOST


def test_a_handshake_has_its_own_deadline_in_both_roles(link):
    send_id = link.client.send(tls_request(), target())
    link.client.advance(5)
    link.client.connected(link.client.opened[0])
    link.client.advance(9.9)
    assert send_id not in link.client.outcomes
    link.client.advance(0.2)
    assert link.client.outcomes[send_id].reason is SendFailure.HANDSHAKE_TIMEOUT
    theirs = link.server.accept(link.listener)
    link.server.advance(9.9)
    assert not link.server.wires[theirs].closed
    link.server.advance(0.2)
    assert link.server.take(ConnectionClosed)[0].reason is CloseReason.HANDSHAKE_TIMEOUT


def test_a_silent_handshake_holds_up_nobody_and_loses_its_place(client_tls, server_tls):
    link = Link(client_tls, server_tls, max_handshakes=2, max_connections_per_source=9)
    greedy = [link.server.accept(link.listener, PEER) for _ in range(2)]
    link.server.advance(0.5)
    link.client.send(tls_request(), target())
    link.join()
    honest = link.pairs[0][1]
    assert link.server.wires[honest].paused  # it waits, unread
    link.server.advance(0.6)
    assert link.server.wires[greedy[0]].closed and not link.server.wires[greedy[1]].closed
    assert link.server.take(ConnectionClosed)[0].reason is CloseReason.HANDSHAKE_DISPLACED
    assert not link.server.wires[honest].paused
    link.carried.clear()
    link.carry()
    assert link.server.take(MessageReceived)


def test_the_greediest_source_gives_up_its_place_first_and_progress_protects(
    server_tls, client_tls
):
    link = Link(client_tls, server_tls, max_handshakes=4)
    lonely = link.server.accept(link.listener, Address("198.51.100.1", 1))
    crowd = [link.server.accept(link.listener, Address("198.51.100.2", n)) for n in (1, 2)]
    link.client.send(tls_request(), target())
    link.client.connected(link.client.opened[0])
    busy = link.server.accept(link.listener, Address("198.51.100.2", 3))
    link.server.advance(0.9)
    link.server.data(busy, link.client.wires[link.client.opened[0]].written)
    waiting = [link.server.accept(link.listener, Address("198.51.100.3", n)) for n in (1, 2)]
    link.server.advance(0.2)
    closed = [event.flow.id for event in link.server.take(ConnectionClosed)]
    assert closed == crowd
    assert not link.server.wires[lonely].closed and not link.server.wires[busy].closed
    assert not any(link.server.wires[connection].paused for connection in waiting)
    # One that waits may leave, and one that is done makes place for the next without any deadline.
    extra = [link.server.accept(link.listener, Address("198.51.100.4", n)) for n in (1, 2)]
    link.server.lost(extra[0])
    link.server.lost(busy)
    assert not link.server.wires[extra[1]].paused
    link.server.close()
    link.server.advance(1)
    assert link.server.pool.is_closed


def test_connections_that_are_not_open_close_at_once(link):
    link.client.send(tls_request(), target())
    link.client.connected(link.client.opened[0])
    link.client.close()
    assert link.client.pool.is_closed
    assert link.client.take(ConnectionClosed)[0].reason is CloseReason.POOL_CLOSED
    theirs = link.server.accept(link.listener)
    link.server.close()
    assert link.server.wires[theirs].closed and link.server.pool.is_closed


def test_a_broken_record_after_the_handshake_ends_what_was_queued(link):
    link.client.send(tls_request(), target())
    link.join()
    [(_ours, theirs)] = link.pairs
    [received] = link.server.take(MessageReceived)
    link.server.writes_complete = False
    stuck = link.server.reply(received, response(received.message, 183))
    queued = link.server.reply(received, response(received.message))
    link.server.data(theirs, b"\x17\x03\x03\x00\x20" + bytes(32))
    assert link.server.outcomes[queued].reason is SendFailure.CONNECTION_LOST
    assert not link.server.outcomes[queued].bytes_may_be_out
    link.server.accept_write(theirs)
    assert isinstance(link.server.outcomes[stuck], SendCompleted)
    link.server.accept_write(theirs)
    assert link.server.take(ConnectionClosed)[0].reason is CloseReason.SYSTEM_ERROR


def test_a_peer_may_leave_while_it_waits_for_its_handshake(server_tls):
    rig = Rig(PoolConfig(tls=server_tls).replace(max_handshakes=1))
    listener = rig.listen("tls:192.0.2.1:5061")
    rig.accept(listener)
    waiting = rig.accept(listener)
    rig.data(waiting, b"unread")
    rig.eof(waiting)
    assert rig.take(ConnectionClosed)[0].reason is CloseReason.CLOSED_BY_PEER


def test_what_tls_itself_has_to_say_to_a_peer_that_never_reads_is_bounded(client_tls, server_tls):
    numbers = {"max_header_bytes": 200, "max_body_bytes": 100, "max_queued_bytes": 300}
    server = Rig(PoolConfig(tls=server_tls).replace(**numbers), writes_complete=False)
    connection = server.accept(server.listen("tls:192.0.2.1:5061"))
    client = Rig(PoolConfig(tls=client_tls))
    client.send(request("ACK"), target())
    ours = client.opened[0]
    client.connected(ours)
    server.data(connection, client.wires[ours].written)
    hello = len(client.wires[ours].written)
    # The server's flight arrives, but its kernel never says that it took it; session tickets queue up.
    client.data(ours, server.wires[connection].pending)
    server.data(connection, client.wires[ours].written[hello:])
    [closed] = server.take(ConnectionClosed)
    assert closed.reason is CloseReason.WRITE_TIMEOUT and server.wires[connection].aborted


def test_handshake_message_and_failure_in_one_read_are_all_told(link):
    link.client.send(request("ACK"), target())
    ours = link.client.opened[0]
    link.client.connected(ours)
    theirs = link.server.accept(link.listener)
    link.pairs.append((ours, theirs))
    link._move(link.client, ours, link.server, theirs)
    link._move(link.server, theirs, link.client, ours)
    rest = link.client.wires[ours].written[link.carried[id(link.client), ours] :]
    link.server.data(theirs, rest + b"\x17\x03\x03\x00\x20" + bytes(32))
    assert len(link.server.take(ConnectionOpened)) == len(link.server.take(MessageReceived)) == 1
    assert link.server.take(ConnectionClosed)[0].reason is CloseReason.SYSTEM_ERROR


def test_an_engine_that_fails_in_writing_fails_the_whole_queue(server_tls, ca):
    class Deaf(ssl.SSLObject):
        def write(self, data):
            return self.read(1)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca.file)
    context.sslobject_class = Deaf
    link = Link(TlsSettings(client_context=context), server_tls)
    sends = [link.client.send(tls_request(branch=f"z9hG4bK{n}"), target()) for n in range(2)]
    link.join()
    for send_id in sends:
        failed = link.client.outcomes[send_id]
        assert (failed.reason, failed.bytes_may_be_out) == (SendFailure.CONNECTION_LOST, False)
    assert link.client.take(ConnectionClosed)[0].reason is CloseReason.SYSTEM_ERROR


def test_bytes_behind_an_orderly_end_are_ignored(link):
    link.client.send(request("ACK"), target())
    link.join()
    [(_ours, theirs)] = link.pairs
    link.client.close()
    link.carry()
    link.server.data(theirs, b"more")
    assert link.server.take(ConnectionClosed)[0].reason is CloseReason.CLOSED_BY_PEER


def test_a_full_inbox_keeps_messages_of_a_tls_connection(client_tls, server_tls):
    link = Link(client_tls, server_tls, max_events=2)
    link.client.send(request("ACK"), target())
    link.join()
    link.server.take(object)
    link.server.take_events = False
    for number in range(5):
        link.client.send(request("ACK", branch=f"z9hG4bK{number}"), target())
    [(_ours, _theirs)] = link.pairs
    link.carry()
    for _ in range(5):
        link.server.collect()
        link.server.pool.handle_timer(now=link.server.now)
        link.server.drain()
    assert len(link.server.take(MessageReceived)) == 5
    assert DropReason.OVERLOAD not in link.server.pool.stats.dropped
