"""The torture test messages of RFC 4475: our verdict on each, kept in `tests/data/rfc4475_verdicts.tsv`.

A verdict is `message:BODY`, `malformed:DEFECT:BODY`, `broken:DEFECT` or `drop:REASON`; BODY is a number of bytes.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sippool_core.config import Limits
from sippool_core.framing import Broken, Malformed, StreamFramer, frame_datagram
from sippool_core.message import Message

DATA = Path(__file__).parent.parent / "data"
CORPUS = DATA / "rfc4475"


def rows(path):
    with path.open(newline="") as file:
        table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {Path(row["file"]).name: row for row in table}


INDEX = rows(CORPUS / "index.tsv")
VERDICTS = rows(DATA / "rfc4475_verdicts.tsv")
each_file = pytest.mark.parametrize("name", sorted(INDEX))


def verdict(event):
    match event:
        case Message():
            return f"message:{len(event.body)}"
        case Malformed():
            return f"malformed:{event.defect.value}:{len(event.message.body)}"
        case Broken():
            return f"broken:{event.defect.value}"
        case _:
            return f"drop:{event.value}"


def frame(chunks):
    framer = StreamFramer(Limits())
    events = []
    for chunk in chunks:
        framer.receive(chunk)
        while (event := framer.next_event()) is not None:
            events.append(event)
    return events, framer.buffered_bytes


def test_the_corpus_is_whole():
    assert len(INDEX) == 50
    assert set(INDEX) == set(VERDICTS) == {path.name for path in CORPUS.glob("*.dat")}


@each_file
def test_as_a_stream(name):
    data = (CORPUS / name).read_bytes()
    events, left = frame([data])
    assert (" ".join(map(verdict, events)) or "-") == VERDICTS[name]["stream"]
    assert str(left) == VERDICTS[name]["stream_left"]
    assert frame([data[at : at + 1] for at in range(len(data))]) == (events, left)


@each_file
def test_as_a_datagram(name):
    data = (CORPUS / name).read_bytes()
    assert verdict(frame_datagram(data, Limits())) == VERDICTS[name]["datagram"]


@each_file
def test_the_verdict_follows_the_index(name):
    """What the index lets through as a datagram is let through; a message that it calls valid is a message."""
    index, row = INDEX[name], VERDICTS[name]
    kind = row["datagram"].partition(":")[0]
    if index["expectation"].startswith("valid"):
        assert kind == "message"
    if index["udp_framing"].startswith("accept:body="):
        assert row["datagram"].rpartition(":")[2] == index["udp_framing"][12:].partition(",")[0]
        assert kind == "message" or row["reason"]
    else:
        assert kind != "message"
    if kind == "message" and not index["expectation"].startswith("valid"):
        assert row["reason"]
    if "close" in index["tcp_framing"]:
        assert row["stream"].split()[-1].startswith("broken:")
    elif "wait" in index["tcp_framing"]:
        assert row["stream"] == "-"
        assert row["stream_left"] != "0"
    else:
        assert row["stream_left"] == "0"
        assert "broken" not in row["stream"]


@each_file
def test_the_key_follows_the_index(name):
    event = frame_datagram((CORPUS / name).read_bytes(), Limits())
    if not isinstance(event, Message):
        return
    index = INDEX[name]
    assert event.via is not None
    host, _, port = index["top_sent_by"].partition(":")
    assert (event.via.host, str(event.via.port or "")) == (host, port)
    assert event.via.branch.decode() == index["top_branch"]
    assert event.cseq_method == index["cseq_method"]
    short = len(event.transaction_key) == 4
    assert short == index["tid"].startswith("3261")
