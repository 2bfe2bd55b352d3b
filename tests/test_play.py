"""The ten lines a stack author writes: her pools on a network that fails."""

import random

import pytest

from sippool.testing.hosts import SimulatedSockets
from sippool.testing.messages import request, response
from sippool.testing.network import Faults, SimulatedNetwork
from sippool.testing.play import play
from sippool_core import MessageReceived
from sippool_sync import SendError, SyncPool


def answer_everything(pool, event):
    if isinstance(event, MessageReceived) and event.message.is_request:
        pool.reply(event, response(event.message))


def scene(faults, **client):
    network = SimulatedNetwork(random.Random(7), faults)
    server = SyncPool(
        "tcp:10.0.0.1:5060",
        "udp:10.0.0.1:5060",
        handler=answer_everything,
        sockets=SimulatedSockets(network, "10.0.0.1"),
        clock=network.clock,
    )
    sockets = SimulatedSockets(network, "10.0.0.2")
    return (
        network,
        server,
        SyncPool("udp:10.0.0.2:5060", sockets=sockets, clock=network.clock, **client),
    )


@pytest.mark.parametrize("where", ["tcp:10.0.0.1:5060", "udp:10.0.0.1:5060"])
def test_a_request_and_its_answer_in_no_time(where):
    network, server, client = scene(Faults(partial_read=0.5, partial_write=0.5, would_block=0.3))
    transport = where[:3].upper()
    outcome = client.send(request(transport=transport, via=";rport", body=bytes(3000)), where)
    play(network, 1.0, server, client)
    assert outcome.result()
    assert client.receive(0).message.status == 200
    assert network.struck["would_block"]


def test_nobody_answers_a_silent_network():
    network, server, client = scene(Faults(connect_silent=1.0))
    outcome = client.send(request(), "tcp:10.0.0.1:5060")
    play(network, 9.9, server, client)
    assert not outcome.done
    play(network, 0.2, server, client)
    with pytest.raises(SendError, match="connect timeout"):
        outcome.result()
    assert network.now == pytest.approx(1010.1)


def test_a_pool_that_never_rests_is_told():
    class Restless:
        def process(self):
            pass

        def next_deadline(self):
            return 0.0

    network = SimulatedNetwork(random.Random(1))
    with pytest.raises(RuntimeError, match="for ever"):
        play(network, 1.0, Restless())
