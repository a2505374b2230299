# SPDX-License-Identifier: GPL-2.0-or-later
"""What a program does to its frames, and what the nanokernel has counted."""

import json
import struct
import subprocess
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from nanokernel_vm import build
from nanokernel_vm.abi.frame import (
    FRAME_REVISION,
    FRAME_SIZE,
    SYSCALL_VECTOR,
    WORD_OFFSETS,
    Class,
    Hardware,
    Words,
    classify,
)
from nanokernel_vm.build.cpio import Archive
from nanokernel_vm.clock import TICKS_PER_SECOND, nanoseconds
from nanokernel_vm.config import Artifact, load
from nanokernel_vm.cpu.delivery import BP, DB, GP, PF, UD
from nanokernel_vm.cpu.state import RSP
from nanokernel_vm.debug.monitor import Monitor
from nanokernel_vm.machine import End, Machine
from nanokernel_vm.nanokernel.frames import Frames
from nanokernel_vm.partition import Condition, Outcome, Partition
from tests.boot.shell import PAIR, PROMPT, Shell, partition

pytestmark = pytest.mark.boot

PROGRAMS = Path(__file__).with_name("programs")
STACK = 0x4000  # THREAD_SIZE
MANY, SOME = 1000, 20
PHASES = (
    *("fork", "exec", "signal", "thread", "pingpong", "touch"),
    *("fault", "trap", "invalid", "badreturn", "ptrace", "step"),
)
EXEC = ("ip", "flags", "sp")
HANDLER = ("ip", "sp")


@dataclass
class Counted:
    """What was counted while a phase ran."""

    returned: Counter[Class]
    causes: Counter[tuple[Class, int, tuple[str, ...]]]
    delivered: Counter[tuple[int, int]]
    switched: int
    abandoned: int
    refused: int

    def rewritten(self, vector: int) -> int:
        """Frames of a vector that came back rewritten, whatever was changed."""
        return sum(
            n
            for (kind, cause, _), n in self.causes.items()
            if kind is Class.REWRITTEN and cause == vector
        )


class Program:
    """The guest that runs tests/boot/programs/frames.c and nothing else."""

    def __init__(self, initrd: Path) -> None:
        self.shell = Shell(replace(partition("guest"), initrd=initrd))
        self.shell.wait(b"ready")
        self.log = self.shell.partition.log
        self.log.deliveries = deque()
        self.frames = frames_of(self.shell.partition)

    def run(self, phase: str, times: int) -> Counted:
        """Let the program do something; it says that it has."""
        before, seen = self._counts(), len(self.log.deliveries)
        self.shell.type(f"{phase} {times}")
        printed = self.shell.wait(b"ready", 100).decode()
        assert f"did {phase} {times}" in printed.splitlines()
        after = self._counts()
        delivered = [(d.vector, d.cpl) for d in list(self.log.deliveries)[seen:]]
        return Counted(
            after.returned - before.returned,
            after.causes - before.causes,
            Counter(delivered),
            after.switched - before.switched,
            after.abandoned - before.abandoned,
            after.refused - before.refused,
        )

    def _counts(self) -> Counted:
        f = self.frames
        return Counted(
            Counter(f.counts),
            Counter(f.causes),
            Counter(),
            f.switched,
            f.abandoned,
            f.refused,
        )


def frames_of(guest: Partition) -> Frames:
    frames = guest.frames()
    assert frames is not None
    return frames


@pytest.fixture(scope="module")
def initrd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as init, and the one that it executes."""
    at = tmp_path_factory.mktemp("frames")
    archive = Archive()
    archive.directory("dev")
    archive.character_device("dev/console", 5, 1, mode=0o600)
    for source, name, options in (
        ("frames.c", "init", ()),
        ("leave.c", "leave", ("-nostdlib",)),
    ):
        command = ["gcc", "-Wall", "-Wextra", "-Werror", "-O1", "-static", "-s"]
        subprocess.check_call([*command, *options, "-o", at / name, PROGRAMS / source])
        archive.file(name, (at / name).read_bytes(), mode=0o755)
    (at / "initrd").write_bytes(archive.finish())
    return at / "initrd"


@pytest.fixture(scope="module")
def program(initrd: Path) -> Iterator[Program]:
    """Shared by the phases; at the end nothing is lost."""
    program = Program(initrd)
    yield program
    counts = program.frames.counts
    assert counts[Class.CORRUPT] == counts[Class.REPLAYED] == 0
    assert len(program.frames.out) < SOME


def test_each_fork_is_a_copy(program: Program) -> None:
    counted = program.run("fork", MANY)
    assert counted.causes == {(Class.COPY, SYSCALL_VECTOR, ()): MANY}
    assert counted.abandoned in (MANY - 1, MANY)  # the last when its stack is reused
    assert counted.switched == 2 * MANY


def test_each_exec_is_rewritten(program: Program) -> None:
    assert program.run("exec", MANY).causes == {
        (Class.COPY, SYSCALL_VECTOR, ()): MANY,
        (Class.REWRITTEN, SYSCALL_VECTOR, EXEC): MANY,
    }


def test_each_thread_is_a_copy_with_a_stack_of_its_own(program: Program) -> None:
    counted = program.run("thread", MANY)
    assert counted.causes == {(Class.COPY, SYSCALL_VECTOR, ("sp",)): MANY}
    assert counted.switched == 2 * MANY


def test_each_signal_is_rewritten_twice(program: Program) -> None:
    """By kill(), into the handler, and by rt_sigreturn(), out of it."""
    counted = program.run("signal", MANY)
    assert counted.returned[Class.REWRITTEN] == counted.rewritten(0x100) == 2 * MANY
    assert counted.returned[Class.COPY] == counted.switched == 0


@pytest.mark.parametrize(
    ("phase", "vector"), [("fault", PF), ("trap", BP), ("invalid", UD)]
)
def test_each_fault_with_a_handler_is_rewritten(
    program: Program, phase: str, vector: int
) -> None:
    counted = program.run(phase, MANY)
    assert counted.causes[Class.REWRITTEN, vector, HANDLER] == MANY
    assert counted.rewritten(SYSCALL_VECTOR) == MANY  # rt_sigreturn
    assert counted.returned[Class.REWRITTEN] == 2 * MANY


def test_each_touched_page_is_a_fault_that_returns_the_same(program: Program) -> None:
    counted = program.run("touch", MANY)
    assert counted.delivered[PF, 3] == MANY
    assert counted.returned[Class.SAME] >= MANY
    assert not counted.causes


def test_each_round_of_ping_pong_switches_twice(program: Program) -> None:
    counted = program.run("pingpong", MANY)
    assert counted.switched == 2 * MANY + 2  # to the child when forked, back at its end
    assert counted.causes == {(Class.COPY, SYSCALL_VECTOR, ()): 1}


def test_each_ptrace_is_rewritten(program: Program) -> None:
    counted = program.run("ptrace", SOME)
    assert counted.causes[Class.REWRITTEN, SYSCALL_VECTOR, ("flags",)] == SOME
    assert counted.returned[Class.REWRITTEN] == SOME


def test_each_step_of_a_traced_program_is_an_exception(program: Program) -> None:
    counted = program.run("step", SOME)
    assert counted.delivered[DB, 3] == SOME
    assert counted.returned[Class.COPY] == 1  # the fork


def test_a_return_that_iret_refuses_has_not_happened(program: Program) -> None:
    counted = program.run("badreturn", SOME)
    assert counted.refused == counted.delivered[GP, 0] == SOME
    to_no_segment = [
        times for (_, _, changed), times in counted.causes.items() if "cs" in changed
    ]
    assert sum(to_no_segment) == SOME


def test_the_program_does_the_same_on_a_pc(initrd: Path) -> None:
    """The CPU's frames are short, and lie at the very end of their stacks."""
    pc = replace(
        partition("host"),
        kernel=Artifact("guest"),
        initrd=initrd,
        cmdline="console=ttyS0 nolapic noapic",
    )
    shell = Shell(pc)
    shell.wait(b"ready")
    for phase in PHASES:
        shell.type(f"{phase} {SOME}")
        assert f"did {phase} {SOME}" in shell.wait(b"ready").decode().splitlines()
    assert shell.partition.frames() is None


# -- one frame, looked at closely ------------------------------------------------


@pytest.fixture
def shell() -> Shell:
    """The guest, at its prompt."""
    shell = Shell(partition("guest"))
    shell.wait(PROMPT)
    return shell


@contextmanager
def stopped_at(guest: Shell, va: int) -> Iterator[None]:
    """Run to an address."""
    guest.partition.engine.insert_breakpoint(va)
    guest.partition.engine.prepare(stepping=False)
    guest.machine.goal = lambda: False
    assert guest.machine.run(guest.machine.partitions) == (
        guest.partition,
        Outcome.BREAKPOINT,
    )
    yield
    guest.partition.engine.remove_breakpoint(va)


def test_the_frame_and_the_log_agree(shell: Shell) -> None:
    """At the first instruction of the handler that was called."""
    assert shell.board.guest is not None
    with stopped_at(shell, shell.board.guest.gates[0x30].handler):
        at = shell.partition.engine.state.regs[RSP]
        raw = shell.partition.read_virtual(at, FRAME_SIZE)
        assert raw is not None
        values = struct.unpack("<11Q", raw)
        hardware, words = Hardware(*values[:5]), Words(*values[5:])
        logged = shell.partition.log.deliveries[-1]
        assert classify(at, hardware, words, STACK) is Class.SAME
        assert (words.vector, words.sequence) == (logged.vector, logged.sequence)
        assert words.time == nanoseconds(logged.time)
        assert (hardware.ip, hardware.cs & 3) == (logged.rip, logged.cpl)
        text = Monitor(shell.machine).run(shell.partition, "irqlog 1")
        assert f"frame #{words.sequence}\n" in text


def test_monitor_tells_an_exec_from_a_fork(shell: Shell) -> None:
    shell.ask("/bin/true")
    lines = Monitor(shell.machine).run(shell.partition, "frames 9").splitlines()[-9:]
    fork = next(i for i, line in enumerate(lines) if " copy " in line)
    assert lines[fork + 1].endswith("cpl 3  changed ip flags sp")
    counted = frames_of(shell.partition).counts[Class.COPY]
    rows = json.loads(Monitor(shell.machine).run(shell.partition, "frames -j"))
    assert rows["returned"]["copy"] == counted


def damage(guest: Partition, word: str) -> int:
    """Change a word of the syscall frame that the guest's shell sleeps in."""
    frames = frames_of(guest)
    sleeping = max(
        (frame for frame in frames.out.values() if frame.frame[1] & 3),
        key=lambda frame: frame.sequence,
    )
    page = guest.engine.address_space().page(
        sleeping.address + getattr(WORD_OFFSETS, word)
    )
    assert page is not None
    value = guest.window.word(page.pa) ^ 1 << 40
    guest.window.write(page.pa, value.to_bytes(8, "little"))
    return sleeping.address


@pytest.mark.parametrize("word", WORD_OFFSETS._fields)
def test_a_damaged_word_is_the_partition_s_end(shell: Shell, word: str) -> None:
    at = damage(shell.partition, word)
    shell.type("echo never")
    shell.run_to_its_end()
    assert shell.partition.condition is Condition.FAILED
    failure = shell.partition.failure
    assert failure.startswith(f"return through a corrupt interrupt frame at {at:#x}: ")
    assert "expected" in failure
    assert "found" in failure
    assert frames_of(shell.partition).counts[Class.CORRUPT] == 1
    assert shell.partition.engine.state.regs[RSP] == at  # IRET has not been executed


def test_the_host_goes_on_without_the_guest() -> None:
    machine = Machine(load(PAIR), warp=True)
    host, guest = machine.boards
    guest.console.watch_for(PROMPT)
    machine.goal = lambda: guest.console.seen(PROMPT)
    assert machine.run(machine.partitions) is End.REACHED
    damage(guest.partition, "check")
    machine.type(guest, b"\n")
    machine.goal = lambda: False
    assert machine.run(machine.partitions) == (guest.partition, Outcome.DEAD)
    assert b"host ready" not in host.console.output
    limit = host.partition.clock + 30 * TICKS_PER_SECOND
    host.console.watch_for(b"host ready")
    machine.goal = lambda: (
        host.console.seen(b"host ready") or host.partition.clock > limit
    )
    machine.run(machine.partitions)
    assert host.console.seen(b"host ready")
    assert guest.partition.condition is Condition.FAILED


def test_a_nanokernel_without_frames_is_served_plain_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = "nanokernel_vm.nanokernel.hypercalls.FRAME_REVISION"
    monkeypatch.setattr(served, FRAME_REVISION + 1)
    shell = Shell(partition("guest"))
    shell.wait(PROMPT)
    assert shell.partition.frames() is None
    assert shell.ask("sh -c 'trap \"echo caught\" USR1; kill -USR1 $$'") == "caught"
    assert list(shell.partition.log.violations) == []


# -- a stack that overflows --------------------------------------------------------


@pytest.mark.parametrize("name", ["guest", "host"])
def test_a_stack_overflow_is_told_from_the_double_fault_s_stack(name: str) -> None:
    """In the partition, where its frame has words, and on a PC, where it has none."""
    shell = Shell(replace(partition(name), kernel=Artifact("guest")))
    shell.wait(b"# ")
    shell.type("echo never")
    with stopped_at(shell, address("do_syscall_64")):
        cpu = shell.partition.engine.state
        cpu.regs[RSP] = (cpu.regs[RSP] & -STACK) - 8  # the guard page
        shell.partition.engine.put_state()
    printed = shell.wait(b"end Kernel panic").decode()
    assert "stack guard page was hit" in printed
    assert "RIP: 0010:do_syscall_64+0x" in printed
    assert printed.count("BUG: ") == 1
    entry = "nanokernel_entry_SYSCALL_64" if name == "guest" else "entry_SYSCALL_64"
    assert f"? {entry}" in printed[printed.index("<TASK>") :]


def address(symbol: str) -> int:
    with build.ensure("guest").open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        found = table.get_symbol_by_name(symbol)
        assert found is not None
        return int(found[0]["st_value"])
