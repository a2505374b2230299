# SPDX-License-Identifier: GPL-2.0-or-later
"""What a debugger sees at a virtual address: also what is mapped for the kernel only.

With page table isolation (Linux 6.1, arch/x86/mm/pti.c) a processor in user mode, and
in the first instructions of an entry, is on page tables that lack nearly all of the
kernel.  The kernel's own stand in the page below: its top table and the user's are two
pages, aligned to both, so that one bit of CR3 selects.  Nothing else of Linux is known
here, and that bit means nothing where it was not chosen for this: the tables have to
prove it.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

from nanokernel_vm.cpu.delivery import address_space
from nanokernel_vm.cpu.paging import (
    ADDRESS,
    PRESENT,
    USER,
    WRITABLE,
    AddressSpace,
    Page,
)
from nanokernel_vm.partition import Partition

_USER_TABLE = 1 << 12  # PTI_USER_PGTABLE_BIT, arch/x86/include/asm/processor-flags.h
_KERNEL = 1 << 63
_USERS_ENTRIES = 256  # of 512 in a top table: addresses below the kernel's
_SHARED = ADDRESS | PRESENT | WRITABLE | USER  # the kernel's copy is NX besides
_SPACE = 1 << 64


def kernel_half(space: AddressSpace) -> AddressSpace | None:
    """The kernel's tables if ``space`` is a user's copy of them, else None.

    Both name the same tables for all of user space; no other two pages do.
    """
    if not space.cr3 & _USER_TABLE:
        return None
    word = space.memory.word
    user = space.cr3 & ADDRESS
    kernel = user & ~_USER_TABLE
    shared = [
        word(table + 8 * n) & _SHARED
        for table in (user, kernel)
        for n in range(_USERS_ENTRIES)
    ]
    entries, others = shared[:_USERS_ENTRIES], shared[_USERS_ENTRIES:]
    if entries != others or not any(entry & PRESENT for entry in entries):
        return None
    return replace(space, cr3=space.cr3 & ~_USER_TABLE)


class Sight:
    """Memory of a stopped partition by virtual address; runs and changes nothing.

    Args:
        partition: Whose page tables are in force.
    """

    def __init__(self, partition: Partition) -> None:
        self.space = address_space(partition.engine.state, partition.window)

    def space_of(self, va: int) -> AddressSpace:
        """The page tables in which ``va`` is to be looked for."""
        if va & _KERNEL and self.space.page(va) is None:
            return self._kernel or self.space
        return self.space

    @cached_property
    def _kernel(self) -> AddressSpace | None:
        return kernel_half(self.space)

    def mapped(self) -> Iterator[tuple[int, int, int]]:
        """All that can be seen: first address, size and flags; see AddressSpace."""
        return (self._kernel or self.space).mapped()

    def page(self, va: int) -> Page | None:
        """Where ``va`` leads; None if it is not mapped to the partition's memory."""
        return self.space_of(va).page(va) if va < _SPACE else None

    def pieces(self, va: int, length: int) -> Iterator[tuple[int, int]]:
        """Physical address and size of each piece, up to the first hole."""
        end = va + length
        while va < end and (page := self.page(va)) is not None:
            size = min(page.left, end - va)
            yield page.pa, size
            va += size
