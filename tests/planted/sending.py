"""Outcomes that lie, come twice or never, and bytes that are cut."""

from sippool_core import SendCancelled
from sippool_core.closing import Closer
from sippool_core.connection import Connection
from sippool_core.sends import Ledger
from sippool_core.streams import Streams
from sippool_sync import stream
from sippool_sync.outcome import BaseOutcome

from .registry import bug


@bug("N4")
def a_lost_send_is_not_reported(patch):
    """When a connection goes, nobody is told about what was queued on it"""

    def fail(self, send, reason, flow, *, bytes_may_be_out=False, detail=""):
        self._open.pop(send.send_id, None)

    patch.setattr(Ledger, "fail", fail)


@bug("send reported twice")
def a_cancelled_send_ends_again(patch):
    """A cancelled send stays in the ledger, and ends once more when it is out"""

    def cancel(self, send, *, bytes_may_be_out):
        self._state.stats.sends_cancelled += 1
        self._state.effects.append(SendCancelled(send.send_id, bytes_may_be_out))

    patch.setattr(Ledger, "cancel", cancel)


@bug("send reported early")
def sent_with_its_first_byte(patch):
    """A message is called sent when the kernel has taken its first byte"""
    written = Connection.written

    def early(self, count):
        sent = written(self, count)
        while self._in_flight and self._in_flight[0].start < self._write_done:
            sent.append(self._in_flight.popleft().send)
        return sent

    patch.setattr(Connection, "written", early)


@bug("A4")
def a_cancelled_send_cuts_the_stream(patch):
    """Cancelling a send that is half out throws the other half away, and the next one follows"""
    cancel = BaseOutcome.cancel

    def cut(self):
        pending = self._driver.core._ledger.get(self.send_id)
        cancel(self)
        if pending is None:
            return
        found = self._driver._streams.get(pending.connection_id)
        if found is not None and found._unsent:
            rest, found._unsent = len(found._unsent), stream._NOTHING
            now = self._driver.enter()
            self._driver.core.handle_written(pending.connection_id, rest, now=now)
            self._driver.perform()

    patch.setattr(BaseOutcome, "cancel", cut)


@bug("retry after bytes are out")
def retried_though_bytes_are_out(patch):
    """A send that died half way is begun anew on another connection"""
    abandon = Connection.abandon

    def forgetful(self):
        return [(send, False) for send, _ in abandon(self)]

    patch.setattr(Connection, "abandon", forgetful)


@bug("send reported wrongly")
def a_cancelled_send_is_called_taken_back(patch):
    """Whoever cancels is told that no byte is out, whether that is so or not"""
    cancel = Ledger.cancel

    def lie(self, send, *, bytes_may_be_out):
        cancel(self, send, bytes_may_be_out=False)

    patch.setattr(Ledger, "cancel", lie)


@bug("order lost")
def the_last_goes_first(patch):
    """What is queued behind a write goes out in the wrong order"""
    enqueue = Connection.enqueue

    def in_front(self, send):
        enqueue(self, send)
        self._queue.rotate(1)

    patch.setattr(Connection, "enqueue", in_front)


@bug("send never reported")
def no_new_try(patch):
    """A send that deserves another connection is put aside, and never tried again"""
    settle = Streams.settle

    def forget(self):
        self._closer.to_retry.clear()
        settle(self)

    patch.setattr(Streams, "settle", forget)


@bug("bound forgotten")
def queued_bytes_stay_counted(patch):
    """What a lost connection had queued stays counted for all"""
    abandon = Connection.abandon

    def count_on(self):
        before = self._state.stats.queued_bytes
        unsent = abandon(self)
        self._state.stats.queued_bytes = before
        return unsent

    patch.setattr(Connection, "abandon", count_on)


@bug("N14")
def the_end_of_a_peer_ends_all(patch):
    """A peer that closes its side gets no answer any more"""

    def half_close(self, connection):
        from sippool_core.reasons import CloseReason

        self.begin(connection, CloseReason.CLOSED_BY_PEER)

    patch.setattr(Closer, "half_close", half_close)
