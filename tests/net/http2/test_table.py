"""How many of our headers an HTTP/2 peer can make us keep, and search for each block that we send."""

from __future__ import annotations

import struct

import hpack

from trio_ws import Limits
from trio_ws._net.http2.frame_reader import FrameReader, Http2Statistics, Kind, frame_header
from trio_ws._net.http2.h2_adapter import H2Adapter

from ...fuzz.http2 import REQUEST

OFFERS = struct.pack(">HL", 1, 2**32 - 1)  # HEADER_TABLE_SIZE
REQUESTS = 1000


def test_a_peer_that_offers_a_large_table_gets_a_small_one() -> None:
    gate = FrameReader(Limits(), Http2Statistics(), is_client=True)
    library = H2Adapter(Limits(), is_client=True)
    gate.feed(frame_header(len(OFFERS), Kind.SETTINGS, 0, 0) + OFFERS, 0.0)
    frame = gate.next_frame()
    assert frame is not None
    library.receive(frame.wire)
    library.take()
    decoder = hpack.Decoder()  # whose table may have the default size, and no more
    for number in range(REQUESTS):
        sent = library.send_headers(2 * number + 1, [*REQUEST, ("x", f"{number} is kept by a table")])
        decoder.decode(sent[9:])
    kept = library._h2.encoder.header_table
    assert kept.maxsize == 4096
    assert len(kept.dynamic_entries) < 4096 / 32


def test_a_peer_that_asks_for_a_smaller_table_gets_it() -> None:
    gate = FrameReader(Limits(), Http2Statistics(), is_client=True)
    gate.feed(frame_header(6, Kind.SETTINGS, 0, 0) + struct.pack(">HL", 1, 100), 0.0)
    frame = gate.next_frame()
    assert frame is not None
    assert frame.payload == struct.pack(">HL", 1, 100)
