# SPDX-License-Identifier: GPL-2.0-or-later
"""IN and OUT of a program that is no kernel."""

import pytest

from nanokernel_vm.partition import Outcome
from tests.guests import MS, Tiny

USER = """
main:
    gate 13, fault
    gate 14, fault
    gate 6, fault
    call open_pages
    {setup}
    enter_user user, {flags}
user:
    mov $0x1234567890, %rbx
here:
    {access}
    incl counted(%rip)
    {then}
    jmp 1f
1:  incl counted(%rip)
    ud2
fault:
    mov (%rsp), %rax
    mov %rax, error(%rip)
    mov 8(%rsp), %rax
    mov %rax, rip(%rip)
    die
.data
error: .quad 0
rip: .quad 0
counted: .long 0
.text
"""


def guest(
    access: str, setup: str = "", flags: str = "2", then: str = "nop", slice_: int = 0
) -> Tiny:
    tiny = Tiny(USER.format(access=access, setup=setup, flags=flags, then=then))
    while tiny.run(tiny.clock + slice_ if slice_ else 10 * MS) is not Outcome.DEAD:
        pass
    return tiny


def faulted_at(tiny: Tiny) -> int:
    return tiny.window.word(tiny.label("rip"))


@pytest.mark.parametrize("access", ["out %al, $0xe0", "in $0xe0, %al", "outb %al, %dx"])
@pytest.mark.parametrize("then", ["nop", "ud2", "syscall", "int3", "mov (0), %al"])
def test_an_access_without_the_right_is_a_protection_fault(
    access: str, then: str
) -> None:
    tiny = guest(access, then=then)
    assert tiny.ports.writes == []
    assert faulted_at(tiny) == tiny.label("here")
    assert tiny.window.word(tiny.label("error")) == 0
    assert [d.vector for d in tiny.log.deliveries] == [13]


def test_the_end_does_not_depend_on_slices() -> None:
    whole, sliced = guest("out %al, $0xe0"), guest("out %al, $0xe0", slice_=1)
    assert sliced.window.digest() == whole.window.digest()
    assert sliced.clock == whole.clock


def test_iopl_gives_the_right() -> None:
    tiny = guest("out %al, $0xe0", flags="0x3002")
    assert [port for port, _, _ in tiny.ports.writes] == [0xE0]
    assert faulted_at(tiny) != tiny.label("here")


MAP = """
    movw $0x70, gdt+TSS(%rip)        # the limit has room for ports 0 to 63
    movb $0x89, gdt+TSS+5(%rip)
    mov $TSS, %eax
    ltr %ax
    movb $0xf7, tss+104(%rip)        # port 3 only
    movw $0xff3f, tss+105(%rip)      # ports 14 and 15
"""


@pytest.mark.parametrize(
    ("access", "allowed"),
    [
        ("out %al, $3", True),
        ("out %al, $4", False),
        ("out %ax, $14", True),
        ("out %eax, $14", False),
        ("out %ax, $2", False),
    ],
)
def test_the_bit_map_gives_the_right(access: str, allowed: bool) -> None:
    tiny = guest(access, MAP)
    assert bool(tiny.ports.writes) is allowed
    assert (faulted_at(tiny) != tiny.label("here")) is allowed
