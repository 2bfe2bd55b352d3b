"""The inputs that fuzzing begins with: the corpus in this folder, and the torture messages of RFC 4475."""

from __future__ import annotations

import functools
from pathlib import Path

from sippool.testing.messages import request, response

CORPUS = Path(__file__).parent / "corpus"
"""A folder for each target, of inputs for its byte door; `fuzz.make_corpus` writes them."""
RFC4475 = Path(__file__).parent.parent / "tests" / "data" / "rfc4475"


def corpus_of(name: str) -> list[bytes]:
    """The corpus of a target, in the order of its file names."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


@functools.cache
def seed_messages() -> tuple[bytes, ...]:
    """Messages to change: plain ones, ours in every legal dress, and those of RFC 4475."""
    invite = request("INVITE", transport="UDP", via=";rport", body=b"v=0\r\n")
    plain = [invite, response(invite, 180), request(), request("ACK", cseq=2)]
    dressed = [
        data[1:]
        for folder in ("datagram", "framer")
        for data in corpus_of(folder)
        if len(data) < 2000
    ]
    tortures = [path.read_bytes() for path in sorted(RFC4475.glob("*.dat"))]
    return (*plain, *dressed, *tortures)
