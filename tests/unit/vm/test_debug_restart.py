# SPDX-License-Identifier: GPL-2.0-or-later
"""What a debugger is told of a partition that begins anew, and what it keeps."""

from collections.abc import Awaitable, Iterator
from functools import partial
from pathlib import Path

import pytest

from nanokernel_vm.clock import TICKS_PER_MS
from nanokernel_vm.debug import DebugMachine
from nanokernel_vm.digest import digest
from nanokernel_vm.machine import End
from nanokernel_vm.partition import Condition
from stub.ids import ALL, ThreadId
from stub.stops import AtBreakpoint, AtWatchpoint, Exited, Killed, Restarted, StopReason
from stub.target import Action, BreakpointKind
from tests.guests import pair, symbols

COUNT = "main: incl %ecx\njmp main"
RESETS = """
main:
    incl %ecx
here:
    movb $7, place(%rip)
behind:
    mov $0xfe, %al
    out %al, $0x64
1:  jmp 1b
.data
place: .long 0
"""
ENDS = "main: cli\nhlt"
FAILS = "main: lidt 1f(%rip)\nud2\n1: .word 0\n.quad 0"
EVERYTHING = Action(ThreadId(ALL, ALL))
HOST, GUEST = ThreadId(1, 1), ThreadId(2, 1)


class Made:
    """Machines of two programs under a debugger."""

    def __init__(self, folder: Path) -> None:
        self._pair = partial(
            pair,
            folder,
            chips=', { chip = "i8042" }',
            keys=('on_reboot = "restart"', ""),
        )
        self._files = {name: folder / name for name in ("host", "guest")}
        self.all: list[DebugMachine] = []

    def __call__(self, host: str, guest: str) -> DebugMachine:
        self.all.append(DebugMachine(self._pair(host, guest), self._files))
        return self.all[-1]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    made = Made(tmp_path)
    yield made
    for debug in made.all:
        debug.machine.interrupt()
        debug.close()


async def resume(debug: DebugMachine, *actions: Action) -> StopReason:
    result = debug.resume(actions)
    return await result if isinstance(result, Awaitable) else result


def lives(debug: DebugMachine) -> list[int]:
    return [board.lives for board in debug.machine.boards]


async def test_who_holds_it_is_told_once(made: Made, tmp_path: Path) -> None:
    debug = made(RESETS, COUNT)
    debug.attach()
    neighbour = debug.machine.partitions[1]
    for life in (2, 3):
        before = neighbour.clock
        reason = await resume(debug, EVERYTHING)
        assert isinstance(reason, Restarted)
        assert (reason.thread, reason.path) == (HOST, str(tmp_path / "host"))
        assert lives(debug) == [life, 1]
        assert neighbour.clock >= before
        assert [i.pid for i in debug.held()] == [1, 2]


async def test_who_does_not_hold_it_is_not(made: Made) -> None:
    debug = made(RESETS, COUNT)
    debug.machine.goal = lambda: debug.machine.boards[0].lives >= 4
    assert debug.machine.run(debug.machine.partitions) is End.REACHED
    debug.attach(2)
    debug.machine.goal = lambda: debug.machine.boards[0].lives >= 6
    reason = await resume(debug, EVERYTHING)
    assert not isinstance(reason, Restarted)
    assert debug.machine.boards[0].lives >= 6


async def test_a_step_ends_at_the_beginning(made: Made) -> None:
    debug = made(RESETS, COUNT)
    debug.attach()
    start = debug.machine.partitions[0].engine.state.rip
    for _ in range(100):
        reason = await resume(debug, Action(HOST, step=True))
        if isinstance(reason, Restarted):
            break
    assert isinstance(reason, Restarted)
    assert debug.machine.partitions[0].engine.state.rip == start


async def test_breakpoints_and_watchpoints_of_both_stay(made: Made) -> None:
    debug = made(RESETS, RESETS)
    debug.attach()
    places = symbols(RESETS)
    host, guest = debug._inferiors
    for inferior in (host, guest):
        base = inferior.partition.window.base
        inferior.insert_breakpoint(BreakpointKind.HARDWARE, base + places["here"], 1)
        inferior.insert_breakpoint(BreakpointKind.WRITE, base + places["place"], 4)
    for life in range(3):
        stop = await resume(debug, Action(HOST))
        assert isinstance(stop, AtBreakpoint)
        stop = await resume(debug, Action(HOST))
        assert isinstance(stop, AtWatchpoint)
        if life == 1:
            debug.monitor(1, "restart")
        assert isinstance(await resume(debug, Action(HOST)), Restarted)
    stop = await resume(debug, Action(GUEST))
    assert isinstance(stop, AtBreakpoint)
    assert stop.thread == GUEST
    assert isinstance(await resume(debug, Action(GUEST)), AtWatchpoint)


@pytest.mark.parametrize("word", ["restart", "reset", "power-on"])
async def test_monitor_restarts_one_and_leaves_the_other(made: Made, word: str) -> None:
    debug = made(COUNT, COUNT)
    debug.attach()
    debug.machine.goal = lambda: debug.machine.partitions[0].clock > 9 * TICKS_PER_MS
    await resume(debug, EVERYTHING)
    host, guest = debug.machine.boards
    before = digest(guest), host.partition.clock
    assert debug.monitor(2, f"{word} host") == (
        f"host: running at {host.partition.clock / 4e8:.6f} s\n"
    )
    assert lives(debug) == [2, 1]
    assert (digest(guest), host.partition.clock) == before
    reason = await resume(debug, EVERYTHING)
    assert isinstance(reason, Restarted)
    assert reason.thread == HOST
    refused = debug.monitor(2, f"{word} host", read_only=True)
    assert refused.startswith(f"{word} changes something")
    assert lives(debug) == [2, 1]


async def test_a_failed_one_is_restarted(made: Made) -> None:
    debug = made(COUNT, FAILS)
    debug.attach()
    await resume(debug, Action(GUEST))
    assert debug.machine.partitions[1].condition is Condition.FAILED
    assert debug.monitor(1, "restart guest").startswith("guest: running")
    reason = await resume(debug, Action(GUEST))
    assert isinstance(reason, Restarted)
    assert reason.thread == GUEST


async def test_off_and_on_again(made: Made) -> None:
    debug = made(COUNT, COUNT)
    debug.attach()
    assert "shut down (switched off" in debug.monitor(1, "power-off guest")
    assert "running" in debug.monitor(1, "power-on guest")
    reason = await resume(debug, EVERYTHING)
    assert isinstance(reason, Restarted)  # of its end nobody need know any more
    assert "shut down" in debug.monitor(1, "power-off guest")
    assert await resume(debug, EVERYTHING) == Exited(2)
    assert [i.pid for i in debug.held()] == [1]
    guest = debug.machine.partitions[1]
    before = guest.clock
    assert "running" in debug.monitor(1, "power-on guest")
    debug.attach(2)  # it has run on, for nobody held it
    assert guest.clock >= before
    assert [i.pid for i in debug.held()] == [1, 2]


async def test_what_was_told_to_have_ended_runs_on_without_stops(made: Made) -> None:
    debug = made(COUNT, ENDS)
    debug.attach()
    guest = debug._inferiors[1]
    entry = guest.partition.engine.state.rip
    main = guest.partition.window.base + symbols(ENDS)["main"]
    guest.insert_breakpoint(BreakpointKind.SOFTWARE, main, 1)
    assert isinstance(await resume(debug, Action(GUEST)), AtBreakpoint)
    assert await resume(debug, Action(GUEST)) == Exited(2)
    debug.machine.power_on(guest.partition)
    assert guest.partition.engine.state.rip == entry
    debug.machine.run([guest.partition])
    assert guest.partition.condition is Condition.SHUT_DOWN


async def test_the_killed_can_be_started(made: Made) -> None:
    debug = made(COUNT, COUNT)
    debug.attach()
    debug.kill(2)
    reason = debug.start(2)
    assert [i.pid for i in debug.held()] == [1, 2]
    assert not isinstance(reason, Killed)
    assert lives(debug) == [1, 2]
    ran = debug.machine.partitions[1].clock
    await resume(debug, Action(GUEST, step=True))
    assert debug.machine.partitions[1].clock > ran
