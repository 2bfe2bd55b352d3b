"""One schedule: several pools, hostile peers and a network that fails, all from one seed.

1. The same seed gives the same trace; its hash is in the result.
2. After every step the laws are checked (`oracle`). At the end the faults stop, and then everything settles within
   the sum of the timeouts: each send has ended, nothing is held, no descriptor is open.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field

from sippool_core import Address, PoolConfig, Restriction, Target, Transport

from .hostile import HostilePeer
from .messages import request
from .network import Faults, SimulatedNetwork
from .oracle import require
from .pools import SimulatedPool

MAX_STEPS_WITHOUT_TIME = 5000


@dataclass
class Result:
    """What became of a schedule in which every law held."""

    seed: int
    steps: int = 0
    events: int = 0
    digest: str = ""
    faults: Counter[str] = field(default_factory=Counter)


class Schedule:
    """See the module's rules; `run` it once."""

    def __init__(self, seed: int, *, actions: int = 60) -> None:
        self.seed = seed
        self.actions = actions
        self.rng = random.Random(seed)
        self.network = SimulatedNetwork(self.rng, self._draw_faults())
        self.result = Result(seed)
        self._hash = hashlib.blake2b(digest_size=8)
        self._serial = 0
        self.pools = [self._make_pool(number) for number in range(self.rng.choice([3, 3, 4, 5]))]
        tcp = [Address(pool.host, 5060) for pool in self.pools]
        self.enemies = [
            HostilePeer(self.network, self.rng, f"10.6.6.{number}", tcp, tcp)
            for number in range(1, 1 + self.rng.choice([0, 1, 2, 3]))
        ]

    def run(self) -> Result:
        """Play it; raises `LawBroken`, or whatever the pools raise."""
        for _ in range(self.actions):
            self._act()
            self._let_time_pass(self._draw_seconds())
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
            max_queued_messages=rng.choice([2, 256]),
            max_events=rng.choice([4, 20, 1024]),
            max_open_requests=rng.choice([2, 30]),
            max_partial_bytes=rng.choice([3000, 2**25]),
            min_idle_seconds=rng.choice([1.0, 15.0]),
            max_idle_seconds=rng.choice([15.0, 120.0]),
        )
        if rng.random() < 0.2:
            place = Restriction(Address(f"10.0.0.{rng.randint(1, 3)}", rng.choice([0, 5060])))
            config = PoolConfig(config.limits, config.timeouts, place)
        listen_at = (f"tcp:{host}:5060", f"udp:{host}:5060")
        pool = SimulatedPool(self.network, rng, host, config, *listen_at, pulls=rng.random() < 0.4)
        pool.trace = lambda what: self._trace(f"{host} {what}")
        return pool

    def _draw_seconds(self) -> float:
        return self.rng.choice([0.0, 0.001, 0.05, 0.5, 0.5, 3.0, 25.0])

    # What happens.

    def _act(self) -> None:
        rng = self.rng
        pool = rng.choice(self.pools)
        deed = rng.choices(
            (
                "ask",
                "ask by flow",
                "take",
                "cancel",
                "close flow",
                "enemy",
                "clock",
                "descriptors",
                "close",
            ),
            (30, 4, 15, 5, 3, 25 if self.enemies else 0, 2, 3, 0.3),
        )[0]
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
        elif deed == "take" and pool.driver.handler is None:
            pool.take(rng.choice([1, 5, 50]))
        elif deed == "cancel" and pool.held:
            rng.choice(pool.held).cancel()
        elif deed == "close flow" and pool.flows:
            pool.close_flow(rng.choice(pool.flows))
        elif deed == "clock":
            self.network.struck["clock jump"] += 1
            pool.clock_offset += rng.choice([-3600.0, -1.0, 1.0, 86400.0])
            # A wait lasts as long as it was meant to, whatever the clock says: the next step comes in time.
            pool.step()
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
        target = Target(transport, Address(rng.choice(hosts), 5060))
        for _ in range(rng.choice([1, 1, 3, 10])):
            pool.ask(self._request(pool, transport), target)

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
            instants = [at for pool in self.pools if (at := pool.next_at()) is not None]
            arrival = self.network.next_at()
            if arrival is not None:
                instants.append(arrival)
            if not instants or min(instants) > end:
                break
            self.network.advance_to(max(min(instants), self.network.now))
            self.result.steps += 1
        self.network.advance_to(end)

    def _step_pools(self) -> None:
        """Let every pool do what it can do without time passing; none may go on for ever (I16)."""
        for count in range(MAX_STEPS_WITHOUT_TIME):
            busy = [pool for pool in self.pools if pool.has_work()]
            if not busy:
                return
            pool = self.rng.choice(busy)
            pool.step()
            self.result.steps += 1
            stuck = count > MAX_STEPS_WITHOUT_TIME - 10
            require("I16", not stuck, f"{pool.host} does something for ever")

    # How it ends.

    def _calm_down(self) -> None:
        """The faults stop, and with them the clocks' jumps."""
        self.network.faults = Faults()
        for enemy in self.enemies:
            enemy.stop()
        for pool in self.pools:
            pool.layer.max_sockets = None
        for _ in range(3):
            self._take_everything()
            self._let_time_pass(60.0)
        for pool in self.pools:
            waiting = set(pool.witness.sends) - set(pool.witness.outcomes)
            require("liveness", not waiting, f"{pool.host}: sends {sorted(waiting)[:5]} never end")

    def _finish(self) -> None:
        for pool in self.pools:
            if not pool.driver.is_shut:
                pool.close_now()
        for _ in range(5):
            self._take_everything()
            self._let_time_pass(1.0)
        for pool in self.pools:
            pool.witness.check_end()
            pool.driver.shut()
            require("I9", not pool.layer.open_sockets, f"{pool.host}: descriptors are left open")
            self.result.events += pool.witness.events

    def _take_everything(self) -> None:
        for pool in self.pools:
            if not pool.driver.is_shut and pool.driver.handler is None:
                pool.take(100_000)

    def _trace(self, what: str) -> None:
        self._hash.update(f"{self.network.now:.9f} {what}\n".encode())
