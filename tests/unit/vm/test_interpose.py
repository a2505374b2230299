# SPDX-License-Identifier: GPL-2.0-or-later
"""Translated code is dropped when its page is written, by whatever address."""

import pytest

from nanokernel_vm.cpu import proof
from nanokernel_vm.cpu._interpose import Core
from nanokernel_vm.errors import EngineError
from tests.guests import ALIAS, WINDOW, Tiny

CODE = """
.p2align 12
code:
    mov $1, %eax
    ret
other: .byte 0
.p2align 12
"""


def test_a_store_by_another_address_after_the_first_to_the_page() -> None:
    guest = Tiny(
        ALIAS
        + """
    call code
    report %eax
    movb $7, other-code(%rdi)
    movb $2, 1(%rdi)
    call code
    report %eax
    movb $3, 1(%rdi)
    call code
    report %eax
    die
    """
        + CODE
    )
    assert guest.finish() == [1, 2, 3]


def test_a_store_by_another_address_that_was_fast_before_there_was_code() -> None:
    guest = Tiny(
        ALIAS
        + """
    movb $4, 1(%rdi)
    movb $5, 1(%rdi)
    call code
    report %eax
    movb $6, 1(%rdi)
    call code
    report %eax
    die
    """
        + CODE
    )
    assert guest.finish() == [5, 6]


def test_a_page_that_is_written_and_executed_in_turn() -> None:
    guest = Tiny(
        """
main:
    mov $3, %ebx
1:  incb code+1(%rip)
    call code
    report %eax
    movb $9, other(%rip)
    dec %ebx
    jnz 1b
    die
    """
        + CODE
    )
    assert guest.finish() == [2, 3, 4]


def test_a_page_without_execute_permission_is_not_executed() -> None:
    guest = Tiny(
        ALIAS
        + """
    gate 14, fault
    call code
    movb $2, other-code(%rdi)
    call *%rdi
    report $0
    die
fault:
    report $14
    die
    """
        + CODE
    )
    assert guest.finish() == [14]


def test_a_store_of_somebody_else() -> None:
    """A debugger's or a device's: the processor did not see it."""
    guest = Tiny("main:\n1: call code; report %eax; jmp 1b" + CODE)
    for value in (2, 3):
        guest.run(guest.clock + 1000)
        guest.window.write(guest.label("code") + 1, bytes((value,)))
    guest.run(guest.clock + 1000)
    assert list(dict.fromkeys(guest.reports)) == [1, 2, 3]


def test_a_frame_that_is_pushed_over_code() -> None:
    """The error code becomes an operand, and the low byte of rip, 0xc3, a RET."""
    guest = Tiny(
        """
main:
    gate 13, on_fault
    call code
    report %eax
    mov %rsp, %rbp
    lea code+2+48(%rip), %rsp
    mov $0x78, %eax
    jmp fault
.p2align 8
.skip 0xc3
fault:
    mov %eax, %ds
on_fault:
    mov %rbp, %rsp
    call code
    report %eax
    die
.p2align 12
.skip 62
code:
    movabs $1, %rax
    ret
.p2align 12
"""
    )
    assert guest.finish() == [1, 0x78]


@pytest.mark.parametrize("base", [0, WINDOW])
def test_stores_are_fast_again_where_code_was(base: int) -> None:
    """And slow when there is code again, through each of the page's addresses."""
    guest = Tiny(
        ALIAS
        + """
1:  call code
    report %eax
    movb $2, code+1(%rip)
    movb $3, 1(%rdi)
    lea code(%rip), %rcx
    report $77
    call code
    report %eax
    movb $4, code+1(%rip)
    call code
    report %eax
    movb $5, 1(%rdi)
    call code
    report %eax
    movb $6, code+1(%rip)
    call code
    report %eax
    die
    """
        + CODE,
        base,
    )
    core, seen = guest.engine.core, []

    class Watched(list[tuple[int, int, int]]):
        def append(self, row: tuple[int, int, int]) -> None:
            alias = guest.engine.register(39)  # RDI
            places = guest.label("code"), alias
            seen.append([core.fast(place) for place in places])
            super().append(row)

    guest.ports.writes = Watched()
    assert guest.finish() == [1, 77, 3, 4, 5, 6]
    assert seen[0] == [False, False]
    assert seen[1] == [True, True]
    assert not any(any(places) for places in seen[2:])


def test_a_flush_of_translations_makes_no_difference() -> None:
    """Only to how fast stores are: the TLB has what it had."""
    source = "main:\n1: call code; report %eax; incb other(%rip); jmp 1b" + CODE
    flushed, plain = Tiny(source), Tiny(source)
    for _ in range(50):
        flushed.run(flushed.clock + 300)
        flushed.engine.flush_translations()
    plain.run(flushed.clock)
    assert plain.clock == flushed.clock
    assert plain.engine.plain() == flushed.engine.plain()
    assert plain.window.digest() == flushed.window.digest()


def test_stores_that_stay_fast_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fast(Core):
        def fast(self, va: int, /) -> bool:
            return True

    monkeypatch.setattr(proof, "Core", Fast)
    with pytest.raises(EngineError, match="stores to code"):
        proof.prove.__wrapped__()
