# SPDX-License-Identifier: GPL-2.0-or-later
"""Watchpoints: what is seen, once, right after its instruction, and what is not."""

import pytest

from nanokernel_vm.cpu.watch import Access, Watch, pages
from nanokernel_vm.partition import Outcome
from tests.guests import Tiny
from tests.unit.vm.test_engine import path, run_to_stop, stops


def watch(guest: Tiny, kinds: Access, begin: int, length: int) -> None:
    """Watch bytes that are where their address says."""
    row = Watch(begin, length, kinds, tuple(pages(begin, length)))
    guest.engine.watch([row])


WATCHED = """
main:
    lea area(%rip), %rdi
    mov $0x11, %eax
    mov %rax, 8(%rdi)
after_store:
    mov 8(%rdi), %rbx
after_load:
    incl 8(%rdi)
after_inc:
    movups %xmm0, (%rdi)
after_vector:
    lea 16(%rdi), %rsp
    push %rax
after_push:
    call leaf
leaf:
    lea area(%rip), %rdi
    mov $3, %ecx
    rep stosq
after_rep:
    mov %al, -1(%rdi)
after_byte:
    die
.data
.balign 16
area: .skip 64
"""
STORES = ("after_store", "after_inc", "after_vector", "after_push")


@pytest.mark.parametrize("offset", [0, 3, 4, 7])
def test_a_watchpoint_stops_once_after_each_store(offset: int) -> None:
    """Also of one that is wider and begins before the watched byte."""
    guest = Tiny(WATCHED)
    watch(guest, Access.WRITE, guest.label("area") + 8 + offset, 1)
    found = stops(guest)
    assert {outcome for outcome, _ in found} == {Outcome.WATCH}
    places = [rip for _, rip in found]
    narrow = {"after_inc"} if offset > 3 else set()
    expected = [guest.label(name) for name in STORES if name not in narrow]
    assert places[:-1] == expected
    assert guest.label("leaf") < places[-1] < guest.label("after_rep")


def test_a_watchpoint_does_not_see_its_neighbours() -> None:
    guest = Tiny(WATCHED)
    watch(guest, Access.READ | Access.WRITE, guest.label("area") + 24, 8)
    assert stops(guest) == []


def test_reads_and_writes_are_told_apart() -> None:
    guest = Tiny(WATCHED)
    watch(guest, Access.READ, guest.label("area") + 8, 8)
    places = [rip for _, rip in stops(guest)]
    assert places == [guest.label("after_load"), guest.label("after_inc")]


def test_a_watchpoint_that_was_removed_before_it_was_told_is_forgotten() -> None:
    guest = Tiny(WATCHED)
    watch(guest, Access.WRITE, guest.label("area") + 8, 8)
    assert run_to_stop(guest) is Outcome.WATCH
    guest.ticker.watched = 1  # as after a store at the end of a slice
    guest.engine.watch(())
    assert path(guest, 1) == [guest.label("after_load")]


def test_a_watchpoint_is_told_with_its_address() -> None:
    guest = Tiny(WATCHED)
    place = guest.label("area") + 8
    watch(guest, Access.WRITE, place, 8)
    run_to_stop(guest)
    assert guest.ticker.address == place
    assert guest.ticker.watched_write
