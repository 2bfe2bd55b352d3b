"""The framer and the parser: limits, lengths, and work that grows faster than the input."""

import re

from sippool_core import framing, message, start_line
from sippool_core.framing import StreamFramer
from sippool_core.reasons import Defect

from .registry import bug


@bug("N7", finder="counted work")
def the_start_line_backtracks(patch):
    """The start line is read by a pattern that tries every split of its spaces"""
    pattern = re.compile(rb"([^ ]++) (.*) +(?:SIP)/([0-9]++\.[0-9]++)", re.DOTALL)
    patch.setattr(start_line, "_REQUEST_LINE", pattern)


@bug("N8", finder="counted work")
def lines_are_cut_one_by_one(patch):
    """The rest of a header is copied for each of its lines"""

    def header_lines(header):
        lines = []
        while True:
            line, end, header = header.partition(b"\r\n")
            while header[:1] in (b" ", b"\t"):
                more, end, header = header.partition(b"\r\n")
                line += b"\r\n" + more
            lines.append(line)
            if not end:
                return lines

    patch.setattr(message, "header_lines", header_lines)


@bug("N9", finder="counted work")
def the_header_is_scanned_again(patch):
    """Each read looks for the end of the header from its beginning"""
    header = StreamFramer._header

    def from_the_start(self):
        self._scanned, self._lines = self._start, 0
        return header(self)

    patch.setattr(StreamFramer, "_header", from_the_start)


@bug("N10", finder="framer")
def a_bare_line_feed_ends_a_line(patch):
    """The framer looks over bare CR and LF that other parsers take for line ends"""

    def check_lines(buffer, start, end, lines, limits, *, whole):
        lines += buffer.count(b"\r\n", start, end)
        defect = Defect.TOO_MANY_HEADERS if lines - whole - 1 > limits.max_header_lines else None
        return lines, defect, end

    patch.setattr(framing, "_check_lines", check_lines)


@bug("N11", finder="framer")
def the_first_length_counts(patch):
    """Of two Content-Length lines only the first is looked at"""
    read = message._read_content_length
    patch.setattr(message, "_read_content_length", lambda found, values: read(found, values[:1]))


@bug("A7", finder="framer")
def lengths_are_read_by_int(patch):
    """Content-Length may be `+5` or `1_000`, as `int` likes it"""

    def read(found, values):
        found.content_length = None
        try:
            numbers = {int(value) for value in values}
        except ValueError:
            return Defect.INVALID_CONTENT_LENGTH
        if len(numbers) > 1:
            return Defect.CONFLICTING_CONTENT_LENGTH
        for number in numbers:
            found.content_length = abs(number)
        return None

    patch.setattr(message, "_read_content_length", read)


@bug("N12", finder="datagram")
def a_datagram_may_be_short(patch):
    """A datagram's Content-Length is not compared with its body"""
    frame = framing.frame_datagram

    def lenient(data, limits):
        event = frame(data, limits)
        if isinstance(event, framing.Malformed) and event.defect is Defect.SHORT_BODY:
            return event.message
        return event

    import fuzz.framing

    patch.setattr(fuzz.framing, "frame_datagram", lenient)


@bug("the caller's misuse", finder="outgoing")
def sends_what_it_would_refuse(patch):
    """A second message behind the body is sent as if it were one"""
    check = framing.check_outgoing

    def careless(data, *, stream, limits):
        try:
            return check(data, stream=stream, limits=limits)
        except framing.InvalidMessage as error:
            if "behind the body" not in str(error):
                raise
            framer = StreamFramer(limits)
            framer.receive(data)
            return framer.next_event()

    import fuzz.framing

    patch.setattr(fuzz.framing, "check_outgoing", careless)
    patch.setattr("sippool_core.sender.check_outgoing", careless)
