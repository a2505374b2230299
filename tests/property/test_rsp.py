# SPDX-License-Identifier: GPL-2.0-or-later
"""Laws of the protocol's core, whatever the peer sends."""

import asyncio
from collections.abc import Awaitable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from stub.conversation import Conversation
from stub.framing import (
    BadChecksum,
    Decoder,
    Event,
    Malformed,
    Packet,
    checksum,
    encode,
    expand,
)
from stub.handlers import PACKETS
from stub.ids import ThreadId
from stub.outcomes import Work
from stub.stops import StopReason
from tests.fakes import two_partitions
from tests.raw_client import is_output

CUTS = st.lists(st.integers(0, 400))
NUMBERS = st.integers(1, 0xFFFF_FFFF)
FRAMING = st.lists(
    st.sampled_from([b"$", b"#", b"}", b"*", b"+", b"-", b"\x03", b"$g#67", b"ab"])
).map(b"".join)
SILENT = (b"k", b"R")  # the manual has no reply for these
PAYLOADS = st.binary(max_size=40).filter(lambda p: not p.startswith(SILENT))

# Requests of every kind, right and wrong: names as they are, arguments from
# what is worth trying.
NAMES = st.sampled_from(sorted({row.name for row in PACKETS} - {*SILENT}))
ARGUMENTS = st.lists(
    st.sampled_from(
        b"0 1 p1.1 p2.-1 p-1.-1 p9.9 -1 1000 10 ffffffffffffffff fffffffffffffffff "
        b"target.xml read processes 00 zz c s r1000,1010 t g ? \xff".split()
    )
)
SEPARATORS = st.sampled_from([b",", b";", b":", b"=", b"", b",,"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    payload = draw(NAMES)
    for argument in draw(ARGUMENTS):
        payload += draw(SEPARATORS) + argument
    return payload


class Wire:
    """Sends into a list; ends every run at once."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.runs = 0
        self.doing: list[Work] = []
        self.hung_up = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.hung_up = True

    abort = close

    def watch(self, run: Awaitable[StopReason]) -> None:
        assert asyncio.iscoroutine(run)
        run.close()
        self.runs += 1

    def work(self, work: Work) -> None:
        self.doing.append(work)

    def interrupt(self) -> None:
        pass


def conversation() -> tuple[Conversation, Wire]:
    wire = Wire()
    talk = Conversation(wire, PACKETS.session(two_partitions()))
    talk.begin(lambda payload: PACKETS.dispatch(talk.session, payload))
    talk.feed(encode(b"qSupported:multiprocess+;vContSupported+"))
    talk.feed(encode(b"QStartNoAckMode"))
    wire.sent.clear()
    return talk, wire


def finish(talk: Conversation, wire: Wire) -> None:
    """Do the work that has been begun."""
    work = wire.doing.pop()
    talk.worked(lambda: work.do(work))


@given(FRAMING | st.binary(), CUTS)
def test_chunking_never_matters(stream: bytes, cuts: list[int]) -> None:
    whole, pieces = Decoder(limit=20), Decoder(limit=20)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parts = [e for a, b in pairwise(edges) for e in pieces.feed(stream[a:b])]
    assert parts == whole.feed(stream)


@given(st.lists(st.binary()), CUTS)
def test_what_is_encoded_is_decoded(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(encode, payloads))
    decoder = Decoder()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    events: list[Event] = []
    for a, b in pairwise(edges):
        events += decoder.feed(stream[a:b])
    assert events == list(map(Packet, payloads))


@given(st.binary(), st.integers(1, 50))
def test_decoding_is_bounded(stream: bytes, limit: int) -> None:
    decoder = Decoder(limit)
    for byte in stream:
        decoder.feed(bytes((byte,)))
        assert len(decoder._rest) <= limit + len("$#0")


@given(st.binary(), st.binary())
def test_a_decoder_recovers_at_the_next_packet(noise: bytes, payload: bytes) -> None:
    decoder = Decoder()
    decoder.feed(noise)
    # Whatever has begun, two checksums end it at the latest.
    events = decoder.feed(b"#00#00" + encode(payload))
    assert events[-1] == Packet(payload)


@given(st.binary(), st.integers(0, 255))
def test_a_wrong_checksum_is_never_taken(payload: bytes, wrong: int) -> None:
    frame = encode(payload)
    changed = frame[:-2] + b"%02x" % wrong
    expected = Packet(payload) if changed == frame else BadChecksum()
    assert Decoder().feed(changed) == [expected]


@given(st.binary(min_size=1), st.integers(3, 97))
def test_runs_expand_to_what_they_stand_for(raw: bytes, count: int) -> None:
    raw = raw.replace(b"*", b"x")
    run = raw + b"*" + bytes((count + 29,))
    assert expand(run, 1000) == raw + raw[-1:] * count


@given(st.binary(max_size=3000))
def test_checksum_is_the_sum(raw: bytes) -> None:
    assert checksum(raw) == sum(raw) % 256


@given(NUMBERS, NUMBERS)
def test_thread_ids_read_back(pid: int, tid: int) -> None:
    thread = ThreadId(pid, tid)
    assert ThreadId.parse(str(thread).encode()) == thread
    assert ThreadId.parse(thread.plain().encode()) == ThreadId(0, tid)


@settings(max_examples=500)
@given(st.lists(requests() | PAYLOADS, min_size=1, max_size=8))
def test_each_packet_gets_exactly_one_reply(payloads: list[bytes]) -> None:
    talk, wire = conversation()
    for payload in payloads:
        wire.sent.clear()
        runs = wire.runs
        talk.feed(encode(payload))
        replies = Decoder().feed(b"".join(wire.sent))
        assert not wire.hung_up
        if wire.runs > runs:
            assert replies == []  # it comes when the run has ended
            talk.ran(lambda: two_partitions().inferior(1).stopped())
            replies = Decoder().feed(b"".join(wire.sent))
        while wire.doing:
            assert replies == []
            finish(talk, wire)
            replies = Decoder().feed(b"".join(wire.sent))
        packets = [event for event in replies if isinstance(event, Packet)]
        replies = [e for e in packets if not is_output(e.payload)]
        assert len(replies) == 1, (payload, wire.sent)


@settings(max_examples=300)
@given(st.lists(FRAMING | st.binary(max_size=60), max_size=8))
def test_no_bytes_end_a_conversation(chunks: list[bytes]) -> None:
    talk, wire = conversation()
    decoder = Decoder()
    for chunk in chunks:
        talk.feed(chunk)
        packets = [e for e in decoder.feed(chunk) if isinstance(e, Packet | Malformed)]
        if any(isinstance(e, Packet) and e.payload[:1] == b"k" for e in packets):
            return
        while talk.running or wire.doing:
            if wire.doing:
                finish(talk, wire)
            else:
                talk.ran(lambda: two_partitions().inferior(1).stopped())
    assert not wire.hung_up
