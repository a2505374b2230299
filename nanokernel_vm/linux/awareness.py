# SPDX-License-Identifier: GPL-2.0-or-later
"""What Linux knows of itself, read by drgn from a partition's RAM.

Nothing runs in the partition and nothing is written, so that a dead kernel answers
like a living one.  It must not run while it is asked: what changes under the reader
is not Linux's state at any time.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from drgn import (
    FaultError,
    MissingDebugInfoError,
    Object,
    Program,
    StackFrame,
    StackTrace,
    host_platform,
)
from drgn.helpers.linux.pid import find_task, for_each_task
from drgn.helpers.linux.printk import get_printk_records
from drgn.helpers.linux.sched import task_on_cpu, task_state_to_char

from nanokernel_vm.errors import MachineError
from nanokernel_vm.memory import PAGE_SIZE, Window

_NOTE = Struct("<III12s")  # n_namesz, n_descsz, n_type, name: padded to words
_NAME = b"VMCOREINFO\0"

# struct pt_regs' names for gdb's.
_PT_REGS = {
    **{name: name for name in ("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")},
    **{name: name[1:] for name in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp")},
    "rsp": "sp", "rip": "ip", "eflags": "flags", "cs": "cs", "ss": "ss",
}  # fmt: skip


class NoLinuxError(MachineError):
    """There is no Linux in memory to be asked, or not one that makes sense."""


@dataclass(frozen=True, slots=True)
class Task:
    """One thread of Linux.

    Attributes:
        pid: As the kernel counts, a thread's own number.
        process: The number that user space calls pid.
        state: The letter that ps(1) shows.
        kernel: Whether it has no user space.
    """

    pid: int
    process: int
    parent: int
    name: str
    state: str
    kernel: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """One level of a stack trace.

    Attributes:
        pc: Virtual address; behind the call, unless the frame was interrupted.
        sp: The stack pointer there.
        name: The function, inlined ones included; empty in user space.
        offset: Bytes from the function's beginning, if it has one of its own.
    """

    pc: int
    sp: int
    name: str
    offset: int | None

    def __str__(self) -> str:
        offset = f"+{self.offset:#x}" if self.offset is not None else ""
        return f"{self.pc:#018x} {self.name}{offset}"


class Awareness:
    """Linux in one partition.

    Args:
        window: The partition's memory.
        symbols: An ELF file with the kernel's symbols and types.
    """

    def __init__(self, window: Window, symbols: Path) -> None:
        """Find the kernel.

        Raises:
            NoLinuxError: It has not come up yet, or the file is another kernel's.
        """
        vmcoreinfo = find_vmcoreinfo(window)
        if vmcoreinfo is None:
            raise NoLinuxError("no Linux has introduced itself in memory (yet)")
        # Not "live": that would be the kernel that this process runs on.
        self._program = program = Program(host_platform)
        with _understood():
            program.set_linux_kernel_custom(vmcoreinfo, is_live=False)
            program.add_memory_segment(
                window.base, window.size, lambda pa, n, _o, _p: window.read(pa, n), True
            )
            program.load_debug_info([symbols])
        if program.main_module().wants_debug_file():
            raise NoLinuxError(f"{symbols} is not of the kernel that is in memory")

    def dmesg(self) -> Iterator[str]:
        """Yield the lines of the kernel's log, each with its time."""
        with _understood():
            for record in get_printk_records(self._program):
                seconds, microseconds = divmod(record.timestamp // 1000, 1_000_000)
                for line in record.text.decode(errors="replace").splitlines():
                    yield f"[{seconds:5}.{microseconds:06}] {line}"

    def tasks(self) -> list[Task]:
        """Return all tasks, by number."""
        with _understood():
            return sorted(
                map(_task, for_each_task(self._program)), key=lambda task: task.pid
            )

    def backtrace(self, pid: int, registers: Mapping[str, int]) -> list[Frame]:
        """Return the stack of a task.

        Args:
            pid: Its number.
            registers: The CPU's, by gdb's names: where the task is if it runs now.

        Raises:
            NoLinuxError: There is no such task.
        """
        with _understood():
            task = find_task(self._program, pid)
            if not task:
                raise NoLinuxError(f"there is no task {pid}")
            if task_on_cpu(task):
                return self.cpu_backtrace(registers)
            return _frames(self._program.stack_trace(task))

    def cpu_backtrace(self, registers: Mapping[str, int]) -> list[Frame]:
        """Return the stack of the CPU, whatever runs on it."""
        with _understood():
            values = {field: registers[name] for name, field in _PT_REGS.items()}
            pt_regs = Object(self._program, "struct pt_regs", values)
            return _frames(self._program.stack_trace(pt_regs))


def find_vmcoreinfo(window: Window) -> bytes | None:
    """Return the text by which a kernel describes itself to crash tools.

    It is an ELF note in a page of its own (kernel/crash_core.c: vmcoreinfo_note).
    """
    for pa in range(window.base, window.end, PAGE_SIZE):
        if window.word(pa) & 0xFFFF_FFFF != len(_NAME):
            continue
        _, size, _, name = _NOTE.unpack(window.read(pa, _NOTE.size))
        if name[: len(_NAME)] == _NAME and size <= PAGE_SIZE - _NOTE.size:
            text = window.read(pa + _NOTE.size, size).rstrip(b"\0")
            if text.startswith(b"OSRELEASE="):
                return text
    return None


@contextmanager
def _understood() -> Iterator[None]:
    """Turn what drgn says of memory that makes no sense into our error."""
    try:
        yield
    except (FaultError, LookupError, ValueError, MissingDebugInfoError) as exc:
        raise NoLinuxError(f"the kernel's memory makes no sense: {exc}") from exc


def _task(task: Object) -> Task:
    return Task(
        pid=task.pid.value_(),
        process=task.tgid.value_(),
        parent=task.real_parent.tgid.value_(),
        name=task.comm.string_().decode(errors="replace"),
        state=task_state_to_char(task),
        kernel=not task.mm,
    )


def _frames(trace: StackTrace) -> list[Frame]:
    frames: list[Frame] = []
    for frame in trace:
        try:
            frames.append(_frame(frame))
        except LookupError:  # no pc: nobody called the frame before
            break
    return frames


def _frame(frame: StackFrame) -> Frame:
    pc, sp = frame.pc, frame.sp
    try:
        symbol = frame.symbol()
    except LookupError:  # user space
        return Frame(pc, sp, "", None)
    offset = None if frame.is_inline else pc - symbol.address
    return Frame(pc, sp, frame.function_name or symbol.name, offset)
