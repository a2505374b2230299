# SPDX-License-Identifier: GPL-2.0-or-later
"""One processor on one window of RAM: a Unicorn engine and its native hooks.

Nothing outside this package sees Unicorn.  ``Engine.run`` goes on until something
happens and says what; everything that happens is delivered by others, between runs.
"""

import ctypes
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Protocol

from unicorn import UC_ARCH_X86, UC_MODE_64
from unicorn import unicorn_const as k
from unicorn import x86_const as x
from unicorn.unicorn_py3.unicorn import Uc, UcContext, uclib

from nanokernel_vm.cpu import _interpose, _ticker
from nanokernel_vm.cpu.counting import can_count
from nanokernel_vm.cpu.cpuid import NOTHING, Registers
from nanokernel_vm.cpu.crash import Crash, examine
from nanokernel_vm.cpu.hook import Hook
from nanokernel_vm.cpu.paging import AddressSpace
from nanokernel_vm.cpu.proof import adopt, prove
from nanokernel_vm.cpu.state import State, plain
from nanokernel_vm.cpu.watch import Watch, Watches
from nanokernel_vm.memory import Window

CPU_MODEL = x.UC_CPU_X86_HASWELL
TSC_PER_TICK = 5  # 2 GHz: a tick is 2.5 ns
NEVER = (1 << 64) - 1
# Ticks that an access to a device costs: 1 us, as on an ISA bus.  Each is a call into
# Python, and a loop of them must not make a turn a thousand times as long.
ACCESS = 400
_BUS_END = 1 << 46  # addresses that a page table entry may name and a bus answers
_PAGE = 0x1000
# What a processor has after power-up (SDM vol. 3, table 9-1), and Unicorn has not
_RESET_MXCSR, _RESET_FPCW = 0x1F80, 0x40
# Page faults (SDM vol. 3, 4.7): vector, and error code of a write and of a fetch
_PF, _OF_WRITE, _OF_FETCH = 14, 2, 0x10
_GP = 13
_HALF = 1 << 47  # below it, and as much at the top, addresses are canonical


class Event(IntEnum):
    """Why ``Engine.run`` returned."""

    HALT = _ticker.NONE
    DEADLINE = _ticker.DEADLINE
    PAUSE = _ticker.PAUSE
    INTERRUPT = _ticker.INTERRUPT
    VECTOR = _ticker.VECTOR
    SYSCALL = _ticker.SYSCALL
    SYSENTER = _ticker.SYSENTER
    BREAKPOINT = _ticker.BREAKPOINT
    STEP = _ticker.STEP
    WATCH = _ticker.WATCH
    ERROR = 100  # the engine gave up: a fetch outside all memory
    CRASH = 101  # the engine died: ``crash`` tells of what


class Ports(Protocol):
    """The port space of a partition."""

    def read(self, port: int, size: int) -> int:
        """IN of 1, 2 or 4 bytes."""

    def write(self, port: int, size: int, value: int) -> None:
        """OUT of 1, 2 or 4 bytes."""


_IN = ctypes.CFUNCTYPE(
    ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_void_p
)
_OUT = ctypes.CFUNCTYPE(
    None,
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_int,
    ctypes.c_uint32,
    ctypes.c_void_p,
)
_CPUID = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_void_p)

Violation = Callable[[int, int, int | None], None]
Cpuid = Callable[[int, int, int], Registers]


def _pointer(handle: ctypes.c_void_p) -> int:
    return handle.value or 0


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


class Engine:
    """A processor.

    Args:
        window: The memory that is mapped, at its physical address.
        ports: Answers IN and OUT.
        cpuid: (leaf, subleaf, CR4) to what CPUID answers.
        violation: Told of every access outside the window: physical address,
            size, and the value written or None for a read.
    """

    def __init__(
        self, window: Window, ports: Ports, cpuid: Cpuid, violation: Violation
    ) -> None:
        prove()
        self.window = window
        self.ticker = _ticker.Ticker(
            0,
            _address(uclib.uc_emu_stop),
            _address(uclib.uc_reg_read),
            _address(uclib.uc_reg_write),
            TSC_PER_TICK,
        )
        self.watches = Watches(self.ticker, window)
        self.touched: Watch | None = None  # by what Event.WATCH is about
        self.error = 0
        self.crash: Crash | None = None
        self._raised: BaseException | None = None
        self._ports, self._answer_cpuid, self._violation = ports, cpuid, violation
        self._open()
        self._context: UcContext = self._uc.context_save()
        self._saved = self._context.context
        self.state = State.from_address(
            ctypes.cast(self._saved, ctypes.c_void_p).value or 0
        )
        self._stale = False

    # -- running ----------------------------------------------------------------

    def run(self) -> Event:
        """Run until an event; ``state`` is then what the processor holds."""
        ticker = self.ticker
        ticker.event = 0
        cr2 = self.state.cr[2]
        status = self.core.run(self.state.rip)
        uclib.uc_context_save(self.handle, self._saved)
        if status == _interpose.DIED:
            self._replace()
        if self._raised is not None:
            error, self._raised = self._raised, None
            raise error
        failed = bool(status) and not ticker.event
        fetching = failed or self._fetch_faulted()
        ticker.settle(self.state.rip)
        if status == _interpose.DIED:
            return Event.CRASH
        if ticker.event == Event.VECTOR and not fetching:
            ticker.watched = 0  # the instruction has not been completed
        if fetching:
            stop = self._before_fetch()
            if stop is not None:
                self.state.cr[2] = cr2
                self.put_state()
                return stop
        if failed:
            self.error = status
            return Event.ERROR
        if ticker.event == Event.WATCH:
            return self._touched()
        return Event(ticker.event)

    def _touched(self) -> Event:
        self.touched = self.watches.take()
        return Event.WATCH

    def _fetch_faulted(self) -> bool:
        """Whether the exception is that the instruction at rip cannot be fetched.

        A page fault says so where pages may forbid it (SDM vol. 3, 4.7, bit I/D); else
        rip is in no block that was entered, or is what was read.  Unicorn raises what
        a processor would raise in the jump, #GP for an address that is not canonical,
        at its target, too.
        """
        state, ticker = self.state, self.ticker
        if ticker.event != Event.VECTOR or state.is_software:
            return False
        if ticker.vector == _GP:
            return state.rip + _HALF & NEVER >= 2 * _HALF
        if ticker.vector != _PF or state.error_code & _OF_WRITE:
            return False
        entered = ticker.start <= state.rip < ticker.end
        return not entered or bool(
            state.error_code & _OF_FETCH or state.cr[2] == state.rip
        )

    def _before_fetch(self) -> Event | None:
        """What comes before a fault of fetching the instruction at rip, if anything.

        Traps of the instruction before it and breakpoints (SDM vol. 3, table 6-2,
        "Priority Among Concurrent Events").  No hook has seen that place: there is
        nothing to translate.  The fault is not held back: it comes again when the
        processor runs on from here, in the same state and at the same clock.
        """
        ticker, rip = self.ticker, self.state.rip
        if ticker.watched:
            return self._touched()
        if self.armed(rip) and ticker.passing != rip:
            return Event.BREAKPOINT
        if ticker.steps == 1:
            return Event.STEP
        if ticker.passing == rip:
            ticker.passing = NEVER
        return None

    def power_on(self) -> None:
        """Begin as a processor that has just been made, at the present clock.

        It is a new one for the library, which then remembers nothing: no translation,
        no page that was fetched from.  Breakpoints and watchpoints stay.
        """
        self._renew()
        self.crash = self.touched = None
        self.error = 0
        ticker = self.ticker
        ticker.expect, ticker.page, ticker.origin = NEVER, 0, ticker.clock
        ticker.watched = ticker.steps = 0

    def put_state(self) -> None:
        """Load the processor with ``state`` as edited."""
        self.state.old_exception = -1
        uclib.uc_context_restore(self.handle, self._saved)

    def interrupt(self) -> None:
        """Ask a run in another thread to stop at the next block."""
        self.ticker.interrupt = 1

    def flush_translations(self) -> None:
        """Drop all translated code, which is seen nowhere but in the time it takes."""
        self._uc.ctl_flush_tb()

    def flush_tlb(self) -> None:
        """Drop all cached translations of addresses: at fixed times in every run.

        A program can see what the TLB holds: it clears an accessed bit, and until the
        entry is gone no access sets it again.  So no debugger may flush it.
        """
        self.core.flush_tlb()

    def plain(self) -> bytes:
        """The whole processor, hidden registers too, the same however it came there."""
        return plain(bytes(self.state))

    # -- registers outside ``state`` ---------------------------------------------

    def register(self, number: int) -> Any:
        """Read a register by Unicorn's number."""
        return self._uc.reg_read(number)

    def set_register(self, number: int, value: Any) -> None:
        """Write a register by Unicorn's number and refresh ``state``."""
        self._uc.reg_write(number, value)
        uclib.uc_context_save(self.handle, self._saved)

    def set_register_bytes(self, number: int, value: bytes) -> None:
        """Write a register that is no integer for the binding: one of the x87 stack."""
        uclib.uc_reg_write(self.handle, number, ctypes.create_string_buffer(value, 16))
        uclib.uc_context_save(self.handle, self._saved)

    def stack_pointer(self) -> int:
        """RSP as it is inside a port access."""
        return int(self._uc.reg_read(x.UC_X86_REG_RSP))

    def task_segment(self) -> tuple[int, int]:
        """Base and limit of the task state segment in use now."""
        _, base, limit, _ = self._uc.reg_read(x.UC_X86_REG_TR)
        return base, limit

    def io_registers(self) -> tuple[int, int, int, int]:
        """RAX, RDI, RSI, RDX as they are inside a port access."""
        uc = self._uc
        return (
            uc.reg_read(x.UC_X86_REG_RAX),
            uc.reg_read(x.UC_X86_REG_RDI),
            uc.reg_read(x.UC_X86_REG_RSI),
            uc.reg_read(x.UC_X86_REG_RDX),
        )

    def address_space(self) -> AddressSpace:
        """The page tables in use now, also inside a port access."""
        read = self._uc.reg_read
        cr0, cr3 = read(x.UC_X86_REG_CR0), read(x.UC_X86_REG_CR3)
        return AddressSpace(self.window, cr0, cr3, read(x.UC_X86_REG_CR4))

    def set_rax(self, value: int) -> None:
        """Set RAX from inside a port access."""
        self._uc.reg_write(x.UC_X86_REG_RAX, value & NEVER)

    # -- breakpoints --------------------------------------------------------------

    def insert_breakpoint(self, va: int) -> None:
        """Stop before every execution of the instruction at ``va``."""
        if self.ticker.arm(va):
            self._stale = True

    def remove_breakpoint(self, va: int) -> None:
        """Stop there no more."""
        self.ticker.disarm(va)

    def forget_breakpoints(self) -> None:
        """Have code translated without regard to removed breakpoints."""
        self._stale = True

    def armed(self, va: int) -> bool:
        """Whether a breakpoint is inserted at ``va``."""
        return self.ticker.armed(va)

    def watch(self, rows: Sequence[Watch]) -> None:
        """Stop after accesses to ``rows`` and to nothing else."""
        self.watches.set(rows, self.state.cr[3])

    def prepare(self, stepping: bool) -> None:
        """Set up hooks for the run to come: cheap if nothing has changed."""
        if self._stale or stepping != self.ticker.everywhere:
            self.ticker.everywhere = stepping
            self.ticker.prune()
            self._uc.ctl_flush_tb()
            self._stale = False

    # -- wiring -------------------------------------------------------------------

    def _open(self) -> None:
        """Make the library's part, with all that is always connected."""
        self._uc, self.core = _open()
        self.handle = self._uc._uch
        ticker, window = self.ticker, self.window
        self.core.connect(ticker.stops, ticker.account, _ticker.ON_BLOCK, window.base)
        self.core.inlining = can_count()
        ticker.uc = _pointer(self.handle)
        self.watches.connect(self.core)
        window.written = self.core.written
        self._uc.ctl_exits_enabled(True)
        self._uc.ctl_set_exits([])
        self._map()
        self._kept: list[object] = []
        self._hook_all()

    def _replace(self) -> None:
        """Put another in the place of the library's part, which has died.

        The new one holds the registers and all hooks: who looks at a partition or
        restarts it need not know.
        """
        self.crash = examine(self.core.death(), self.state, self.window)
        saved = bytes(self.state)
        self._renew()
        ctypes.memmove(ctypes.addressof(self.state), saved, len(saved))
        self.put_state()

    def _renew(self) -> None:
        """Put another in the place of the library's part; ``state`` is of that."""
        self.core.close()
        self.handle.value = None  # so that the binding does not close it again
        self._open()
        uclib.uc_context_save(self.handle, self._saved)

    def _map(self) -> None:
        window, violation = self.window, self._violation

        def read(_uc: Uc, offset: int, size: int, base: int) -> int:
            self._guard(violation, base + offset, size, None)
            return (1 << 8 * size) - 1

        def write(_uc: Uc, offset: int, size: int, value: int, base: int) -> None:
            self._guard(violation, base + offset, size, value)

        pointer = window.ram.pointer + window.base
        self._uc.mem_map_ptr(window.base, window.size, k.UC_PROT_ALL, pointer)
        for base, end in ((0, window.base), (window.end, _BUS_END)):
            if base < end:
                self._uc.mmio_map(base, end - base, read, base, write, base)

    def _hook_all(self) -> None:
        native = (
            (k.UC_HOOK_BLOCK, _ticker.ON_BLOCK, 0),
            (k.UC_HOOK_INTR, _ticker.ON_VECTOR, 0),
            (k.UC_HOOK_INSN_INVALID, _ticker.ON_INVALID, 0),
            (k.UC_HOOK_INSN, _ticker.ON_SYSCALL, x.UC_X86_INS_SYSCALL),
            (k.UC_HOOK_INSN, _ticker.ON_SYSENTER, x.UC_X86_INS_SYSENTER),
            (k.UC_HOOK_INSN, _ticker.ON_RDTSC, x.UC_X86_INS_RDTSC),
            (k.UC_HOOK_INSN, _ticker.ON_RDTSCP, x.UC_X86_INS_RDTSCP),
        )
        for kind, function, instruction in native:
            self._hook(kind, function, self.ticker.pointer, extra=instruction)
        read, write = self._ports.read, self._ports.write

        def port_in(_uc: int, port: int, size: int, _data: int) -> int:
            return int(self._guard(read, port, size) or 0)

        def port_out(_uc: int, port: int, size: int, value: int, _data: int) -> None:
            self._guard(write, port, size, value)

        for callback, instruction in (
            (_IN(port_in), x.UC_X86_INS_IN),
            (_OUT(port_out), x.UC_X86_INS_OUT),
            (_CPUID(self._cpuid(self._answer_cpuid)), x.UC_X86_INS_CPUID),
        ):
            self._kept.append(callback)
            self._hook(k.UC_HOOK_INSN, _address(callback), 0, extra=instruction)

    def _cpuid(self, cpuid: Cpuid) -> Callable[[int, int], int]:
        registers = (
            x.UC_X86_REG_RAX,
            x.UC_X86_REG_RBX,
            x.UC_X86_REG_RCX,
            x.UC_X86_REG_RDX,
        )

        def answer(_uc: int, _data: int) -> int:
            read = self._uc.reg_read
            leaf, subleaf = read(x.UC_X86_REG_EAX), read(x.UC_X86_REG_ECX)
            found = self._guard(cpuid, leaf, subleaf, read(x.UC_X86_REG_CR4))
            for register, value in zip(registers, found or NOTHING, strict=True):
                self._uc.reg_write(register, value)
            return 1

        return answer

    def _guard(self, function: Callable[..., Any], *arguments: int | None) -> Any:
        """Call back into Python; what is raised leaves ``run``, not the C frame."""
        self.core.outside += 1
        try:
            return function(*arguments)
        except BaseException as error:
            self._raised = error
            self.ticker.leave()
            return None
        finally:
            self.core.outside -= 1
            self.ticker.clock += ACCESS

    def _hook(self, kind: int, function: int, data: int, extra: int = 0) -> Hook:
        return Hook(self.handle, kind, function, data, extra)


def _open() -> tuple[Uc, _interpose.Core]:
    uc = Uc(UC_ARCH_X86, UC_MODE_64)
    uc.ctl_set_cpu_model(CPU_MODEL)
    core = adopt(uc)
    uc.reg_write(x.UC_X86_REG_MXCSR, _RESET_MXCSR)
    uc.reg_write(x.UC_X86_REG_FPCW, _RESET_FPCW)
    return uc, core
