# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines in one process: each is what it is alone, whatever others do meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

import pytest

from nanokernel_vm.partition import Outcome
from tests.guests import ALIAS, MS, Tiny

PAUSE = 0xF5
ORDERS = sorted(set(permutations("AAABBB")))


def phases(page: int) -> str:
    """A page is data, then code, then code that changes.

    Each test has one of its own: what is once known of a page for the whole process
    would hide what is not known of it for a machine.
    """
    return PHASES.replace("PAGES", str(page))


PHASES = f"""{ALIAS}
    movb $1, 1(%rdi)
    movb $7, other-code(%rdi)
    out %al, ${PAUSE}
    jmp 1f
1:  call code
    report %eax
    out %al, ${PAUSE}
    jmp 1f
1:  movb $2, 1(%rdi)
    call code
    report %eax
    die
.p2align 12
.skip 4096*PAGES
code:
    mov $0, %eax
    ret
other: .byte 0
.p2align 12
"""
# Rewrites the code it runs 5000 times, and reports a sum of what it has run.
REWRITES = """
main:
    mov $5000, %ebx
    xor %edx, %edx
1:  mov %bl, code+1(%rip)
    call code
    lea (%rdx,%rax), %edx
    rol $3, %edx
    dec %ebx
    jnz 1b
    report %edx
    die
.p2align 12
code:
    mov $0, %eax
    ret
.p2align 12
"""


def paused(source: str) -> Tiny:
    guest = Tiny(source)
    guest.ports.actions[PAUSE] = guest.engine.interrupt
    return guest


def go_on(guest: Tiny) -> None:
    guest.ticker.interrupt = 0
    assert guest.run(10_000 * MS) in (Outcome.INTERRUPT, Outcome.DEAD)


@pytest.mark.parametrize("order", ORDERS, ids="".join)
def test_phases_of_two_machines_in_any_order(order: tuple[str, ...]) -> None:
    source = phases(ORDERS.index(order))
    guests = {"A": paused(source), "B": paused(source)}
    for name in order:
        go_on(guests[name])
    assert [guest.reports for guest in guests.values()] == [[1, 2], [1, 2]]


def test_machines_in_threads() -> None:
    alone = Tiny(REWRITES)
    alone.finish()
    guests = [Tiny(REWRITES) for _ in range(6)]
    with ThreadPoolExecutor(len(guests)) as threads:
        reports = list(threads.map(Tiny.finish, guests))
    assert reports == [alone.reports] * len(guests)
    assert {guest.clock for guest in guests} == {alone.clock}
    assert {guest.window.digest() for guest in guests} == {alone.window.digest()}


def test_machines_that_come_and_go_leave_the_others_alone() -> None:
    """The address of an engine that is gone may become another's."""
    source = phases(len(ORDERS))
    lasting = paused(source)
    for _ in range(3):
        go_on(lasting)
        assert Tiny(source).finish() == [1, 2]
    assert lasting.reports == [1, 2]
