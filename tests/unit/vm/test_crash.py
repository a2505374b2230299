# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine dies, in whatever way: one partition has failed and nothing else."""

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nanokernel_vm.cpu import state as s
from nanokernel_vm.cpu.crash import Crash
from nanokernel_vm.cpu.watch import Access
from nanokernel_vm.debug import PartitionInferior
from nanokernel_vm.partition import Condition, Outcome
from stub import amd64
from stub.stops import Signal, Stopped
from stub.target import BreakpointKind
from tests.guests import MS, Tiny
from tests.unit.vm.crashes import (
    LOCK_BTS,
    SOURCE,
    WAYS,
    Way,
    doomed,
    give_back,
    hook,
    linked,
)
from tests.unit.vm.test_watch import watch

every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def die(way: Way) -> tuple[Tiny, Crash]:
    guest = doomed(way)
    assert guest.run(100 * MS) is Outcome.DEAD
    assert guest.condition is Condition.FAILED
    crash = guest.engine.crash
    assert crash is not None
    give_back(guest)
    return guest, crash


@every_way
def test_the_failure_names_cause_instruction_and_place(way: Way) -> None:
    guest, crash = die(way)
    assert (crash.cause, crash.translating) == (way.cause, way.translating)
    assert crash.rip == guest.label("here")
    assert way.place in crash.place
    if way.cause == "abort()":
        assert crash.code.startswith(LOCK_BTS)
        assert crash.address is None
    for part in (crash.cause, f"{crash.rip:#x}", crash.code.hex(" "), crash.place):
        assert part in guest.failure


@every_way
def test_registers_are_those_before_the_instruction(way: Way) -> None:
    guest, _ = die(way)
    state = guest.engine.state
    assert state.rip == guest.label("here")
    assert (state.regs[s.RCX], state.regs[s.RBX]) == (0x1234, 1)


@every_way
def test_the_clock_is_that_of_the_instruction(way: Way) -> None:
    """As a breakpoint there finds it in a guest that goes on."""
    guest, _ = die(way)
    source = guest.source.replace(".byte 0xf0, 0x0f, 0xab, 0xe3", "nop")
    living = Tiny(source)
    living.engine.insert_breakpoint(living.label("here"))
    living.engine.prepare(stepping=False)
    assert living.run(100 * MS) is Outcome.BREAKPOINT
    assert guest.clock == living.clock


@every_way
def test_gdb_goes_on_with_the_dead(way: Way) -> None:
    """Registers and memory can be read and written, stops go in and out."""
    guest, _ = die(way)
    inferior = PartitionInferior(guest, None)
    rcx = amd64.BY_NAME["rcx"]
    places = [
        (BreakpointKind.SOFTWARE, guest.label("after"), 1),
        (BreakpointKind.WRITE, guest.label("data"), 8),
    ]
    for place in places:
        inferior.insert_breakpoint(*place)
    inferior.prepare(stepping=True)
    for place in places:
        inferior.remove_breakpoint(*place)
    inferior.prepare(stepping=False)
    inferior.remove_all()
    assert inferior.read_register(1, rcx.number) == (0x1234).to_bytes(8, "little")
    inferior.write_register(1, rcx.number, bytes(range(8)))
    assert inferior.read_register(1, rcx.number) == bytes(range(8))
    inferior.write_memory(guest.label("data"), b"written!")
    assert inferior.read_memory(guest.label("data"), 8) == b"written!"
    reason = inferior.reason(Outcome.DEAD)
    assert isinstance(reason, Stopped)
    assert reason.signal == Signal.SEGV
    assert guest.failure in (inferior.threads()[0].extra or "")


@every_way
def test_dead_is_dead(way: Way) -> None:
    guest, _ = die(way)
    clock = guest.clock
    assert guest.run(1000 * MS) is Outcome.DEAD
    assert (guest.clock, guest.reports) == (clock, [])


def test_no_fault_that_was_due_revives_it() -> None:
    """A port used without the right is a fault that comes before the next jump."""
    guest = Tiny(
        """
main:
    gate 13, fault
    call open_pages
    enter_user user
user:
    out %al, $0x80
here:
    nop
    ud2
fault:
    report $13
    die
"""
    )
    hook(guest.engine, 0, guest.label("here"))
    assert guest.run(100 * MS) is Outcome.DEAD
    assert guest.condition is Condition.FAILED
    assert guest.reports == []


def test_the_engine_that_replaced_it_could_go_on() -> None:
    """What a restart builds on: hooks are in place and the state is whole."""
    guest, _ = die(WAYS["abort in translation"])
    guest.life.condition = Condition.RUNNING
    guest.engine.state.rip = guest.label("after")
    guest.engine.put_state()
    assert guest.finish() == [7]


def test_breakpoints_and_watchpoints_are_in_what_replaced_it() -> None:
    guest = doomed(WAYS["call of nothing"])
    guest.engine.insert_breakpoint(guest.label("after"))
    watch(guest, Access.WRITE, guest.label("data"), 8)
    assert guest.run(100 * MS) is Outcome.DEAD
    guest.life.condition = Condition.RUNNING
    guest.engine.prepare(stepping=False)
    assert guest.run(200 * MS) is Outcome.BREAKPOINT
    assert guest.engine.state.rip == guest.label("after")
    guest.window.write(guest.label("data"), b"7")
    assert guest.run(200 * MS) is Outcome.WATCH


@pytest.mark.parametrize("name", ["abort", "exit"])
def test_the_librarys_own_calls_of_what_ends_a_process(name: str) -> None:
    """They go by its linkage table; the C library's own do not."""
    guest = Tiny(SOURCE.format(body="here: nop"))
    hook(guest.engine, linked(name), guest.label("here"))
    assert guest.run(100 * MS) is Outcome.DEAD
    assert guest.engine.crash is not None
    assert guest.engine.crash.cause.startswith(f"{name}(")


def _footprint() -> tuple[int, int, int]:
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    maps = Path("/proc/self/maps").read_text().count("\n")
    return resident * os.sysconf("SC_PAGESIZE"), len(os.listdir("/proc/self/fd")), maps


def test_a_hundred_deaths_leave_nothing_behind() -> None:
    def round_of_deaths() -> None:
        for way in WAYS.values():
            assert doomed(way).run(100 * MS) is Outcome.DEAD

    for _ in range(3):
        round_of_deaths()
    resident, descriptors, maps = _footprint()
    for _ in range(18):
        round_of_deaths()
    after = _footprint()
    assert after[0] < resident + (16 << 20)
    assert after[1] == descriptors
    assert after[2] < maps + 20


# What must end the process all the same: it is not the engine that is broken.
_BEGIN = """
import ctypes, faulthandler, os, signal, sys
from tests.guests import Tiny, MS
from nanokernel_vm.partition import Outcome
from tests.unit.vm.crashes import SOURCE, TAKE, WAYS, address, doomed, hook
from unicorn.unicorn_py3.unicorn import uclib
libc = ctypes.CDLL(None)
guest = Tiny(SOURCE.format(body=f"out %al, ${TAKE}\\nhere: nop"))
def on_out(action): guest.ports.actions[TAKE] = action
def outlived(way):
    assert doomed(WAYS[way]).run(MS) is Outcome.DEAD
    print("outlived", flush=True)
"""
FATAL = {
    "the C library's abort, as of a broken heap": (
        "hook(guest.engine, address(libc.abort), guest.label('here'))",
        signal.SIGABRT,
    ),
    "a fault in a callback": ("on_out(lambda: ctypes.string_at(1))", signal.SIGSEGV),
    "a fault of the library's in a callback": (
        "eight = ctypes.c_void_p(8)\n"
        "on_out(lambda: uclib.uc_reg_read(guest.engine.handle, 35, eight))",
        signal.SIGSEGV,
    ),
    "a signal that was sent": (
        "on_out(lambda: os.kill(os.getpid(), signal.SIGBUS))",
        signal.SIGBUS,
    ),
    "a fault outside any run": ("ctypes.string_at(1)", signal.SIGSEGV),
    "a fault after a death": (
        "outlived('call of nothing'); ctypes.string_at(1)",
        signal.SIGSEGV,
    ),
}


def python(text: str) -> "subprocess.CompletedProcess[str]":
    root = Path(__file__).parents[3]
    return subprocess.run(
        [sys.executable, "-c", _BEGIN + text],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("handler", ["", "faulthandler.enable()"], ids=["", "handler"])
@pytest.mark.parametrize(("text", "number"), FATAL.values(), ids=FATAL)
def test_what_is_not_the_engines_ends_the_process(
    text: str, number: signal.Signals, handler: str
) -> None:
    done = python(f"{handler}\n{text}\nguest.run(MS)\nprint('survived')")
    assert done.returncode == -number, done.stderr
    assert "survived" not in done.stdout
    if handler:
        assert "Fatal Python error" in done.stderr


def test_faulthandler_does_not_take_the_containment_away() -> None:
    done = python("""
for way in WAYS:
    outlived(way)
    faulthandler.disable() if faulthandler.is_enabled() else faulthandler.enable()
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["outlived"] * len(WAYS)


def test_a_death_in_a_thread_of_its_own() -> None:
    done = python("""
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as threads:
    list(threads.map(outlived, [*WAYS] * 3))
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("outlived") == 3 * len(WAYS)
