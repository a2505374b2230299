# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects and places of user programs, on kernels with all their mitigations.

The host isolates page tables: while a program runs, the kernel is not mapped.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.failures import host
from tests.live.conftest import PROGRAMS
from tests.live.mi import GDBS, Gdb, GdbError
from tests.live.process import NkRun, build
from tests.live.shells import NAMES

inferiors = pytest.mark.parametrize("inferior", [1, 2], ids=["host", "guest"])


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, as both kernels have it in their root directory."""
    program = tmp_path_factory.mktemp("objects") / "objects"
    flags = ["-Wall", "-Wextra", "-Werror", "-O1", "-g", "-static", "-no-pie"]
    source = PROGRAMS / "objects.c"
    subprocess.check_call(["gcc", *flags, "-o", program, source])
    return program


@pytest.fixture(scope="module")
def isolated(objects: Path) -> Iterator[NkRun]:
    """The pair with every mitigation that the kernels want."""
    build()
    machine = host.description(objects.parent, {"objects": objects.read_bytes()})
    machine.write_text(machine.read_text().replace("mitigations=off ", ""))
    with NkRun(machine=machine) as run:
        run.wait_for_shells()
        yield run


@pytest.fixture(scope="module")
def debugger(isolated: NkRun, program: str) -> Iterator[Gdb]:
    """One gdb of each kind for all tests here."""
    gdb = Gdb(GDBS[program])
    gdb.attach(isolated.address)
    yield gdb
    gdb.close()


@contextmanager
def at(
    gdb: Gdb, machine: NkRun, inferior: int, objects: Path, word: str, place: str
) -> Iterator[None]:
    """Let a kernel run the program to a place, and at the end to the prompt."""
    gdb.alone(inferior)
    gdb(f"add-symbol-file {objects}")
    shell = machine.consoles[NAMES[inferior]]
    gdb(f"break {place}")
    try:
        shell.type(f"/objects {word}\n")
        assert gdb.resume("continue").reason == "breakpoint-hit"
        yield
    finally:
        if gdb.running:
            gdb.interrupt()
        gdb("delete")
        gdb.start("continue")
        shell.expect(shell.prompt)
        gdb.interrupt()
        gdb(f"remove-symbol-file {objects}")


@inferiors
def test_the_kernel_is_seen_from_user_mode(
    debugger: Gdb, isolated: NkRun, objects: Path, inferior: int
) -> None:
    gdb = debugger
    with at(gdb, isolated, inferior, objects, "touch", "before_touch"):
        assert gdb.value("$cs & 3") == 3
        if inferior == 1:  # and it is not mapped
            assert gdb.word("$cr3") & 0x1000
        assert "swapper" in gdb("output init_task.comm")
        assert "objects" in gdb(f"monitor ps {NAMES[inferior]}")
        assert "Linux version" in gdb("x/s &linux_banner")
        assert gdb.frames()[0] == "before_touch"
        assert "is physical" in gdb(f"monitor translate {gdb.word('&init_task'):#x}")
        gdb("break do_exit")
        assert gdb.resume("continue").function == "do_exit"
        assert "do_syscall_64" in gdb.frames()


@inferiors
def test_a_jump_to_nowhere(
    debugger: Gdb, isolated: NkRun, objects: Path, inferior: int
) -> None:
    gdb = debugger
    with at(gdb, isolated, inferior, objects, "jump", "jump"):
        gdb("delete")
        gdb("hbreak *0")
        stop = gdb.resume("continue")
        assert (stop.reason, stop.pc) == ("breakpoint-hit", 0)
        assert gdb.value("$cs & 3") == 3
        gdb("delete")
        stop = gdb.resume("stepi")  # into the kernel: the fault
        assert stop.pc != 0
        assert gdb.value("$cs & 3") == 0
        shell = isolated.consoles[NAMES[inferior]]
        gdb.start("continue")
        shell.expect("jumped")
        gdb.interrupt()


@inferiors
def test_a_step_to_nowhere(
    debugger: Gdb, isolated: NkRun, objects: Path, inferior: int
) -> None:
    gdb = debugger
    with at(gdb, isolated, inferior, objects, "jump", "jump"):
        gdb("delete")
        before = gdb.word("$pc")
        while gdb.word("$pc") != 0:
            before = gdb.word("$pc")
            gdb.resume("nexti" if "signal" in gdb("x/i $pc") else "stepi")
        assert "jmp" in gdb(f"x/i {before:#x}") or "call" in gdb(f"x/i {before:#x}")


@inferiors
def test_a_watchpoint_on_what_was_never_touched(
    debugger: Gdb, isolated: NkRun, objects: Path, inferior: int
) -> None:
    gdb = debugger
    with at(gdb, isolated, inferior, objects, "touch", "before_touch"):
        assert "Cannot access memory" in failing(gdb, "x/xb late + 0x80000")
        gdb("delete")
        gdb("watch *(char*)(late + 0x80000)")
        for value in (7, 8):
            stop = gdb.resume("continue")
            assert stop.reason == "watchpoint-trigger"
            assert gdb.value("late[0x80000]") == value
            assert stop.function == "touch"


@inferiors
@pytest.mark.parametrize("command", ["watch", "awatch"])
def test_a_watchpoint_follows_a_copy_on_write(
    debugger: Gdb, isolated: NkRun, objects: Path, inferior: int, command: str
) -> None:
    gdb = debugger
    with at(gdb, isolated, inferior, objects, "split", "before_fork"):
        gdb("delete")
        gdb(f"{command} shared")
        places = []
        for value in (3, 4):
            while (stop := gdb.resume("continue")).function != "split":
                assert command == "awatch"  # and the kernel copies what it had
            assert stop.reason.endswith("watchpoint-trigger")
            assert gdb.value("shared") == value
            places.append(stop.pc)
        assert places == sorted(places)


def failing(gdb: Gdb, command: str) -> str:
    """What gdb says of a command that it cannot do."""
    with pytest.raises(GdbError) as caught:
        gdb(command)
    return str(caught.value)


def test_from_the_first_instruction(program: str) -> None:
    """What a kernel has not mapped yet is watched when it does."""
    with NkRun("--freeze") as run:
        gdb = Gdb(GDBS[program])
        try:
            gdb.attach(run.address)
            for inferior in NAMES:
                gdb.alone(inferior)
                gdb("tbreak start_kernel")
                gdb("watch system_state")
                gdb("set $rest_init = $bpnum")
                gdb("watch *(long*)&jiffies")
                gdb("set $do_timer = $bpnum")
                assert gdb.resume("continue").function == "start_kernel"
                changed = set[str]()
                for _ in range(2):
                    before = gdb.value("system_state"), gdb.value("jiffies")
                    stop = gdb.resume("continue")
                    assert stop.reason == "watchpoint-trigger"
                    after = gdb.value("system_state"), gdb.value("jiffies")
                    assert before != after
                    name = "do_timer" if before[0] == after[0] else "rest_init"
                    assert name in gdb.frames()[:2]
                    changed.add(name)
                    gdb(f"delete ${name}")
                assert changed == {"rest_init", "do_timer"}
                gdb("delete")
        finally:
            gdb.close()
