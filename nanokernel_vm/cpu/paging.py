# SPDX-License-Identifier: GPL-2.0-or-later
"""The page walk of IA-32e paging, done on RAM from outside.

Intel SDM vol. 3, 4.5 "4-Level Paging and 5-Level Paging".  The walk executes nothing,
fills no TLB and sets no accessed bit; what it cannot reach has a reason in words.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

PRESENT, WRITABLE, USER, ACCESSED, DIRTY, LARGE = 1, 2, 4, 0x20, 0x40, 0x80
NO_EXECUTE = 1 << 63
ADDRESS = 0x000F_FFFF_FFFF_F000

CR0_PG = 1 << 31
CR4_LA57 = 1 << 12
_LARGEST = 30  # pages of 1 GiB; in a level above, LARGE is reserved

_NAMES = ("PTE", "PMD", "PUD", "P4D", "PGD")


class PhysicalMemory(Protocol):
    """What a walk reads."""

    def word(self, pa: int) -> int:
        """The aligned 8 bytes at physical address ``pa``."""

    def __contains__(self, pa: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class Page:
    """Where a virtual address leads.

    Attributes:
        pa: Physical address of the very byte.
        left: Bytes from there to the end of the page.
        flags: PRESENT | WRITABLE | USER | NO_EXECUTE, the AND (NX: OR) of all levels.
        accessed: Whether every level has its accessed bit set.
    """

    pa: int
    left: int
    flags: int
    accessed: bool


@dataclass(frozen=True, slots=True)
class Level:
    """One step of a walk: the entry read and where it stands."""

    name: str
    entry_pa: int
    entry: int


@dataclass(frozen=True, slots=True)
class Walk:
    """Every step to an address, and its end: a page or the reason why there is none."""

    levels: tuple[Level, ...]
    page: Page | None
    reason: str


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """Page tables in force.

    Attributes:
        memory: Physical memory they lie in.
        cr0: With PG clear, virtual is physical.
        cr3: Physical address of the top table in bits 12-51.
        cr4: LA57 selects five levels.
    """

    memory: PhysicalMemory
    cr0: int
    cr3: int
    cr4: int

    def page(self, va: int) -> Page | None:
        """Translate ``va``; None where it is not mapped to memory of the window."""
        if va >> 47 in (0, 0x1FFFF) and self.cr0 & CR0_PG and not self.cr4 & CR4_LA57:
            return self._page(va)
        return self.walk(va).page

    def _page(self, va: int) -> Page | None:
        """The walk without its story: four levels, a canonical address."""
        word = self.memory.word
        table, flags, accessed, execute = self.cr3 & ADDRESS, 7, ACCESSED, 0
        for shift in (39, 30, 21, 12):
            entry = word(table + (va >> shift & 0x1FF) * 8)
            flags &= entry
            accessed &= entry
            execute |= entry
            if not flags & PRESENT:
                return None
            if shift == 12 or entry & LARGE:
                size = 1 << shift
                pa = (entry & ADDRESS & -size) + (va & size - 1)
                if shift > _LARGEST or pa not in self.memory:
                    return None
                flags |= execute & NO_EXECUTE
                return Page(pa, size - (va & size - 1), flags, bool(accessed))
            table = entry & ADDRESS
        raise AssertionError("a walk ends at its last level")

    def mapped(self) -> Iterator[tuple[int, int, int]]:
        """Yield what is mapped to memory of the window: first address, size, flags.

        By growing address, in runs of equal flags.  Each table is looked into where it
        is met first and not again: what it maps is the same memory, and Linux has
        tables that are met 65,536 times (arch/x86/kernel/espfix_64.c).  So the work
        is bounded by the memory that tables lie in.
        """
        if not self.cr0 & CR0_PG:
            return
        depth = 5 if self.cr4 & CR4_LA57 else 4
        start = size = flags = 0
        for va, length, own in self._leaves(self.cr3 & ADDRESS, depth, 0, 7, set()):
            if va != start + size or own != flags:
                if size:
                    yield start, size, flags
                start, size, flags = va, 0, own
            size += length
        if size:
            yield start, size, flags

    def _leaves(
        self, table: int, level: int, base: int, above: int, seen: set[int]
    ) -> Iterator[tuple[int, int, int]]:
        """Pages below a table; levels count from 1, ``above`` are flags above it."""
        if table in seen or table not in self.memory:
            return
        seen.add(table)
        shift = 3 + 9 * level
        for index in range(512):
            entry = self.memory.word(table + index * 8)
            if not entry & PRESENT:
                continue
            va = _canonical(base | index << shift, level)
            flags = (above & entry & 7) | ((above | entry) & NO_EXECUTE)
            if level > 1 and not entry & LARGE:
                yield from self._leaves(entry & ADDRESS, level - 1, va, flags, seen)
            elif shift <= _LARGEST and (entry & ADDRESS & -(1 << shift)) in self.memory:
                yield va, 1 << shift, flags

    def walk(self, va: int) -> Walk:
        """Walk to ``va``, keeping every step."""
        if not self.cr0 & CR0_PG:
            return self._end((), va, 0x1000 - (va & 0xFFF), PRESENT | WRITABLE, True)
        depth = 5 if self.cr4 & CR4_LA57 else 4
        top = va >> (8 + 9 * depth + 3)
        if top not in (0, (1 << (64 - (8 + 9 * depth + 3))) - 1):
            return Walk((), None, f"{va:#x} is not canonical")
        return self._descend(va, depth)

    def _descend(self, va: int, depth: int) -> Walk:
        levels: list[Level] = []
        table, flags, accessed = self.cr3 & ADDRESS, WRITABLE | USER | PRESENT, True
        for level in reversed(range(depth)):
            shift = 12 + 9 * level
            entry_pa = table + (va >> shift & 0x1FF) * 8
            entry = self.memory.word(entry_pa)
            name = _NAMES[level] if level < depth - 1 else "PGD"  # P4D folded
            levels.append(Level(name, entry_pa, entry))
            if entry_pa not in self.memory:
                reason = f"{name} at {entry_pa:#x} is outside the partition"
                return Walk(tuple(levels), None, reason)
            if not entry & PRESENT:
                return Walk(tuple(levels), None, f"{name} {entry:#x} is not present")
            if entry & LARGE and shift > _LARGEST:
                reason = f"{name} {entry:#x} has a reserved bit set"
                return Walk(tuple(levels), None, reason)
            flags = (flags & entry & 7) | ((flags | entry) & NO_EXECUTE)
            accessed = accessed and bool(entry & ACCESSED)
            if level == 0 or entry & LARGE:
                offset = va & ((1 << shift) - 1)
                base = entry & ADDRESS & ~((1 << shift) - 1)
                left = (1 << shift) - offset
                return self._end(tuple(levels), base + offset, left, flags, accessed)
            table = entry & ADDRESS
        raise AssertionError("a walk ends at its last level")

    def _end(
        self, levels: tuple[Level, ...], pa: int, left: int, flags: int, accessed: bool
    ) -> Walk:
        if pa not in self.memory:
            return Walk(levels, None, f"{pa:#x} is outside the partition's memory")
        return Walk(levels, Page(pa, left, flags, accessed), "")


def past_hole(space: AddressSpace, base: int, va: int) -> int:
    """The first address behind ``va``, which is not mapped, that might be.

    Args:
        space: The page tables.
        base: Where physical memory begins.
        va: A virtual address.
    """
    if not space.cr0 & CR0_PG:
        return base if va < base else 1 << 64
    walk = space.walk(va)
    depth = 5 if space.cr4 & CR4_LA57 else 4
    if not walk.levels:  # not canonical: the upper half is next
        return (1 << 64) - (1 << (11 + 9 * depth))
    shift = 12 + 9 * (depth - len(walk.levels))
    return ((va >> shift) + 1) << shift


def _canonical(va: int, level: int) -> int:
    """Extend the sign of an address of the top table, of 4 levels or of 5."""
    bits = 12 + 9 * level
    if level < 4 or not va >> bits - 1 & 1:
        return va
    return va | (1 << 64) - (1 << bits)
