# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from stub.errors import TargetError
from stub.handlers import PACKETS, search
from stub.outcomes import Work
from tests.fakes import MonitoredMachine
from tests.unit.stub.conftest import Ask


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"qSearch:memory:1000;100;\x05\x06", b"1,1005"),
        (b"qSearch:memory:1006;1fa;\x05\x06", b"1,1105"),
        (b"qSearch:memory:1000;6;\x05\x06", b"0"),
        (b"qSearch:memory:1000;1000;\x07\x06", b"0"),
        (b"qSearch:memory:1000;2000;\x07\x06", b"0"),  # runs off the mapping
        (b"qSearch:memory:0;2000;\x05\x06", b"1,1005"),
        (b"qSearch:memory:1ff0;ffffffffffffffff;\x05\x06", b"1,fffffffffffff005"),
        (b"qSearch:memory:0;ffffffffffffffff;\xff\x00\x02", b"0"),
        (b"qSearch:memory:1fff;fffffffffffff000;\xff\x00\x02", b"0"),  # not over it
        (b"qSearch:memory:1000;10;", b"E22"),
        (b"qCRC:1000,ffffffffffffffff", b"E22"),
        (b"qSearch:memory:0;10;a", b"E14"),
        (b"qSearch:memory:1000", b"E22"),
        (b"qCRC:1000,0", b"Cffffffff"),
        (b"qCRC:0,1", b"E14"),
    ],
)
def test_reply(ask: Ask, request_: bytes, reply: bytes) -> None:
    assert ask(request_) == reply


def test_a_pattern_is_found_across_pieces(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_PIECE", 4)
    assert ask(b"qSearch:memory:1000;100;\x02\x03\x04\x05\x06\x07\x08") == b"1,1002"
    assert ask(b"qSearch:memory:1000;100;\x02\x03\x04\x05\x06\x07\x09") == b"0"


def test_crc_is_gdbs_own(ask: Ask, machine: MonitoredMachine) -> None:
    def crc(data: bytes) -> int:  # the definition, bit by bit
        value = 0xFFFFFFFF
        for byte in data:
            value ^= byte << 24
            for _ in range(8):
                value = (value << 1 ^ (0x04C11DB7 * (value >> 31))) & 0xFFFFFFFF
        return value

    expected = crc(machine.inferior(1).read_memory(0x1000, 300))
    assert ask(b"qCRC:1000,12c") == b"C%08x" % expected


@pytest.mark.parametrize("pattern", [b"\x07\x06", b"\x05\x06"])
def test_a_search_is_bounded(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, pattern: bytes
) -> None:
    monkeypatch.setattr(search, "_MOST", 0x1000)
    ask(b"qSupported:error-message+;multiprocess+")
    heard = ask(b"qSearch:memory:1000;ffffffffffffffff;" + pattern)
    assert heard == (
        b"1,1005" if pattern == b"\x05\x06"
        else b"E.not found up to 0x2000, after 0x1000 bytes; go on there"
    )  # fmt: skip


def test_it_ends_soon_when_nobody_wants_it(machine: MonitoredMachine) -> None:
    looked: list[int] = []
    works: list[Work] = []

    def everywhere(addr: int, length: int) -> bytes:  # as page tables can make it seem
        looked.append(addr)
        works[-1].stopped = len(looked) == 3
        return bytes(length)

    machine.inferior(1).read_memory = everywhere  # type: ignore[method-assign]
    session = PACKETS.session(machine)
    for request in (
        b"qSearch:memory:0;ffffffffffffffff;abc",
        b"qCRC:0,40000000",
    ):
        looked.clear()
        work = PACKETS.dispatch(session, request)
        assert isinstance(work, Work)
        works.append(work)
        with pytest.raises(TargetError, match="interrupted"):
            work.do(work)
        assert len(looked) == 3
