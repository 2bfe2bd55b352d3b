"""Commands that nobody had performed when what they are for was over."""

import errno

from sippool_core import (
    CloseConnection,
    MessageReceived,
    Pool,
    SendFailed,
    Transport,
    WriteData,
)
from tests.core.rig import LOCAL, PEER, request, response


def test_a_write_that_was_not_performed_does_not_go_out_after_the_end():
    """Its send has been told that no byte is out; found by the simulation (regressions/unperformed-write.json)."""
    pool = Pool(now=0.0)
    listener = pool.add_listener(Transport.TCP, LOCAL, now=0.0)
    connection = pool.handle_accepted(listener, PEER, LOCAL, now=0.0)
    pool.handle_data(connection, request(), now=0.0)
    events = iter(pool.next_event, None)
    received = next(event for event in events if isinstance(event, MessageReceived))
    send_id = pool.reply(received, response(received.message), now=0.0)
    pool.handle_lost(connection, errno.ECONNRESET, now=0.0)
    effects = list(iter(pool.next_effect, None))
    assert not any(isinstance(effect, WriteData) for effect in effects)
    assert any(isinstance(effect, CloseConnection) for effect in effects)
    [failed] = [effect for effect in effects if isinstance(effect, SendFailed)]
    assert failed.send_id == send_id and not failed.bytes_may_be_out
