"""A handler instead of an iteration, the same on every runtime: whatever it does, the pool lives on."""

from __future__ import annotations

import logging

import pytest

from sippool_core import ConnectionClosed, MessageReceived, SendUnawaited


def ask(rt, pool, *requests):
    """A connection that has sent requests."""
    peer = rt.dial(pool.listeners[0].address)
    for request in requests:
        peer.send(request)
    return peer


async def test_a_handler_answers(rt, sip):
    def handle(pool, event):
        if isinstance(event, MessageReceived):
            pool.reply(event, sip.answer(event.message))

    async with rt.open("tcp:127.0.0.1:0", handler=handle) as pool:
        peer = ask(rt, pool, *(sip.request(branch=str(number)) for number in range(20)))
        for number in range(20):
            assert f"z9hG4bK{number};" in sip.header(await rt.read_message(peer), "Via")


async def test_a_handler_that_raises_is_logged_and_called_again(rt, sip, caplog):
    def handle(pool, event):
        if isinstance(event, MessageReceived):
            if event.message.method == "OPTIONS":
                raise LookupError("the application has a bug")
            pool.reply(event, sip.answer(event.message))

    with caplog.at_level(logging.ERROR, "sippool"):
        async with rt.open("tcp:127.0.0.1:0", handler=handle) as pool:
            peer = ask(rt, pool, sip.request(), sip.request("INFO"))
            assert sip.header(await rt.read_message(peer), "CSeq") == "1 INFO"
            assert pool.handler_errors == 1
    assert [record.name for record in caplog.records] == ["sippool"]
    assert caplog.records[0].exc_info[0] is LookupError


async def test_a_handler_only_queues(rt, sip):
    """What it sends goes out after it has returned, and it is never called within itself."""
    depth, seen = [], []

    def handle(pool, event):
        assert not depth
        depth.append(event)
        if isinstance(event, MessageReceived):
            outcome = pool.reply(event, sip.answer(event.message))
            seen.append((outcome, outcome.done))
            with pytest.raises(RuntimeError, match="in a handler"):
                pool._driver.step()
        depth.clear()

    async with rt.open("tcp:127.0.0.1:0", handler=handle) as pool:
        peer = ask(rt, pool, sip.request())
        await rt.read_message(peer)
        [(outcome, was_done)] = seen
        assert not was_done
        await rt.until(lambda: outcome.done)
        assert pool.handler_errors == 0


async def test_a_handler_that_feeds_itself_lets_the_others_live(rt, sip):
    """Each failure makes it send again: it would never end, and it does not keep the pool from its sockets."""
    target = []

    def handle(pool, event):
        if isinstance(event, SendUnawaited):
            pool.send(sip.request(), flow=target[0])
        elif isinstance(event, MessageReceived):
            if not target:
                target.append(event.flow._replace(id=10**6))
                pool.send(sip.request(), flow=target[0])
            pool.reply(event, sip.answer(event.message))

    async with rt.open("tcp:127.0.0.1:0", handler=handle) as pool:
        for _ in range(3):
            peer = ask(rt, pool, sip.request())
            await rt.read_message(peer)
        assert pool.stats.sends_failed.total() > 3


async def test_a_handler_that_closes_the_pool(rt, sip):
    events = []

    def handle(pool, event):
        events.append(type(event))
        if isinstance(event, MessageReceived):
            pool.reply(event, sip.answer(event.message))
            rt.begin_to_close(pool)

    async with rt.open("tcp:127.0.0.1:0", handler=handle) as pool:
        peer = ask(rt, pool, sip.request())
        assert (await rt.read_message(peer)).startswith(b"SIP/2.0 200 ")
        await rt.until(lambda: pool.is_closed)
        assert await rt.read(peer, 1) == b""
    assert events[-1] is ConnectionClosed


async def test_events_have_one_reader(rt):
    async with rt.open("udp:127.0.0.1:0", handler=lambda pool, event: None) as pool:
        with pytest.raises(RuntimeError, match="handler"):
            await rt.receive(pool)
        with pytest.raises(RuntimeError, match="handler"):
            pool.take_event()


async def test_more_messages_than_a_step_hands_out(rt, sip):
    numbers = []

    def handle(pool, event):
        if isinstance(event, MessageReceived):
            numbers.append(sip.header(event.message, "Via"))

    async with rt.open("tcp:127.0.0.1:0", handler=handle) as pool:
        burst = b"".join(sip.request(branch=str(number)) for number in range(200))
        peers = [ask(rt, pool, burst) for _ in range(4)]
        await rt.until(lambda: len(numbers) == 800)
        assert len(set(numbers)) == 800
        assert peers
