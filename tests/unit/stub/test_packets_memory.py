# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from tests.fakes import MonitoredMachine
from tests.unit.stub.conftest import Ask

TOP = b"ffffffffffffffff"


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"m1000,4", b"00010203"),
        (b"m1ffe,8", b"feff"),  # short read at the end of the page
        (b"m1000,0", b""),
        (b"m0,4", b"E14"),
        (b"m" + TOP + b",8", b"ff"),  # wraps round
        (b"m1000,ffffffffffffffff", bytes(range(256)).hex().encode() * 16),
        (b"m1000", b"E22"),
        (b"m1000,", b"E22"),
        (b"m,4", b"E22"),
        (b"mxyz,4", b"E22"),
        (b"m10000000000000000,4", b"E22"),
        (b"m-1,4", b"E22"),
        (b"x1000,4", b"b\x00\x01\x02\x03"),
        (b"x1000,0", b"b"),
        (b"x0,4", b"E14"),
        (b"X1000,0:", b"OK"),
    ],
)
def test_read(ask: Ask, request_: bytes, reply: bytes) -> None:
    assert ask(request_) == reply


@pytest.mark.parametrize(
    ("request_", "reply", "after"),
    [
        (b"M1000,2:aBcD", b"OK", b"\xab\xcd\x02"),
        (b"X1000,2:#\n", b"OK", b"#\n\x02"),
        (b"M1000,2:ab", b"E22", b"\0\1\2"),
        (b"M1000,1:abcd", b"E22", b"\0\1\2"),
        (b"M1000,2:abc", b"E22", b"\0\1\2"),
        (b"M1fff,2:abcd", b"E14", b"\0\1\2"),  # all of it or nothing
        (b"M0,2:abcd", b"E14", b"\0\1\2"),
        (b"X" + TOP + b",2:ab", b"E14", b"\0\1\2"),
    ],
)
def test_write(
    ask: Ask, machine: MonitoredMachine, request_: bytes, reply: bytes, after: bytes
) -> None:
    assert ask(request_) == reply
    assert machine.inferior(1).read_memory(0x1000, 3) == after
    assert machine.inferior(1).read_memory(0x1FFF, 1) == b"\xff"
    assert machine.inferior(2).read_memory(0x1000, 3) == b"\0\1\2"
