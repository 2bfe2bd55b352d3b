"""What tests of SIP programs are made of.

`sippool.testing.strategies` makes SIP messages, hostile bytes and splits of a stream for hypothesis, which it
needs (`pip install "sippool[fuzz]"`); importing `sippool.testing` alone needs nothing.
"""
