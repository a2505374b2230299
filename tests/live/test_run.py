# SPDX-License-Identifier: GPL-2.0-or-later
"""Steps, runs and Ctrl-C, in either kernel, with the other running or frozen."""

import re
from collections.abc import Iterator

import pytest

from tests.live.mi import Gdb
from tests.live.process import NkRun
from tests.live.shells import NAMES, UPTIME, busy, uptime

inferiors = pytest.mark.parametrize("inferior", [1, 2], ids=["host", "guest"])


def seconds(gdb: Gdb) -> list[float]:
    """Every partition's virtual clock."""
    rows = gdb("monitor partitions").splitlines()
    return [float(row.split(" s ")[0].split()[-1]) for row in rows]


@pytest.fixture(params=[1, 2], ids=["host", "guest"])
def inside(request: pytest.FixtureRequest, gdb: Gdb, machine: NkRun) -> Iterator[Gdb]:
    """Stop one kernel in a system call; it is the only one that runs."""
    gdb(f"break {UPTIME}")
    with uptime(gdb, machine, request.param) as stop:
        assert stop.function == UPTIME
        yield gdb


def test_stepi_goes_to_the_next_instruction(inside: Gdb) -> None:
    listing = inside("x/2i $pc").splitlines()
    following = int(listing[1].split()[0], 16)
    stop = inside.resume("stepi")
    assert stop.pc == following


def test_stepping_counts(inside: Gdb) -> None:
    pcs = [inside.resume("stepi").pc for _ in range(20)]
    assert len({*pcs}) > 10
    inside.resume("stepi 50")


def test_next_stays_in_the_function_or_leaves_it(inside: Gdb) -> None:
    depth = len(inside.frames())
    inside.resume("next")
    assert len(inside.frames()) <= depth


def test_step_goes_somewhere_else(inside: Gdb) -> None:
    before = inside.word("$pc")
    assert inside.resume("step").pc != before


def test_finish_is_where_the_caller_goes_on(inside: Gdb) -> None:
    caller = inside.frames()[1]
    inside("up")
    returns_to = inside.word("$pc")
    inside("down")
    stop = inside.resume("finish")
    assert stop.pc == returns_to
    assert inside.frames()[0] == caller


def test_until_an_address_of_the_caller(inside: Gdb) -> None:
    inside("up")
    returns_to = inside.word("$pc")
    inside("down")
    assert inside.resume(f"until *{returns_to:#x}").pc == returns_to


@inferiors
def test_only_the_chosen_partition_runs(
    gdb: Gdb, machine: NkRun, inferior: int
) -> None:
    with busy(gdb, machine, inferior):
        before = seconds(gdb)
        gdb("watch jiffies")
        gdb.resume("continue")
        gdb.resume("continue")  # at least from one tick to another
        after = seconds(gdb)
    assert after[inferior - 1] > before[inferior - 1]
    assert after[2 - inferior] == before[2 - inferior]


def test_both_run_with_schedule_multiple(gdb: Gdb, machine: NkRun) -> None:
    before = seconds(gdb)
    gdb("set schedule-multiple on")
    gdb.start("continue")
    assert machine.guest.answers()
    assert machine.host.answers()
    gdb.interrupt()
    assert all(b < a for b, a in zip(before, seconds(gdb), strict=True))


@inferiors
def test_ctrl_c_stops_and_the_shell_goes_on(
    gdb: Gdb, machine: NkRun, inferior: int
) -> None:
    gdb.alone(inferior)
    gdb.start("continue")
    assert machine.consoles[NAMES[inferior]].answers()
    assert gdb.interrupt().signal == "SIGINT"
    gdb.start("continue")
    assert machine.consoles[NAMES[inferior]].answers()
    assert gdb.interrupt().signal == "SIGINT"


def test_ctrl_c_comes_through_at_any_moment(gdb: Gdb) -> None:
    gdb("set schedule-multiple on")
    for _ in range(20):
        gdb.start("continue")
        assert gdb.interrupt().signal == "SIGINT"


def test_a_step_in_one_partition_leaves_the_other(gdb: Gdb) -> None:
    gdb.alone(1)
    before = seconds(gdb)
    rip = re.findall(r"rip (0x\w+)", gdb("monitor partitions"))
    gdb.resume("stepi")
    assert seconds(gdb)[1] == before[1]
    assert re.findall(r"rip (0x\w+)", gdb("monitor partitions"))[1] == rip[1]


@inferiors
def test_frames_go_through_an_interrupt_to_what_it_interrupted(
    gdb: Gdb, machine: NkRun, inferior: int
) -> None:
    with busy(gdb, machine, inferior):
        gdb("break update_process_times")
        traces = [tick(gdb) for _ in range(TICKS)]
    assert any(beyond_the_interrupt(trace) for trace in traces), traces


TICKS = 5
TRAMPOLINE = "<signal handler called>"  # how gdb shows a frame of saved registers


def tick(gdb: Gdb) -> list[str]:
    """Run to the next tick of the clock; the frames there."""
    assert gdb.resume("continue").function == "update_process_times"
    return gdb.frames()


def beyond_the_interrupt(trace: list[str]) -> bool:
    """Whether a read, itself in a system call, was interrupted and is seen."""
    if TRAMPOLINE not in trace:
        return False
    interrupted = trace[trace.index(TRAMPOLINE) + 1 :]
    return "vfs_read" in interrupted and "do_syscall_64" in interrupted
