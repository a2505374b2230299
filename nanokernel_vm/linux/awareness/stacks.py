# SPDX-License-Identifier: GPL-2.0-or-later
"""Stack traces: of the CPU, of a task, of all tasks."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from drgn import Object, Program, StackFrame, StackTrace
from drgn.helpers.linux.pid import find_task, for_each_task
from drgn.helpers.linux.sched import idle_task, task_on_cpu

from nanokernel_vm.linux.awareness.kernel import (
    Awareness,
    Cpu,
    NoLinuxError,
    current_task,
    text_of,
    understood,
)

# struct pt_regs' names for gdb's.
_PT_REGS = {
    **{name: name for name in ("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")},
    **{name: name[1:] for name in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp")},
    "rsp": "sp", "rip": "ip", "eflags": "flags", "cs": "cs", "ss": "ss",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Frame:
    """One level of a stack trace.

    Attributes:
        pc: Virtual address; behind the call, unless the frame was interrupted.
        sp: The stack pointer there.
        name: The function, inlined ones included; empty in user space.
        offset: Bytes from the function's beginning, if it has one of its own.
        module: The kernel module that it is of; empty: the kernel's own, or user space.
        interrupted: Whether it was interrupted there, rather than has called.
    """

    pc: int
    sp: int
    name: str
    offset: int | None
    module: str = ""
    interrupted: bool = False

    def __str__(self) -> str:
        offset = f"+{self.offset:#x}" if self.offset is not None else ""
        module = f" [{self.module}]" if self.module else ""
        unknown = "(user space)" if self.pc >> 47 == 0 else "??"
        return f"{self.pc:#018x} {self.name or unknown}{offset}{module}"


@dataclass(frozen=True, slots=True)
class TaskStack:
    """A task's kernel stack.

    Attributes:
        running: Whether the task has the CPU, whose registers the trace begins with.
    """

    pid: int
    name: str
    running: bool
    frames: tuple[Frame, ...]


@understood
def backtrace(kernel: Awareness, pid: int, cpu: Cpu) -> TaskStack:
    """Return the stack of a task; number 0 is the idle task.

    Raises:
        NoLinuxError: There is no such task.
    """
    program = kernel.program
    task = find_task(program, pid) if pid else idle_task(program, 0)
    if not task:
        raise NoLinuxError(f"there is no task {pid}; ps lists them")
    return _stack(task, cpu)


@understood
def cpu_backtrace(kernel: Awareness, cpu: Cpu) -> TaskStack:
    """Return the stack of the CPU, whatever runs on it."""
    task = current_task(kernel.program)
    frames = tuple(cpu_frames(kernel.program, cpu.registers))
    return TaskStack(task.pid.value_(), text_of(task.comm), True, frames)


@understood
def backtraces(kernel: Awareness, cpu: Cpu) -> list[TaskStack]:
    """Return the stacks of all tasks, by number, the idle task first."""
    program = kernel.program
    tasks = sorted(for_each_task(program), key=lambda task: task.pid.value_())
    return [_stack(task, cpu) for task in (idle_task(program, 0), *tasks)]


def _stack(task: Object, cpu: Cpu) -> TaskStack:
    running = bool(task_on_cpu(task))
    return TaskStack(
        task.pid.value_(), text_of(task.comm), running, tuple(task_frames(task, cpu))
    )


def task_frames(task: Object, cpu: Cpu) -> list[Frame]:
    """Return the frames of a ``struct task_struct *``; none if there is no stack.

    One that makes no sense ends where it does: it must not hide the others.
    """
    with suppress(Exception):
        if task_on_cpu(task):
            return cpu_frames(task.prog_, cpu.registers) if cpu.registers else []
        if task.stack:  # a zombie has none
            return frames_of(task.prog_.stack_trace(task))
    return []


def cpu_frames(program: Program, registers: Mapping[str, int]) -> list[Frame]:
    """Return the frames from where the registers are."""
    return frames_of(cpu_trace(program, registers))


def cpu_trace(program: Program, registers: Mapping[str, int]) -> StackTrace:
    """Return drgn's own trace from where the registers are."""
    values = {field: registers[name] for name, field in _PT_REGS.items()}
    return program.stack_trace(Object(program, "struct pt_regs", values))


def frames_of(trace: StackTrace) -> list[Frame]:
    """Return drgn's trace as ours."""
    return list(_frames(trace))


def _frames(trace: StackTrace) -> Iterator[Frame]:
    for frame in trace:
        try:
            yield _frame(trace.prog, frame)
        except LookupError:  # no pc: nobody called the frame before
            return


def _frame(program: Program, frame: StackFrame) -> Frame:
    pc, sp = frame.pc, frame.sp
    try:
        symbol = frame.symbol()
    except LookupError:  # user space
        return Frame(pc, sp, "", None, interrupted=frame.interrupted)
    offset = None if frame.is_inline else pc - symbol.address
    name = frame.function_name or symbol.name
    return Frame(pc, sp, name, offset, _module(program, pc), frame.interrupted)


def _module(program: Program, pc: int) -> str:
    try:
        module = program.module(pc)
    except LookupError:
        return ""
    return "" if module == program.main_module() else module.name
