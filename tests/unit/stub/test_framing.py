# SPDX-License-Identifier: GPL-2.0-or-later
import random

import pytest

from stub.errors import ProtocolError
from stub.framing import (
    BadChecksum,
    Control,
    Decoder,
    Event,
    Garbage,
    Malformed,
    Packet,
    checksum,
    encode,
    expand,
    unescape,
)

OVERSIZED = Malformed("packet longer than 0x8 bytes")

STREAMS: list[tuple[bytes, list[Event]]] = [
    (b"", []),
    (b"$g#67", [Packet(b"g")]),
    (b"$#00", [Packet(b"")]),
    (b"$OK#9A", [Packet(b"OK")]),
    (b"+$g#67-", [Control.ACK, Packet(b"g"), Control.NAK]),
    (b"$g#67$?#3f", [Packet(b"g"), Packet(b"?")]),
    (b"$c#63\x03", [Packet(b"c"), Control.INTERRUPT]),
    (b"$g#68", [BadChecksum()]),
    (b"$g#xy", [BadChecksum()]),
    (b"junk$g#67", [Garbage(4), Packet(b"g")]),
    (b"junk", []),
    (b"$m10$g#67", [Garbage(4), Packet(b"g")]),
    (b"$a}\x03b#43", [Packet(b"a#b")]),
    (b"$X0* #d2", [Packet(b"X0000")]),
    (b"$*!#4b", [Malformed("run without a byte or a count")]),
    (b"$x}#f5", [Malformed("escape without a byte")]),
    (b"$123456789#dd$g#67", [OVERSIZED, Packet(b"g")]),
    (b"$123456789$g#67", [OVERSIZED, Packet(b"g")]),
    (b"$12345678#a4", [Packet(b"12345678")]),
]


@pytest.mark.parametrize(("stream", "events"), STREAMS)
def test_decode_whole(stream: bytes, events: list[Event]) -> None:
    assert Decoder(limit=8).feed(stream) == events


@pytest.mark.parametrize(("stream", "events"), STREAMS)
def test_decode_byte_by_byte(stream: bytes, events: list[Event]) -> None:
    decoder = Decoder(limit=8)
    assert [e for byte in stream for e in decoder.feed(bytes([byte]))] == events


def test_memory_stays_bounded_whatever_arrives() -> None:
    decoder = Decoder(limit=100)
    for _ in range(1000):
        assert decoder.feed(b"$" + b"x" * 99_999) in (
            [],
            [Malformed("packet longer than 0x64 bytes")],
        )
        assert len(decoder._rest) <= 200
    decoder = Decoder(limit=100)
    for _ in range(1000):
        assert decoder.feed(b"x" * 100_000) == []
        assert not decoder._rest


def test_a_run_cannot_expand_beyond_the_limit() -> None:
    assert len(expand(b"0*~", 100)) == 98
    with pytest.raises(ProtocolError):
        expand(b"0*~*~", 100)


def test_runs_are_expanded_before_escapes_are_undone() -> None:
    # The 0x2a of an escaped 0x0a is data; the run repeats the byte on the wire.
    assert unescape(expand(b"}\x0a* ", 100)) == b"*\x0a\x0a\x0a"


def test_encode_escapes_what_would_be_read_as_framing() -> None:
    payload = bytes(range(256))
    frame = encode(payload)
    assert frame.count(b"$") == frame.count(b"#") == 1
    assert b"*" not in frame
    assert Decoder().feed(frame) == [Packet(payload)]


@pytest.mark.parametrize("length", [0, 1, 255, 256, 257, 5000, 200_000])
def test_checksum_is_the_plain_sum(length: int) -> None:
    for raw in (random.Random(length).randbytes(length), b"\xff" * length):
        assert checksum(raw) == sum(raw) % 256
