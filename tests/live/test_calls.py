# SPDX-License-Identifier: GPL-2.0-or-later
"""gdb calls functions of a kernel; they return to a breakpoint where no code may be."""

import pytest

from tests.live.mi import Gdb
from tests.live.process import NkRun
from tests.live.shells import NAMES, UPTIME, uptime

inferiors = pytest.mark.parametrize("inferior", [1, 2], ids=["host", "guest"])
_CASTS = [
    ("hex_to_bin(0x61)", 10),
    ("hex_to_bin(0x7a)", -1),
    ("int_sqrt(1000000)", 1000),
]


@inferiors
def test_functions_are_called_and_the_kernel_goes_on(
    gdb: Gdb, machine: NkRun, inferior: int
) -> None:
    gdb(f"break {UPTIME}")
    with uptime(gdb, machine, inferior) as stop:
        before = gdb("info registers"), gdb.frames()
        for call, result in _CASTS:
            function, _, argument = call.partition("(")
            called = f"((int(*)(unsigned long)){function})({argument}"
            assert gdb.value(called) == result
        assert gdb("info registers") == before[0]
        assert (gdb.frames(), gdb.word("$pc")) == (before[1], stop.pc)
        gdb("call ((int(*)(const char*))_printk)(&linux_banner)")
        last = gdb(f"monitor dmesg {NAMES[inferior]} 1")
        assert "Linux version 6.1" in last
        assert gdb.frames() == before[1]
    # and its shell has come back to its prompt


@inferiors
def test_a_function_that_meets_a_breakpoint_can_be_left(
    gdb: Gdb, machine: NkRun, inferior: int
) -> None:
    gdb(f"break {UPTIME}")
    with uptime(gdb, machine, inferior):
        frames = gdb.frames()
        gdb("break hex_to_bin")
        gdb("set unwindonsignal on")
        with pytest.raises(Exception, match="hex_to_bin"):
            gdb("call ((int(*)(int))hex_to_bin)(0x61)")
        assert gdb.frames()[0] == "hex_to_bin"
        gdb("finish")
        assert gdb.frames() == frames
