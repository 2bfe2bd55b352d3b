"""What the wires carried, read when all is over: the laws about bytes that sockets have really taken.

1. Streams over TCP are read as a whole, by the framer of the library, whose own oracle is the slow one of `fuzz`.
2. Of TLS only what everybody on the way can see.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from sippool_core import (
    CloseReason,
    Limits,
    Message,
    Outcome,
    Ping,
    SendCancelled,
    SendCompleted,
    SendFailed,
    StreamFramer,
    Transport,
)

from .oracle import require

if TYPE_CHECKING:
    from collections.abc import Collection

    from sippool_core import PoolConfig

    from .oracle import Witness

_ENOUGH_BYTES = 80
"""The start of a message that is surely nobody else's: beyond the branch."""


def check_wires(witness: Witness) -> None:
    """Raise `LawBroken` where a wire carried what it must not, or an outcome lies about what it carried."""
    outcomes: dict[bytes, list[Outcome]] = defaultdict(list)
    for number, sending in witness.sends.items():
        outcomes[sending.message].append(witness.outcomes[number])
    carried: Counter[bytes] = Counter()
    for number, given in witness.given.items():
        taken = bytes(witness.sockets[number].sent_bytes)
        require("I3", given.startswith(taken), f"connection {number} carries what was not given")
        if number in witness.tls:
            require("I13", b"SIP/2.0" not in given, f"plain bytes on TLS connection {number}")
        else:
            carried.update(_check_stream(witness, number, taken, outcomes))
            _check_delivery(witness, number)
    for raw, ends in outcomes.items():
        _check_outcomes(raw, ends, carried[raw])
    _check_hellos(witness)


def messages_of(data: bytes, config: PoolConfig) -> list[tuple[bytes, int]]:
    """The Call-IDs and body lengths of the messages that a pool with these limits must find in a stream."""
    # How many keep-alives are too many depends on when they came.
    limits = dataclasses.replace(config.limits, max_keepalive_bytes=2**30)
    framer = StreamFramer(limits)
    framer.receive(data)
    found = []
    while (piece := framer.next_event()) is not None:
        if isinstance(piece, Message):
            found.append((piece.call_id, len(piece.body)))
    return found


def _check_stream(
    witness: Witness, number: int, data: bytes, outcomes: dict[bytes, list[Outcome]]
) -> list[bytes]:
    """I3: whole messages one after another, at most the last one cut; returns the whole ones."""
    framer = StreamFramer(Limits())
    framer.receive(data)
    whole = []
    while (piece := framer.next_event()) is not None:
        if isinstance(piece, Message):
            require("I3", piece.raw in outcomes, f"connection {number} carries what nobody sent")
            whole.append(piece.raw)
            if not piece.is_request:
                asked = (piece.call_id, piece.cseq_number) in witness.requests[number]
                require("I11", asked, f"connection {number} carries an answer that is another's")
        else:
            # Between messages there are pongs, and nothing else.
            require("I3", isinstance(piece, Ping), f"connection {number} is cut wrongly: {piece}")
    rest = data[len(data) - framer.buffered_bytes :]
    if rest not in (b"", b"\r", b"\r\n"):
        _check_rest(rest, number, outcomes)
    return whole


def _check_rest(rest: bytes, number: int, outcomes: dict[bytes, list[Outcome]]) -> None:
    """A message was cut: whoever sent it knows that bytes of it may be out."""
    starts = [ends for raw, ends in outcomes.items() if raw.startswith(rest)]
    require("I3", starts, f"connection {number} ends in what nobody sent")
    if len(rest) > _ENOUGH_BYTES:
        honest = any(_may_be_out(outcome) for ends in starts for outcome in ends)
        require("I2", honest, f"connection {number} ends in a message that is said to be elsewhere")


def _check_outcomes(raw: bytes, ends: Collection[Outcome], carried: int) -> None:
    """I2: what is completed is on one wire, what failed without a byte is on none."""
    completed = [outcome.flow for outcome in ends if isinstance(outcome, SendCompleted)]
    if any(flow.transport is Transport.TLS for flow in completed):
        return
    least = sum(flow.transport is Transport.TCP for flow in completed)
    most = least + sum(map(_may_be_out, ends))
    start = raw[:60]
    require("I2", carried >= least, f"something is called sent and is on no wire: {start!r}")
    require("I2", carried <= most, f"something is on more wires than it was sent on: {start!r}")


def _may_be_out(outcome: Outcome) -> bool:
    return isinstance(outcome, (SendFailed, SendCancelled)) and outcome.bytes_may_be_out


def _check_delivery(witness: Witness, number: int) -> None:
    """I5: what the peer wrote is delivered in order, once, unaltered; all of it, if the peer then closed in order."""
    peer = witness.sockets[number].peer
    if peer is None:
        return
    there = messages_of(bytes(peer.sent_bytes), witness.config)
    here = witness.delivered.get(number, [])
    require("I5", there[: len(here)] == here, f"connection {number} delivers what nobody wrote")
    ended = witness.ended.get(number)
    if ended is not None and ended.reason is CloseReason.CLOSED_BY_PEER:
        require("I5", here == there, f"{len(there) - len(here)} messages of {number} are lost")


def _check_hellos(witness: Witness) -> None:
    """I12: whoever we connect to by name is asked for by that name (RFC 6066 section 3)."""
    for number, outcome in witness.outcomes.items():
        target = witness.sends[number].target
        flow = getattr(outcome, "flow", None)
        if target is None or target.server_name is None or flow is None or not flow.outbound:
            continue
        hello = witness.given.get(flow.id)
        if flow.transport is Transport.TLS and hello:
            named = target.server_name.encode() in hello
            require("I12", named, f"{target.server_name} was not asked for by its name")
