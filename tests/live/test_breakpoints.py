# SPDX-License-Identifier: GPL-2.0-or-later
"""Breakpoints and watchpoints of every kind, in either kernel."""

import re

import pytest

from tests.live.mi import Gdb, Stop
from tests.live.process import NkRun
from tests.live.shells import UPTIME, busy, uptime

inferiors = pytest.mark.parametrize("inferior", [1, 2], ids=["host", "guest"])


@inferiors
@pytest.mark.parametrize("command", ["break", "hbreak", "tbreak"])
def test_a_breakpoint_stops_the_kernel_that_was_asked(
    gdb: Gdb, machine: NkRun, inferior: int, command: str
) -> None:
    gdb(f"{command} {UPTIME}")
    with uptime(gdb, machine, inferior) as stop:
        assert (stop.reason, stop.inferior) == ("breakpoint-hit", inferior)
        assert stop.function == UPTIME
        frames = gdb.frames()
        assert frames[:2] == [UPTIME, "seq_read_iter"]
        assert "do_syscall_64" in frames
        assert (command == "tbreak") == ("No breakpoints" in gdb("info breakpoints"))


@inferiors
@pytest.mark.parametrize("command", ["watch", "awatch"])
def test_a_write_stops_right_after_the_store(
    gdb: Gdb, machine: NkRun, inferior: int, command: str
) -> None:
    with busy(gdb, machine, inferior):
        before = gdb.value("jiffies")
        gdb(f"{command} jiffies")
        stop = next_change(gdb)
        assert stop.reason in ("watchpoint-trigger", "access-watchpoint-trigger")
        assert gdb.value("jiffies") > before
        # The instruction before this one names the memory as its destination.
        store = instruction_before(gdb, stop.pc)
        assert re.search(r",(0x\w+)?\(|<jiffies", store), store


def next_change(gdb: Gdb) -> Stop:
    """Continue to the first stop at which jiffies has another value."""
    before = gdb.value("jiffies")
    while True:
        stop = gdb.resume("continue")
        if gdb.value("jiffies") != before:
            return stop


def instruction_before(gdb: Gdb, pc: int) -> str:
    """The instruction that ends at ``pc``, as its function is disassembled."""
    rows = [
        r for r in gdb("disassemble").splitlines() if re.search("0x[0-9a-f]{16}", r)
    ]
    here = next(i for i, row in enumerate(rows) if f"{pc:#018x}" in row)
    return rows[here - 1]


@inferiors
def test_a_read_stops_right_after_the_load(
    gdb: Gdb, machine: NkRun, inferior: int
) -> None:
    with busy(gdb, machine, inferior):
        gdb("rwatch jiffies")
        stop = gdb.resume("continue")
        assert stop.reason == "read-watchpoint-trigger"
        assert stop.inferior == inferior


def test_the_hosts_address_is_not_the_guests(gdb: Gdb, machine: NkRun) -> None:
    gdb.inferior(2)
    passed = gdb.word(f"&{UPTIME}")
    gdb("tbreak seq_read_iter thread 2.1")
    gdb.inferior(1)
    gdb(f"break *{passed:#x}")
    gdb("set schedule-multiple on")
    machine.guest.type("cat /proc/uptime\n")
    stop = gdb.resume("continue")
    assert (stop.inferior, stop.function) == (2, "seq_read_iter")
    gdb.start("continue")
    machine.guest.expect(machine.guest.prompt)  # it went through and to the end
    gdb.interrupt()
    assert "breakpoint already hit" not in gdb("info breakpoints")


def test_a_thousand_breakpoints_leave_memory_untouched(gdb: Gdb) -> None:
    text = gdb.word("&_text")
    pages = f"x/512xg {text:#x}"
    before, code = gdb("monitor digest"), gdb(pages)
    gdb("set breakpoint always-inserted on")
    for number in range(1000):
        gdb(f"break *{text + 4 * number:#x}")
    try:
        assert gdb("monitor digest") == before
        assert gdb(pages) == code
        gdb("stepi")
    finally:
        gdb("delete")
        gdb("set breakpoint always-inserted off")


@inferiors
def test_a_thousand_steps_and_breakpoints_leave_code_untouched(
    gdb: Gdb, inferior: int
) -> None:
    gdb.alone(inferior)
    code = gdb("x/512xg $pc")
    gdb("tbreak *$pc")
    pc = gdb.word("$pc")
    gdb.resume("stepi 100")
    assert gdb(f"x/512xg {pc:#x}") == code
