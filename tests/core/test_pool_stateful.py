"""The laws of the core, under any order of anything: one hypothesis state machine.

L1 each accepted send ends exactly once, at latest when the pool has closed;
L2 nothing interleaves: what is on a wire is whole messages in the order of their completion, and at most the
   last one is cut, where the connection was lost;
L3 a send that ended as not out is on no wire, a completed one is on exactly one;
L4 what a peer wrote is delivered in order, unaltered, once, as far as it was delivered at all;
L5 no effect and no event names a connection after its end, which comes exactly once;
L6 a call at the deadline makes progress, and after it the next deadline lies ahead;
L7 memory stays within the limits, and is back at nothing when all is closed;
L8 a restriction holds for everything that is opened or sent.
(That `Rig` asserts: no second outcome, no write over another, no command for a closed connection.)
"""

import errno

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sippool_core import (
    Address,
    ConnectionClosed,
    ConnectionOpened,
    Limits,
    MessageReceived,
    PoolConfig,
    QueueFull,
    Restriction,
    SendCancelled,
    SendCompleted,
    SendFailed,
    StreamFramer,
    Target,
    Transport,
)
from sippool_core import Message as SipMessage
from tests.core.rig import Rig, request, response

HOSTS = ["192.0.2.9", "192.0.2.10", "192.0.2.11"]
ADDRESSES = [Address(host, port) for host in HOSTS for port in (5060, 40001, 40002)]
LIMITS = PoolConfig().replace(
    max_connections=6,
    max_connections_per_source=3,
    max_queued_messages=4,
    max_events=12,
    max_event_bytes=20_000,
    max_partial_bytes=3_000,
    max_header_bytes=1_000,
    max_body_bytes=1_000,
    max_open_requests=3,
    max_malformed=2,
)
picks = st.integers(0, 10**6)


class Peer:
    """What the other end of one connection says: whole messages, fed in pieces of any size."""

    def __init__(self):
        self.unsent = b""
        self.said = []


class CoreMachine(RuleBasedStateMachine):
    @initialize(restricted=st.booleans())
    def begin(self, restricted):
        self.restriction = Restriction(Address(HOSTS[0], 0)) if restricted else None
        config = PoolConfig(LIMITS.limits, LIMITS.timeouts, restrict_to=self.restriction)
        self.rig = Rig(config, writes_complete=False, take_events=False)
        self.tcp = self.rig.listen("tcp:192.0.2.1:5060")
        self.udp = self.rig.listen("udp:192.0.2.1:5060")
        self.serial = 0
        self.peers = {}
        self.finished = set()
        self.sends = {}
        self.received = []
        self.delivered = {}
        self.ended = set()

    def number(self):
        self.serial += 1
        return self.serial

    def living(self):
        return [number for number, wire in self.rig.wires.items() if not wire.closed]

    def pick(self, things, at):
        return things[at % len(things)]

    def try_send(self, make):
        try:
            return make()
        except QueueFull:
            return None

    # Peers.

    @rule(at=picks)
    def accept(self, at):
        connection = self.rig.accept(self.tcp, self.pick(ADDRESSES, at))
        if connection is not None:
            self.peers[connection] = Peer()

    @precondition(lambda self: self.peers)
    @rule(at=picks, size=st.integers(1, 900), body=st.sampled_from([0, 7, 300]), kind=picks)
    def peer_says(self, at, size, body, kind):
        connection = self.pick(list(self.peers), at)
        peer, wire = self.peers[connection], self.rig.wires[connection]
        number = self.number()
        method = self.pick(["OPTIONS", "INVITE", "ACK", "MESSAGE"], kind)
        message = request(method, branch=f"z9hG4bK{number}", call_id=f"p{number}", body=bytes(body))
        peer.said.append(f"p{number}".encode())
        peer.unsent += message + (b"\r\n\r\n" if kind % 5 == 0 else b"")
        if wire.paused or connection in self.finished:
            return
        chunk, peer.unsent = peer.unsent[:size], peer.unsent[size:]
        self.rig.data(connection, chunk)

    @precondition(lambda self: self.peers)
    @rule(at=picks, garbage=st.sampled_from([b"\x00", b"\n", b"GET / HTTP/1.1\r\n", b"\r\n\r\n"]))
    def peer_says_nonsense(self, at, garbage):
        connection = self.pick(list(self.peers), at)
        peer, wire = self.peers[connection], self.rig.wires[connection]
        if not wire.paused and not peer.unsent:
            self.rig.data(connection, garbage)
            if garbage != b"\r\n\r\n":
                peer.said.append(None)  # from here on nothing of this peer may be understood

    @precondition(lambda self: self.peers)
    @rule(at=picks, malformed=st.booleans())
    def peer_says_something_malformed(self, at, malformed):
        connection = self.pick(list(self.peers), at)
        peer, wire = self.peers[connection], self.rig.wires[connection]
        if not wire.paused and not peer.unsent and None not in peer.said:
            self.rig.data(connection, request().replace(b" SIP/2.0", b" SIP/9.0", 1))

    @precondition(lambda self: self.rig.wires)
    @rule(at=picks)
    def ends(self, at):
        connection = self.pick(list(self.rig.wires), at)
        if not self.rig.wires[connection].paused:
            self.rig.eof(connection)
            self.finished.add(connection)

    @precondition(lambda self: self.rig.wires)
    @rule(
        at=picks,
        code=st.sampled_from([0, errno.ECONNRESET, errno.EPIPE, errno.ECONNREFUSED, errno.EMFILE]),
    )
    def is_lost(self, at, code):
        self.rig.lost(self.pick(list(self.rig.wires), at), code)

    @precondition(lambda self: self.rig.opened)
    @rule(at=picks)
    def stands(self, at):
        connection = self.pick(self.rig.opened, at)
        self.rig.connected(connection)
        self.peers.setdefault(connection, Peer())

    @precondition(lambda self: any(wire.pending for wire in self.rig.wires.values()))
    @rule(at=picks, count=st.integers(1, 2000))
    def kernel_takes(self, at, count):
        busy = [n for n, wire in self.rig.wires.items() if wire.pending and not wire.closed]
        if busy:
            self.rig.accept_write(self.pick(busy, at), count)

    @rule(at=picks, body=st.sampled_from([0, 900]))
    def datagram_comes(self, at, body):
        source = self.pick(ADDRESSES, at)
        number = self.number()
        message = request(
            transport="UDP", branch=f"z9hG4bK{number}", call_id=f"p{number}", body=bytes(body)
        )
        self.rig.datagram(self.udp, message, source)

    # The application.

    @rule(count=st.integers(1, 20))
    def takes_events(self, count):
        for _ in range(count):
            event = self.rig.pool.next_event()
            if event is None:
                return
            self.learn(event)

    def learn(self, event):
        if isinstance(event, ConnectionClosed):
            assert event.flow.id not in self.ended
            self.ended.add(event.flow.id)
        elif isinstance(event, ConnectionOpened | MessageReceived):
            assert event.flow.id not in self.ended
        if isinstance(event, MessageReceived):
            if event.flow.transport is Transport.TCP:
                self.delivered.setdefault(event.flow.id, []).append(event.message.call_id)
            self.received.append(event)
            if self.restriction is not None:
                assert self.restriction.host.same_host(event.flow.peer)

    @precondition(lambda self: self.received)
    @rule(at=picks, body=st.sampled_from([0, 900]), status=st.sampled_from([100, 183, 200]))
    def replies(self, at, body, status):
        event = self.pick(self.received, at)
        if not event.message.can_be_answered:
            return
        number = self.number()
        answer = response(event.message, status, body=b"%06d" % number + bytes(body))
        send_id = self.try_send(lambda: self.rig.reply(event, answer))
        if send_id is not None:
            self.sends[send_id] = answer

    @rule(
        at=picks,
        transport=st.sampled_from([Transport.TCP, Transport.UDP]),
        body=st.sampled_from([0, 900]),
    )
    def sends_request(self, at, transport, body):
        number = self.number()
        message = request(
            transport=transport.name,
            branch=f"z9hG4bKs{number}",
            call_id=f"s{number}",
            body=bytes(body),
        )
        target = Target(transport, self.pick(ADDRESSES, at))
        send_id = self.try_send(lambda: self.rig.send(message, target))
        if send_id is not None:
            self.sends[send_id] = message

    @precondition(lambda self: self.sends)
    @rule(at=picks)
    def cancels(self, at):
        self.rig.cancel(self.pick(list(self.sends), at))

    @precondition(lambda self: self.received)
    @rule(at=picks)
    def closes_flow(self, at):
        self.rig.pool.close_flow(self.pick(self.received, at).flow, now=self.rig.now)
        self.rig.drain()

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.9, 5.0, 16.0, 40.0, 200.0]))
    def time_passes(self, seconds):
        self.rig.advance(seconds)

    @rule(seconds=st.sampled_from([-100.0, 5.0, 86400.0]))
    def clock_jumps(self, seconds):
        self.rig.now += seconds
        self.rig.pool.handle_timer(now=self.rig.now)
        self.rig.drain()
        self.rig.now = max(self.rig.now, 1000.0)

    # The laws.

    @invariant()
    def memory_stays_within_the_limits(self):
        if not hasattr(self, "rig"):
            return
        stats, limits = self.rig.pool.stats, LIMITS.limits
        living = len(self.living())
        assert stats.connections == living <= limits.max_connections
        pending = sum(len(wire.pending) for wire in self.rig.wires.values() if not wire.closed)
        assert pending <= stats.queued_bytes <= living * limits.max_queued_bytes
        assert 0 <= stats.partial_bytes <= limits.max_partial_bytes
        # Beyond the limit only facts that have a bound of their own.
        assert stats.events_waiting <= limits.max_events + 3 * len(self.rig.wires)

    @invariant()
    def the_next_deadline_is_not_missed(self):
        if hasattr(self, "rig"):
            self.rig.pool.handle_timer(now=self.rig.now)
            self.rig.drain()

    @invariant()
    def the_restriction_holds(self):
        if hasattr(self, "rig") and self.restriction is not None:
            peers = [wire.peer for wire in self.rig.wires.values()]
            peers += [peer for _, _, peer in self.rig.datagrams]
            assert all(self.restriction.host.same_host(peer) for peer in peers)

    def teardown(self):
        if not hasattr(self, "rig"):
            return
        self.rig.now += 10_000  # the clock may have been set back
        self.rig.close()
        self.rig.advance(2)
        for _ in range(1000):
            self.takes_events(1000)
            self.rig.advance(0.01)
            if not self.rig.pool.stats.events_waiting:
                break
        assert self.rig.pool.is_closed and self.rig.pool.next_deadline() is None
        stats = self.rig.pool.stats
        assert (stats.connections, stats.queued_bytes, stats.partial_bytes) == (0, 0, 0)
        assert self.ended == set(self.rig.wires)
        assert set(self.rig.outcomes) == set(self.sends)
        self.check_wires()
        self.check_deliveries()

    def check_wires(self):
        counted = dict.fromkeys(self.sends, 0)
        by_bytes = {message: send_id for send_id, message in self.sends.items()}
        for _, data, _ in self.rig.datagrams:
            counted[by_bytes[data]] += 1
        for wire in self.rig.wires.values():
            framer = StreamFramer(Limits())
            framer.receive(wire.written)
            while (piece := framer.next_event()) is not None:
                if isinstance(piece, SipMessage):
                    counted[by_bytes[piece.raw]] += 1
            rest = wire.written[len(wire.written) - framer.buffered_bytes :]
            assert rest in (b"", b"\r") or any(message.startswith(rest) for message in by_bytes)
        for send_id, count in counted.items():
            match self.rig.outcomes[send_id]:
                case SendCompleted():
                    assert count == 1
                case SendFailed(bytes_may_be_out=False) | SendCancelled(bytes_may_be_out=False):
                    assert count == 0
                case _:
                    assert count <= 1

    def check_deliveries(self):
        for connection, call_ids in self.delivered.items():
            peer = self.peers.get(connection)
            if peer is not None:
                assert peer.said[: len(call_ids)] == call_ids


CoreMachine.TestCase.settings = settings(
    stateful_step_count=60,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)
TestCore = CoreMachine.TestCase
