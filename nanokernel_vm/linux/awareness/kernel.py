# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel in a partition's memory, as a drgn program."""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from itertools import chain, islice
from pathlib import Path
from struct import Struct
from typing import ParamSpec, Protocol, TypeVar

from drgn import FaultError, Object, Program, host_platform, sizeof
from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.module import (
    for_each_module,
    module_address_regions,
)
from drgn.helpers.linux.percpu import per_cpu
from drgn.helpers.linux.sched import cpu_curr

from nanokernel_vm.errors import MachineError
from nanokernel_vm.linux.awareness.early import introduce
from nanokernel_vm.linux.awareness.symbols import MODULES_MAX, find_symbols
from nanokernel_vm.linux.elf import ElfImage
from nanokernel_vm.linux.release import build_id
from nanokernel_vm.memory import PAGE_SIZE

# What matters of what drgn finds amiss is raised.
logging.getLogger("drgn").setLevel(logging.CRITICAL)

_NOTE = Struct("<III12s")  # n_namesz, n_descsz, n_type, name: padded to words
_NAME = b"VMCOREINFO\0"
READS_MAX = 1 << 21  # for one question; a report on 60 tasks takes some 50,000 in all

_P = ParamSpec("_P")
_T = TypeVar("_T")


class NoLinuxError(MachineError):
    """There is no Linux in memory to be asked, or not one that makes sense."""


class PhysicalMemory(Protocol):
    """Where a kernel is: a partition's window, or a core's contents."""

    base: int
    size: int
    end: int

    def word(self, pa: int) -> int:
        """Read the aligned 8-byte word at a physical address."""

    def read(self, pa: int, length: int) -> bytes:
        """Read bytes; drgn's FaultError where there are none."""

    def pieces(self) -> Iterable[range]:
        """The physical addresses where there is memory; elsewhere nothing is sought."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """What of a CPU's state its kernel's memory does not tell.

    Attributes:
        registers: By gdb's names; where the task is that runs now.
        tsc: The time stamp counter, from which the kernel's clock follows; None: the
            time at which the kernel last looked is the best there is.
    """

    registers: Mapping[str, int] = field(default_factory=dict)
    tsc: int | None = None


def understood(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Turn what drgn says of memory that makes no sense into NoLinuxError.

    Each call may read as much as ``READS_MAX`` says: whatever walks in circles reads.
    """

    @wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        for kernel in args:
            if isinstance(kernel, Awareness):
                kernel.memory.reads = 0
        try:
            return function(*args, **kwargs)
        except MachineError:
            raise
        except Exception as exc:  # reading garbage may lead anywhere
            what = str(exc) or type(exc).__name__
            raise NoLinuxError(f"the kernel's memory makes no sense: {what}") from exc

    return wrapper


class _Memory:
    """Reads for drgn; apart from who asks, for drgn does not tell what it holds on to.

    Attributes:
        reads: Since the last question; of each page that one goes over one more.
    """

    def __init__(self, window: PhysicalMemory) -> None:
        self._window = window
        self.reads = 0

    def __call__(self, pa: int, length: int, _offset: int, _physical: bool) -> bytes:
        self.reads += 1 + length // PAGE_SIZE
        if self.reads > READS_MAX:
            raise FaultError("a list has no end: memory was read too often", pa)
        return self._window.read(pa, length)


class Awareness:
    """Linux in one partition, or in a core.

    Args:
        window: The memory that it has.
        symbols: An ELF file with the kernel's symbols and types.

    Attributes:
        program: The kernel as drgn has it.
        release: As uname -r says.
        vmcoreinfo: The text by which the kernel describes itself; None: not yet.
        memory: What drgn reads by; counts for each question.
    """

    def __init__(self, window: PhysicalMemory, symbols: Path) -> None:
        """Find the kernel.

        Raises:
            NoLinuxError: It has not come up yet, or the file is another kernel's.
        """
        self.memory = _Memory(window)
        self.vmcoreinfo = find_vmcoreinfo(window)
        text = self.vmcoreinfo or understood(introduce)(window, symbols)
        if text is None:
            raise NoLinuxError("no Linux has introduced itself in memory (yet)")
        first = text.partition(b"\n")[0].decode(errors="replace")
        self.release = first.removeprefix("OSRELEASE=")
        # Not "live": that would be the kernel that this process runs on.
        self.program = Program(host_platform)
        self._open(window, symbols, text)
        if self.program.main_module().wants_debug_file():
            raise NoLinuxError(f"{symbols} {_useless(symbols, text)}")

    @understood
    def _open(self, window: PhysicalMemory, symbols: Path, text: bytes) -> None:
        program = self.program
        program.set_linux_kernel_custom(text, is_live=False)
        program.add_memory_segment(window.base, window.size, self.memory, True)
        program.load_debug_info([symbols])
        program.register_symbol_finder("modules", find_symbols, enable_index=-1)
        self.refresh()

    def refresh(self) -> None:
        """Take note of what has come since it has run: call before asking anew.

        Raises:
            NoLinuxError: What everything else is counted by makes no sense.
        """
        _check_cpus(self.program)
        with suppress(Exception):  # a broken list must not hide the rest
            self.program.create_loaded_modules()
            for module in islice(for_each_module(self.program), MODULES_MAX):
                _cover(self.program, module)


def _useless(symbols: Path, vmcoreinfo: bytes) -> str:
    """Why drgn makes nothing of a symbol file; older kernels tell no build ID."""
    own = f"BUILD-ID={build_id(ElfImage.open(symbols))}".encode()
    if own in vmcoreinfo.splitlines():
        return "has no types (DWARF) of the kernel that is in memory"
    return "is not of the kernel that is in memory"


@understood
def _check_cpus(program: Program) -> None:
    """Refuse a number of CPUs that masks have no bits for; drgn would count to it."""
    if "nr_cpu_ids" not in program or "__cpu_possible_mask" not in program:
        return  # a kernel for one CPU
    cpus, room = (
        program["nr_cpu_ids"].value_(),
        8 * sizeof(program["__cpu_possible_mask"]),
    )
    if cpus > room:
        raise NoLinuxError(f"{cpus} CPUs make no sense where there is room for {room}")


def _cover(program: Program, module: Object) -> None:
    """Let a module stand for its initialization, too, which drgn leaves out.

    Most modules that fail do so there, and are to be unwound there.
    """
    known = program.linux_kernel_loadable_module(module)
    regions = (region for region in module_address_regions(module) if region[1])
    known.address_ranges = [(start, start + size) for start, size in regions]


def find_vmcoreinfo(window: PhysicalMemory) -> bytes | None:
    """Return the text by which a kernel describes itself to crash tools.

    It is an ELF note in a page of its own (kernel/crash_core.c: vmcoreinfo_note).
    """
    for pa in chain.from_iterable(map(_pages, window.pieces())):
        if window.word(pa) & 0xFFFF_FFFF == len(_NAME):
            with suppress(FaultError):  # a core may lack what follows
                text = _note(window, pa)
                if text.startswith(b"OSRELEASE="):
                    return text
    return None


def _note(window: PhysicalMemory, pa: int) -> bytes:
    """The text of a VMCOREINFO note at ``pa``; empty: there is none."""
    _, size, _, name = _NOTE.unpack(window.read(pa, _NOTE.size))
    if name[: len(_NAME)] != _NAME or size > PAGE_SIZE - _NOTE.size:
        return b""
    return window.read(pa + _NOTE.size, size).rstrip(b"\0")


def _pages(piece: range) -> range:
    return range(piece.start + -piece.start % PAGE_SIZE, piece.stop, PAGE_SIZE)


def clock(program: Program, tsc: int | None) -> int:
    """Return the time of the kernel's log, now, in nanoseconds (``sched_clock``).

    With a time stamp counter as the kernel computes it (arch/x86/kernel/tsc.c:
    cycles_2_ns), else when the scheduler last looked.
    """
    clocks = (
        per_cpu(program["runqueues"], cpu).clock.value_()
        for cpu in for_each_online_cpu(program)
    )
    seen: int = max(clocks, default=0)
    if tsc is None or "cyc2ns" not in program:
        return seen
    row = per_cpu(program["cyc2ns"], 0)
    data = row.data[row.seq.seqcount.sequence & 1]
    scaled = tsc * data.cyc2ns_mul.value_() >> data.cyc2ns_shift.value_()
    now = (scaled + data.cyc2ns_offset.value_()) & (1 << 64) - 1
    return max(now, seen) if now >> 63 == 0 else seen


def current_task(program: Program, cpu: int = 0) -> Object:
    """Return the ``struct task_struct *`` that a CPU runs.

    Before there is a scheduler that is the first task.
    """
    task = cpu_curr(program, cpu)
    return task if task else program["init_task"].address_of_()


def symbol_text(program: Program, address: int) -> str:
    """Return ``name+0xoffset`` of what lies at an address; empty if nobody knows."""
    try:
        symbol = program.symbol(address)
    except LookupError:
        return ""
    offset = address - symbol.address
    return f"{symbol.name}+{offset:#x}" if offset else f"{symbol.name}"


def has(thing: Object, member: str) -> bool:
    """Whether this kernel's structure has a member."""
    type_ = thing.type_.type if thing.type_.kind.name == "POINTER" else thing.type_
    while type_.kind.name == "TYPEDEF":
        type_ = type_.type
    return bool(type_.has_member(member))


def text_of(chars: Object) -> str:
    """Return a C string, whatever is in it."""
    return str(chars.string_(), errors="replace")
