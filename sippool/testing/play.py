"""Lets pools on a simulated network live for a while: whoever has work works, and then time leaps to the next thing.

network = SimulatedNetwork(random.Random(7), Faults(partial_read=0.5, reset=0.01))
server = SyncPool("tcp:10.0.0.1:5060", handler=answer_everything,
                  sockets=SimulatedSockets(network, "10.0.0.1"), clock=network.clock)
client = SyncPool(sockets=SimulatedSockets(network, "10.0.0.2"), clock=network.clock)
outcome = client.send(request(), "tcp:10.0.0.1:5060")
play(network, 60.0, server, client)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .network import SimulatedNetwork

MAX_ROUNDS = 100_000


class Player(Protocol):
    """A pool, as `SyncPool` is one."""

    def process(self) -> None:
        """Do what is to be done, without waiting."""

    def next_deadline(self) -> float | None:
        """When to be processed even if nothing comes."""


def play(network: SimulatedNetwork, seconds: float, *pools: Player) -> None:
    """Let that much virtual time pass; raises `RuntimeError` if the pools never come to rest in one instant."""
    end = network.now + seconds
    while True:
        for _ in range(MAX_ROUNDS):
            due = [at for pool in pools if (at := pool.next_deadline()) is not None]
            ready = any(layer.selector.has_ready() for layer in network.layers)
            if not ready and (not due or min(due) > network.now):
                break
            for pool in pools:
                pool.process()
        else:
            raise RuntimeError("the pools do something for ever, and no time passes")
        arrival = network.next_at()
        instants = due if arrival is None else [*due, arrival]
        if not instants or min(instants) > end:
            break
        network.advance_to(min(instants))
    network.advance_to(end)
