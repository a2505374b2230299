# SPDX-License-Identifier: GPL-2.0-or-later
"""Holes of an address space: found as fast as page tables allow, none overlooked."""

from itertools import pairwise

import pytest

from nanokernel_vm.cpu.delivery import address_space
from nanokernel_vm.cpu.paging import CR0_PG
from nanokernel_vm.debug import PartitionInferior
from stub.handlers.search import search_memory
from stub.outcomes import Work
from stub.session import Session
from tests.guests import Tiny

TOP = 1 << 64

# One page each at the beginning of what one entry of every level maps, and at its end:
# 1 GiB + 4 KiB, + 2 MiB, + 1 GiB; 512 GiB; the last page of all.
FAR = """
main:
    mov %cr3, %rbx
    .irp table, pud, pmd, pt
    lea \\table(%rip), %rax
    or $3, %rax
    mov %rax, \\table\\()_entry(%rip)
    .endr
    lea page(%rip), %rax
    or $3, %rax
    mov %rax, pt+8(%rip)
    mov %rax, pt+4088(%rip)
    mov pmd_entry(%rip), %rax
    mov %rax, pud(%rip)
    mov %rax, pud+4088(%rip)
    mov pt_entry(%rip), %rax
    mov %rax, pmd(%rip)
    mov %rax, pmd+4088(%rip)
    mov pud_entry(%rip), %rax
    mov %rax, 8(%rbx)
    mov %rax, 4088(%rbx)
    mov %rbx, %cr3
    die
.data
pud_entry: .quad 0
pmd_entry: .quad 0
pt_entry: .quad 0
.balign 4096
pud: .skip 4096
pmd: .skip 4096
pt: .skip 4096
page: .ascii "found it"
.skip 4088
"""
ENTRIES = [
    half + pud + pmd + pt
    for half in (1 << 39, TOP - (1 << 39))
    for pud in (0, 511 << 30)
    for pmd in (0, 511 << 21)
    for pt in (1 << 12, 511 << 12)
]


@pytest.fixture
def inferior() -> PartitionInferior:
    guest = Tiny(FAR)
    guest.finish()
    return PartitionInferior(guest, None)


def next_mapped(inferior: PartitionInferior, addr: int) -> tuple[int, int]:
    """The next address with memory, and how many looks it took."""
    looks = 0
    while addr < TOP and not inferior.read_memory(addr, 1):
        following = inferior.past_hole(addr)
        assert following > addr
        addr, looks = following, looks + 1
    return addr, looks


def test_every_page_is_found_in_few_looks(inferior: PartitionInferior) -> None:
    for page, following in pairwise(ENTRIES):
        start = page + 0x1000
        found, looks = next_mapped(inferior, start)
        assert found == (start if inferior.read_memory(start, 1) else following)
        assert looks < 4 * 512
    assert next_mapped(inferior, ENTRIES[-1])[0] == ENTRIES[-1]


def test_what_is_not_canonical_is_one_hole(inferior: PartitionInferior) -> None:
    for addr in (1 << 47, TOP - (1 << 47) - 1, 1 << 63):
        assert inferior.past_hole(addr) == TOP - (1 << 47)


def test_without_paging_there_is_the_partitions_memory(
    inferior: PartitionInferior,
) -> None:
    state, window = inferior.partition.engine.state, inferior.partition.window
    state.cr[0] &= ~CR0_PG
    assert inferior.past_hole(window.end) == TOP
    assert not address_space(state, window).cr0 & CR0_PG


def search(inferior: PartitionInferior, addr: int, length: int, text: bytes) -> bytes:
    work = search_memory.handler(Session.__new__(Session), inferior, addr, length, text)
    assert isinstance(work, Work)
    (reply,) = work.do(work)
    return reply


def test_what_gdb_searches_is_searched(inferior: PartitionInferior) -> None:
    whole = TOP - 1
    assert search(inferior, 1 << 32, whole, b"found it") == b"1,%x" % ENTRIES[0]
    for page, following in pairwise(ENTRIES):
        expected = b"1,%x" % following
        assert search(inferior, page + 1, whole, b"found it") == expected
    assert search(inferior, ENTRIES[-1] + 1, whole, b"found it") == b"0"
    assert search(inferior, 1 << 39, 1 << 47, b"f" * 9) == b"0"
