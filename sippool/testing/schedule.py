"""One schedule: several pools, hostile peers and a network that fails, all from one seed.

1. The same seed gives the same trace; its hash is in the result. (Real TLS draws its own random bytes: of ciphertext
   only lengths count.)
2. Each action draws from a source of its own, so leaving some out leaves the others what they are: that is how a
   failing schedule is shrunk.
3. After every step the laws are checked (`oracle`). At the end the faults stop, and then everything settles within
   the sum of the timeouts: each send has ended, nothing is held, no descriptor is open.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sippool_core import (
    Address,
    ClientVerification,
    PoolConfig,
    Restriction,
    Target,
    TlsSettings,
    Transport,
)

from .hostile import HostilePeer
from .messages import request
from .network import Faults, SimulatedNetwork
from .oracle import require
from .pools import SimulatedPool
from .probes import probe
from .wires import check_wires

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_STEPS_WITHOUT_TIME = 5000
ACTIONS = 60
TLS_SHARE = 0.05
_CALM_MINUTES = 13
"""Three for the application's last answers, and then the longest hold and the longest idle time in a row."""
_CERTIFICATES = Path(__file__).parent / "certificates"


@dataclass
class Result:
    """What became of a schedule in which every law held."""

    seed: int
    steps: int = 0
    """Actions, pool steps and arrivals."""
    events: int = 0
    pools: int = 0
    digest: str = ""
    faults: Counter[str] = field(default_factory=Counter)


class Schedule:
    """See the module's rules; `run` it once. `kept`: only these of the actions, all by default."""

    def __init__(
        self, seed: int, *, actions: int = ACTIONS, kept: Collection[int] | None = None
    ) -> None:
        self.seed = seed
        self.kept = range(actions) if kept is None else kept
        self.rng = random.Random(seed)
        self.with_tls = self.rng.random() < TLS_SHARE
        self.network = SimulatedNetwork(random.Random(f"{seed} network"), self._draw_faults())
        self._hash = hashlib.blake2b(digest_size=8)
        self._serial = 0
        count = self.rng.choice([3, 3, 4, 5])
        self.pools = [self._make_pool(number) for number in range(count)]
        self.result = Result(seed, pools=count)
        tcp = [Address(pool.host, port) for pool in self.pools for port in self._stream_ports()]
        udp = [Address(pool.host, 5060) for pool in self.pools]
        self.enemies = [
            HostilePeer(self.network, random.Random(f"{seed} enemy {n}"), f"10.6.6.{n}", tcp, udp)
            for n in range(1, 1 + self.rng.choice([0, 1, 2, 3]))
        ]

    def run(self) -> Result:
        """Play it; raises `LawBroken`, or whatever the pools raise."""
        for number in self.kept:
            self.rng = random.Random(f"{self.seed} action {number}")
            self._act()
            self._let_time_pass(self.rng.choice([0.0, 0.001, 0.05, 0.5, 0.5, 3.0, 25.0]))
        self._calm_down()
        self._finish()
        self.result.digest = self._hash.hexdigest()
        self.result.faults.update(self.network.struck)
        return self.result

    # What is drawn.

    def _draw_faults(self) -> Faults:
        """Each fault is on in half of the schedules, so that rare ones meet no crowd of others."""
        rng = self.rng

        def chance(most: float) -> float:
            return most * rng.random() ** 2 if rng.random() < 0.5 else 0.0

        return Faults(
            latency_seconds=rng.choice([(0.0, 0.001), (0.001, 0.05), (0.01, 2.0)]),
            capacity_bytes=rng.choice([200, 4000, 65536]),
            partial_read=chance(0.5),
            partial_write=chance(0.5),
            would_block=chance(0.3),
            datagram_lost=chance(0.3),
            datagram_doubled=chance(0.3),
            connect_refused=chance(0.3),
            connect_silent=chance(0.2),
            connect_slow_seconds=rng.choice([0.0, 0.0, 12.0]),
            reset=chance(0.05),
            accept_error=chance(0.3),
            read_error=chance(0.05),
            write_error=chance(0.05),
            open_error=chance(0.1),
            peer_gone_before_accept=chance(0.3),
        )

    def _make_pool(self, number: int) -> SimulatedPool:
        rng = self.rng
        host = f"10.0.0.{number + 1}"
        config = PoolConfig().replace(
            max_connections=rng.choice([2, 6, 100]),
            max_connections_per_source=rng.choice([2, 50]),
            max_handshakes=rng.choice([1, 64]),
            max_queued_messages=rng.choice([2, 256]),
            max_queued_bytes_total=rng.choice([9000, 2**24]),
            max_events=rng.choice([4, 20, 1024]),
            max_event_bytes=rng.choice([4000, 2**23]),
            max_malformed=rng.choice([2, 8]),
            max_open_requests=rng.choice([2, 30]),
            max_partial_bytes=rng.choice([3000, 2**25]),
            min_idle_seconds=rng.choice([1.0, 15.0]),
            max_idle_seconds=rng.choice([15.0, 120.0]),
        )
        if rng.random() < 0.2:
            place = Restriction(Address(f"10.0.0.{rng.randint(1, 3)}", rng.choice([0, 5060])))
            config = replace(config, restrict_to=place)
        listen_at = [f"tcp:{host}:5060", f"udp:{host}:5060"]
        if self.with_tls:
            config = replace(config, tls=_tls_settings(rng))
            listen_at.append(f"tls:{host}:5061")
        own = random.Random(f"{self.seed} pool {number}")
        pool = SimulatedPool(self.network, own, host, config, *listen_at, pulls=rng.random() < 0.4)
        pool.trace = lambda what: self._trace(f"{host} {what}")
        return pool

    def _stream_ports(self) -> list[int]:
        return [5060, 5061] if self.with_tls else [5060]

    # What happens.

    def _act(self) -> None:
        rng = self.rng
        pool = rng.choice(self.pools)
        weights = {
            "ask": 30.0,
            "ask by flow": 4,
            "ask back": 4,
            "take": 15,
            "cancel": 5,
            "close flow": 3,
            "enemy": 25 if self.enemies else 0,
            "clock": 2,
            "descriptors": 3,
            "close": 0.3,
        }
        [deed] = rng.choices(list(weights), list(weights.values()))
        if deed == "enemy":
            self._trace(rng.choice(self.enemies).act())
        elif not pool.driver.is_shut:
            self._trace(f"{pool.host} {deed}")
            self._do(pool, deed)
        self.result.steps += 1

    def _do(self, pool: SimulatedPool, deed: str) -> None:
        rng = self.rng
        if deed == "ask":
            self._ask(pool)
        elif deed == "ask by flow" and pool.flows:
            flow = rng.choice(pool.flows)
            pool.ask(self._request(pool, flow.transport), None, flow)
        elif deed == "ask back" and pool.flows:
            # To the very port that somebody has come from, or whom we have connected to.
            flow = rng.choice(pool.flows)
            name = flow.tls.matched_identity if flow.tls and flow.outbound else None
            target = Target(flow.transport, flow.peer, None if name == flow.peer.host else name)
            pool.ask(self._request(pool, flow.transport), target)
        elif deed == "take" and pool.driver.handler is None:
            pool.take(rng.choice([1, 5, 50]))
        elif deed == "cancel" and pool.held:
            self.network.count("cancelled send")
            rng.choice(pool.held).cancel()
        elif deed == "close flow" and pool.flows:
            pool.close_flow(rng.choice(pool.flows))
        elif deed == "clock":
            self.network.count("clock jump")
            pool.jump(rng.choice([-3600.0, -1.0, 1.0, 86400.0]))
        elif deed == "descriptors":
            used = len(pool.layer.open_sockets)
            pool.layer.max_sockets = rng.choice([None, None, used, used + 1])
        elif deed == "close":
            pool.close_now()

    def _ask(self, pool: SimulatedPool) -> None:
        rng = self.rng
        hosts = [other.host for other in self.pools if other is not pool]
        hosts += [enemy.layer.address for enemy in self.enemies] + ["10.9.9.9"]
        transport = rng.choice([Transport.TCP, Transport.TCP, Transport.UDP])
        name = None
        if self.with_tls and rng.random() < 0.6:
            transport = Transport.TLS
            name = rng.choice([None, "pool.test", "pool.test", "3cx.test"])
        target = Target(transport, Address(rng.choice(hosts), transport.default_port), name)
        for _ in range(rng.choice([1, 1, 3, 10])):
            message = self._request(pool, transport)
            pool.ask(message, target)
            if transport is Transport.TCP and target.address.host in hosts[: len(self.pools) - 1]:
                for enemy in self.enemies:
                    enemy.overheard.append((target.address, message))

    def _request(self, pool: SimulatedPool, transport: Transport) -> bytes:
        self._serial += 1
        call_id = f"{pool.host}.{self._serial}"
        pool.asked.add(call_id.encode())
        return request(
            self.rng.choice(["OPTIONS", "INVITE", "MESSAGE", "ACK"]),
            branch=f"z9hG4bKc{self._serial}",
            transport=transport.name,
            sent_by=f"{pool.host}:5060",
            call_id=call_id,
            body=b"b" * self.rng.choice([0, 0, 100, 3000]),
        )

    def _let_time_pass(self, seconds: float) -> None:
        end = self.network.now + seconds
        while True:
            self._step_pools()
            for pool in self.pools:
                if pool.has_stepped:
                    pool.settle()
            instants = [at for pool in self.pools if (at := pool.next_at()) is not None]
            arrival = self.network.next_at()
            if arrival is not None:
                instants.append(arrival)
            if not instants or min(instants) > end:
                break
            self.network.advance_to(max(min(instants), self.network.now))
            self.result.steps += 1
        self.network.advance_to(end)
        for pool in self.pools:
            # Who should have done something has done nothing.
            pool.settle()

    def _step_pools(self) -> None:
        """Let every pool do what it can do without time passing; none may go on for ever (I16)."""
        for count in range(MAX_STEPS_WITHOUT_TIME):
            busy = [pool for pool in self.pools if pool.has_work()]
            if not busy:
                return
            pool = busy[count % len(busy)]
            pool.step()
            self.result.steps += 1
        require("I16", not busy, f"{busy[0].host} does something for ever")

    # How it ends.

    def _calm_down(self) -> None:
        """The faults stop, and with them the clocks' jumps; of the enemies some go, and some are just silent."""
        self.network.faults = Faults()
        self.rng = random.Random(f"{self.seed} calm")
        for enemy in self.enemies:
            if self.rng.random() < 0.5:
                enemy.stop()
        for pool in self.pools:
            pool.layer.max_sockets = None
        for _ in range(_CALM_MINUTES):
            self._take_everything()
            self._let_time_pass(60.0)
        for pool in self.pools:
            waiting = set(pool.witness.sends) - set(pool.witness.outcomes)
            require("L", not waiting, f"{pool.host}: sends {sorted(waiting)[:5]} never end")
            left = sorted(pool.driver.core._streams.connections)
            require("L", not left, f"{pool.host}: connections {left[:5]} never end")

    def _finish(self) -> None:
        for pool in self.pools:
            if not pool.driver.is_finished:
                probe(self.network, pool, self._wait_a_moment)
        for pool in self.pools:
            if not pool.driver.is_shut:
                pool.recount()
                pool.close_now()
        for _ in range(5):
            self._take_everything()
            self._let_time_pass(1.0)
        for enemy in self.enemies:
            enemy.stop()
        for pool in self.pools:
            pool.witness.check_end()
            check_wires(pool.witness)
            pool.driver.shut()
            require("I9", not pool.layer.open_sockets, f"{pool.host}: descriptors are left open")
            self.result.events += pool.witness.events

    def _wait_a_moment(self) -> None:
        for _ in range(4):
            self._let_time_pass(0.1)
            self._take_everything()

    def _take_everything(self) -> None:
        for pool in self.pools:
            if not pool.driver.is_shut and pool.driver.handler is None:
                pool.take(100_000)

    def _trace(self, what: str) -> None:
        self._hash.update(f"{self.network.now:.9f} {what}\n".encode())


def _tls_settings(rng: random.Random) -> TlsSettings:
    """Certificates that everybody in a schedule trusts; some ask clients for theirs, which all have."""
    verify = rng.choice(
        [ClientVerification.NONE, ClientVerification.OPTIONAL, ClientVerification.REQUIRED]
    )
    return TlsSettings(
        certificate=_CERTIFICATES / "pool.pem",
        key=_CERTIFICATES / "pool.key",
        ca=_CERTIFICATES / "ca.pem",
        verify_client=verify,
    )
