# SPDX-License-Identifier: GPL-2.0-or-later
"""Translated code is dropped when its page is written, by whatever address."""

from tests.guests import ALIAS, Tiny

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
