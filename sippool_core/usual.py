"""The shape of nearly every header, read in one pass: three times as fast, and never the last word.

1. A header that is written in any other way (a fold, a blank before a colon, a repeated CSeq, a defect) does
   not match, and `message` reads it line by line. Where it does match, both read the same.
2. So there is no rule in here that `message` does not have; this may be deleted, and only time is lost.
"""

from __future__ import annotations

import re

from .syntax import TOKEN_CLASS

# A loop with groups in it is not possessive (see `via`). It stays linear because no line matches two of its
# alternatives: with two, a header of n such lines and a mistake at its end would be tried in 2**n ways.
# Groups are referred to by number: 5 Via, 6 CSeq number, 7 CSeq method, 8 Call-ID, 9 Content-Length, 10 From,
# 11 To; a second one of these is not usual, only another Via line is.
USUAL_HEADER = re.compile(
    rb"""
    (?: ([TOKEN]++) [ ] ([^\x00-\x20\x7f]++) [ ] SIP/2\.0 | SIP/2\.0 [ ] ([1-6][0-9][0-9]) [ ] ([^\x00\r]*+) )
    (?:
        \r\n
        (?:
            [Vv] (?:ia)?: (?(5) [^\r]*+ | ([^\r]*+) )
          | CSeq: (?(6)(?!)) [ ]?+ ([0-9]{1,9}+) [ ] ([TOKEN]++)
          | Call-I[Dd]: (?(8)(?!)) [ ]?+ ([^\x00-\x20\x7f]++)
          | (?: Content-Length | l ): (?(9)(?!)) [ ]?+ ([0-9]{1,9}+)
          | From: (?(10)(?!)) ([^\r]*+)
          | To: (?(11)(?!)) ([^\r]*+)
          | (?= [CcFfIiLlTtVv] ) (?! (?i: NAMES ) : ) [TOKEN]++ : [^\r]*+
          | (?! [CcFfIiLlTtVv] ) [TOKEN]++ : [^\r]*+
        )
    )*
    \r\n\r\n
    """.replace(b"TOKEN", TOKEN_CLASS).replace(
        b"NAMES", b"via|v|cseq|call-id|i|content-length|l|from|f|to|t"
    ),
    re.VERBOSE,
)
