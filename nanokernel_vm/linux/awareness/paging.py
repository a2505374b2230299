# SPDX-License-Identifier: GPL-2.0-or-later
"""One address through the page tables, and what Linux means by it."""

from dataclasses import dataclass, replace

from drgn import Object, Program
from drgn.helpers.linux.mm import virt_to_phys, vma_find
from drgn.helpers.linux.pid import find_task

from nanokernel_vm.cpu.paging import AddressSpace, Level, Walk
from nanokernel_vm.linux.awareness.kernel import (
    Awareness,
    NoLinuxError,
    current_task,
    text_of,
    understood,
)
from nanokernel_vm.linux.awareness.locks import name_of

_USER = 1 << 47
_ADDRESS = 0x000F_FFFF_FFFF_F000
_VM = ((1, "r"), (2, "w"), (4, "x"), (8, "s"))  # include/linux/mm.h: VM_READ ...
_BITS = (
    (0, "present"), (1, "writable"), (2, "user"), (3, "write-through"),
    (4, "uncached"), (5, "accessed"), (6, "dirty"), (7, "large"), (8, "global"),
    (63, "no-execute"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One level of the walk.

    Attributes:
        name: "PGD" to "PTE".
        entry_pa: Physical address of the entry.
        entry: Its value.
        flags: Its bits in words.
    """

    name: str
    entry_pa: int
    entry: int
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Translation:
    """The walk to an address.

    Attributes:
        tables: Whose tables: the CPU's or a task's, with the top one's address.
        physical: Where it leads; None: nowhere.
        left: Bytes from there to the end of the page.
        reason: Why it leads nowhere; empty if it does not.
        meaning: What the address is to Linux: a mapping of the process, a region of
            the kernel, a symbol.
    """

    address: int
    tables: str
    steps: tuple[Step, ...]
    physical: int | None
    left: int
    reason: str
    meaning: str


@understood
def page_walk(
    kernel: Awareness, space: AddressSpace, address: int, pid: int | None = None
) -> Translation:
    """Walk to a virtual address.

    Args:
        kernel: Linux.
        space: The CPU's page tables.
        address: Virtual.
        pid: Walk the tables of this task instead.
    """
    program = kernel.program
    task = current_task(program) if pid is None else find_task(program, pid)
    if not task:
        raise NoLinuxError(f"there is no task {pid}; ps lists them")
    if pid is not None:
        space = replace(space, cr3=_top_table(task))
    walk = space.walk(address)
    whose = "the CPU" if pid is None else f"task {pid} ({text_of(task.comm)})"
    return Translation(
        address=address,
        tables=f"of {whose} at {space.cr3 & _ADDRESS:#x}",
        steps=tuple(map(_step, walk.levels)),
        physical=walk.page.pa if walk.page else None,
        left=walk.page.left if walk.page else 0,
        reason=_reason(walk),
        meaning=_meaning(program, task, address),
    )


def _top_table(task: Object) -> int:
    mm = task.mm or task.active_mm
    if not mm:
        raise NoLinuxError(f"task {task.pid.value_()} has no page tables left")
    return int(virt_to_phys(mm.pgd).value_())


def _step(level: Level) -> Step:
    flags = [name for bit, name in _BITS if level.entry >> bit & 1]
    if level.name == "PTE" and "large" in flags:
        flags[flags.index("large")] = "PAT"
    return Step(level.name, level.entry_pa, level.entry, tuple(flags))


def _reason(walk: Walk) -> str:
    if not walk.reason or not walk.levels:
        return walk.reason
    entry = walk.levels[-1].entry
    if entry & 1 or not entry:
        return walk.reason
    if entry & 1 << 8 and walk.levels[-1].name == "PTE":  # _PAGE_PROTNONE
        return f"{walk.reason}: the page is there, all access forbidden (PROT_NONE)"
    return f"{walk.reason}: swapped out, or being moved"


def _meaning(program: Program, task: Object, address: int) -> str:
    if address < _USER:
        return _user_meaning(task, address)
    return name_of(program, address) or _region(program, address)


def _user_meaning(task: Object, address: int) -> str:
    mm = task.mm or task.active_mm
    who = f"{text_of(task.comm)} ({task.pid.value_()})"
    vma = vma_find(mm, address) if mm else None
    if not vma:
        return f"no mapping of {who}: an access is a segmentation fault"
    flags = vma.vm_flags.value_()
    rights = "".join(letter if flags & bit else "-" for bit, letter in _VM)
    start, end = vma.vm_start.value_(), vma.vm_end.value_()
    name = _file(vma) or _anonymous(mm, start, end)
    return f"{start:#x}-{end:#x} {rights} {name} of {who}; filled when touched"


def _file(vma: Object) -> str:
    if not vma.vm_file:
        return ""
    return text_of(vma.vm_file.f_path.dentry.d_name.name)


def _anonymous(mm: Object, start: int, end: int) -> str:
    if start <= mm.brk.value_() and end > mm.start_brk.value_():
        return "heap"
    if start <= mm.start_stack.value_() < end:
        return "stack"
    return "anonymous memory"


def _region(program: Program, address: int) -> str:
    """The part of the kernel's address space (Documentation/x86/x86_64/mm.rst)."""
    regions = sorted(
        (start, name)
        for start, name in (
            (
                _variable(program, "page_offset_base", 0xFFFF_8880_0000_0000),
                "direct map",
            ),
            (_variable(program, "vmalloc_base", 0xFFFF_C900_0000_0000), "vmalloc area"),
            (
                _variable(program, "vmemmap_base", 0xFFFF_EA00_0000_0000),
                "page structures",
            ),
            (0xFFFF_FE00_0000_0000, "per-CPU entry area"),
            (0xFFFF_FFFF_8000_0000, "kernel image"),
            (0xFFFF_FFFF_A000_0000, "module area"),
            (0xFFFF_FFFF_FF00_0000, "fixmap and end of the address space"),
        )
    )
    below = [name for start, name in regions if start <= address]
    return below[-1] if below else "guard hole below the direct map"


def _variable(program: Program, name: str, default: int) -> int:
    return int(program[name].value_()) if name in program else default
