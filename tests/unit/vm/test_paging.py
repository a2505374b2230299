# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk, its short form, and the reasons it gives."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanokernel_vm.cpu.paging import (
    ACCESSED,
    CR0_PG,
    CR4_LA57,
    LARGE,
    NO_EXECUTE,
    PRESENT,
    USER,
    WRITABLE,
    AddressSpace,
    Page,
)
from nanokernel_vm.memory import Ram, Window

BASE, SIZE = 0x20_0000, 0x20_0000
ALL = PRESENT | WRITABLE | USER | ACCESSED
# Five tables, one below the other, and what an address must be to go through slot 1
TABLES = [BASE + 0x1000 * n for n in range(5)]
SLOT = 8
ADDRESS = sum(1 << shift for shift in (39, 30, 21, 12))


class Tables:
    """A window with one path of tables, and the address that takes it."""

    def __init__(self, levels: int = 4) -> None:
        self.window = Window(Ram(BASE + SIZE), BASE, SIZE)
        for table, below in pairwise(TABLES):
            self.put(table + SLOT, below | ALL)
        self.put(TABLES[levels - 1] + SLOT, BASE + 0x5_0000 | ALL)
        self.space = AddressSpace(
            self.window, CR0_PG, TABLES[0] | 0x18, CR4_LA57 if levels == 5 else 0
        )

    def put(self, pa: int, entry: int) -> None:
        self.window.write(pa, entry.to_bytes(8, "little"))


def test_a_small_page() -> None:
    page = Tables().space.page(ADDRESS + 0x123)
    assert page == Page(BASE + 0x5_0123, 0xEDD, PRESENT | WRITABLE | USER, True)


def test_five_levels() -> None:
    tables = Tables(levels=5)
    page = tables.space.page(ADDRESS + (1 << 48) + 4)
    assert page is not None
    assert page.pa == BASE + 0x5_0004
    assert len(tables.space.walk(ADDRESS + (1 << 48)).levels) == 5


@pytest.mark.parametrize(("level", "size"), [(2, 1 << 21), (1, 1 << 30)])
def test_a_large_page(level: int, size: int) -> None:
    tables = Tables()
    tables.put(TABLES[level] + SLOT, BASE & -size | LARGE | ALL)
    offset = 0x20_1234 if level == 1 else 0x1234
    page = tables.space.page((ADDRESS & -size) + offset)
    assert page is not None
    assert page.pa == (BASE & -size) + offset
    assert page.left == size - offset


def test_there_are_no_pages_of_512_gib() -> None:
    tables = Tables()
    tables.put(TABLES[0] + SLOT, LARGE | ALL)
    assert tables.space.page((1 << 39) + BASE) is None
    assert "reserved" in tables.space.walk((1 << 39) + BASE).reason


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("bit", [WRITABLE, USER])
def test_a_right_must_be_given_at_every_level(level: int, bit: int) -> None:
    tables = Tables()
    pa = TABLES[level] + SLOT
    tables.put(pa, tables.window.word(pa) & ~bit)
    page = tables.space.page(ADDRESS)
    assert page is not None
    assert page.flags == (PRESENT | WRITABLE | USER) & ~bit


@pytest.mark.parametrize("level", range(4))
def test_execution_can_be_denied_at_any_level(level: int) -> None:
    tables = Tables()
    pa = TABLES[level] + SLOT
    tables.put(pa, tables.window.word(pa) | NO_EXECUTE)
    page = tables.space.page(ADDRESS)
    assert page is not None
    assert page.flags & NO_EXECUTE


@pytest.mark.parametrize("level", range(4))
def test_an_absent_entry_is_named(level: int) -> None:
    tables = Tables()
    tables.put(TABLES[level] + SLOT, 0x1230)
    assert tables.space.page(ADDRESS) is None
    walk = tables.space.walk(ADDRESS)
    assert walk.reason == f"{('PGD', 'PUD', 'PMD', 'PTE')[level]} 0x1230 is not present"
    assert len(walk.levels) == level + 1
    assert walk.levels[-1].entry_pa == TABLES[level] + SLOT


def test_tables_and_pages_outside_the_window_are_named() -> None:
    tables = Tables()
    tables.put(TABLES[3] + SLOT, 0x7000 | ALL)
    assert "0x7000 is outside" in tables.space.walk(ADDRESS).reason
    tables.put(TABLES[2] + SLOT, 0x8000 | ALL)
    assert "PTE at 0x8008 is outside" in tables.space.walk(ADDRESS).reason


@pytest.mark.parametrize("va", [1 << 47, 1 << 63, 0xFFFF_7FFF_FFFF_FFFF])
def test_an_address_that_is_not_canonical_is_named(va: int) -> None:
    space = Tables().space
    assert space.page(va) is None
    assert space.walk(va).reason == f"{va:#x} is not canonical"


def test_without_paging_an_address_is_physical() -> None:
    space = AddressSpace(Tables().window, 0, 0, 0)
    page = space.page(BASE + 0x123)
    assert page is not None
    assert (page.pa, page.left) == (BASE + 0x123, 0xEDD)
    assert space.page(0x123) is None


ENTRIES = st.builds(
    lambda table, flags: table | flags,
    st.sampled_from([*TABLES, BASE + 0x5_0000, 0, BASE - 0x1000, BASE + SIZE]),
    st.sampled_from(
        [ALL, ALL & ~WRITABLE, ALL | LARGE, ALL | NO_EXECUTE, 0, ALL & ~ACCESSED]
    ),
)


@given(
    st.lists(ENTRIES, min_size=5, max_size=5),
    st.integers(0, 0xFFF),
    st.integers(0, 0xFFFF),
)
def test_the_short_walk_agrees_with_the_long_one(
    entries: list[int], offset: int, high: int
) -> None:
    tables = Tables()
    for table, entry in zip(TABLES, entries, strict=True):
        tables.put(table + SLOT, entry)
    va = ADDRESS + offset | (high << 48 if high in (0, 0xFFFF) else 0)
    walk = tables.space.walk(va)
    assert tables.space.page(va) == walk.page
    assert (walk.page is None) == bool(walk.reason)


@pytest.mark.parametrize("levels", [4, 5])
def test_what_is_mapped_is_what_can_be_translated(levels: int) -> None:
    """Whatever the tables hold, loops and wild entries too: each page that is told
    translates, and what is told once is not told again.
    """
    rng = random.Random(levels)
    for _ in range(50):
        tables = Tables(levels)
        for _ in range(40):
            entry = rng.choice(
                (*TABLES, BASE + 0x8_0000, rng.getrandbits(52) & -0x1000)
            )
            flags = rng.choice((ALL, ALL, PRESENT, ALL | NO_EXECUTE, ALL | LARGE, 0))
            tables.put(rng.choice(TABLES) + 8 * rng.randrange(512), entry | flags)
        end = 0
        for start, size, flags in tables.space.mapped():
            assert start >= end
            end = start + size
            for va in (start, end - 1):
                page = tables.space.page(va)
                assert page is not None
                assert page.flags == flags


def test_a_table_is_told_where_it_is_met_first() -> None:
    tables = Tables()
    tables.put(TABLES[2] + 8 * 7, TABLES[3] | ALL)  # the table of ADDRESS's page, again
    assert [start for start, *_ in tables.space.mapped()] == [ADDRESS & -0x1000]
    upper = Tables()
    upper.put(TABLES[0] + 8 * 511, TABLES[1] | ALL)
    upper.put(TABLES[0] + SLOT, 0)
    high = ADDRESS - (1 << 39) + (511 << 39) | 0xFFFF << 48
    assert [start for start, *_ in upper.space.mapped()] == [high & -0x1000]


def test_without_paging_nothing_is_mapped() -> None:
    assert not list(AddressSpace(Tables().window, 0, 0, 0).mapped())
