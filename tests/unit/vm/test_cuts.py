# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing that a program can see depends on where the translator ends its blocks.

A debugger's stops are entries into blocks, and so it ends blocks where it likes.
"""

import random
import struct
from functools import cache
from itertools import product

import pytest

from tests.guests import Tiny

ARITHMETIC = 0x8D4  # OF, SF, ZF, AF, PF, and not CF
SEEDS = (
    (0x7FFF_FFFF_FFFF_FFFF, 1, 0x21),
    (0x8000_0000_8000_8080, 0xFFFF_FFFF_8000_8001, 0x40),  # counts of 0
    (0x0123_4567_89AB_CDEF, 0x0123_4567_89AB_CDEF, 0x1F),
)
A, B = ("al", "ax", "eax", "rax"), ("bl", "bx", "ebx", "rbx")

#: Instructions that set flags, of each of the ways in which Unicorn keeps them until
#: somebody asks (qemu/target/i386/cpu.h, CCOp).
SETTERS = [
    *(
        f"{op} %{b}, %{a}"
        for op in ("add", "adc", "sub", "sbb", "cmp", "and", "or", "xor", "test")
        for a, b in zip(A, B, strict=True)
    ),
    *(f"{op} %{a}" for op in ("neg", "inc", "dec") for a in A),
    *(
        f"{op} {count}, %{a}"
        for op in ("shl", "shr", "sar", "rol", "ror", "rcl", "rcr")
        for count in ("$1", "$3", "%cl")
        for a in A
    ),
    *(
        f"{op} {count}, %{b}, %{a}"
        for op in ("shld", "shrd")
        for count in ("$5", "%cl")
        for a, b in list(zip(A, B, strict=True))[1:]
    ),
    *(f"{op} %{b}" for op in ("mul", "imul") for b in B),
    *(
        f"{op} %{b}, %{a}"
        for op in ("imul", "bsf", "bsr", "popcnt", "tzcnt", "lzcnt")
        for a, b in list(zip(A, B, strict=True))[1:]
    ),
    *("xor %eax, %eax", "sub %rbx, %rbx", "sahf", "clc", "stc", "cmc", "std; cld"),
    *("cmpxchg %ebx, place(%rip)", "lock xadd %rbx, place(%rip)", "cmpsb; std; cld"),
    *("lock decl place(%rip)", "negw place(%rip)", "scasw", "shll %cl, place(%rip)"),
    *("ucomisd %xmm0, %xmm1", "fldz; fcomip; fnop", "push $0x8d5; popfq"),
    *("cmp %eax, %ebx; mov %al, place(%rip)", "test %eax, %eax; bt $3, %ebx"),
]
BIT_TESTS = [
    *(
        f"{op} {bit}, {operand}"
        for op in ("bt", "bts", "btr", "btc")
        for bit, operand in (
            *(("%ecx", "%edx"), ("%rcx", "%rdx"), ("%cx", "%dx"), ("$7", "%edx")),
            *(("%rcx", "place(%rip)"), ("%ecx", "place(%rip)")),
            *(("%cx", "place(%rip)"),),
        )
    ),
    *(f"{op} $9, place(%rip)" for op in ("btl", "btsq", "btrw", "btcl")),
    *(f"lock {op} %rcx, place(%rip)" for op in ("bts", "btr", "btc")),
    *(f"lock {op} $9, place(%rip)" for op in ("btsl", "btrq", "btcw")),
]
OTHERS = [
    *("adc %edx, %edx", "sbb %dl, %dl", "rcl $1, %edx", "rcr %cl, %dl"),
    *("rol %cl, %edx", "ror $0, %edx", "shl %cl, %edx", "sar %cl, %dx", "inc %edx"),
    *("dec %dl", "cmc", "lahf", "seto %dl", "setbe %dl", "cmovs %ecx, %edx"),
    *("bsf %edx, %ecx", "mul %edx", "shld %cl, %ebx, %edx", "jp 9f; 9:", "jle 9f; 9:"),
]
USERS = ["nop", *BIT_TESTS, *OTHERS]
CASES = list(product(SETTERS, USERS))

_CASE = """
    cmp %r15, %r15
    mov %r8, %rax; mov %r9, %rbx; mov %r10, %rcx; mov %r8, %rdx
    {}
    {}
    pushfq
    popq (%r15)
    xor %rdx, (%r15)
    lea 8(%r15), %r15
"""


def program(cases: list[tuple[str, str]]) -> str:
    """Run each case with each seed, and keep flags xor rdx."""
    seeds = "\n".join(f".quad {a:#x}, {b:#x}, {c:#x}" for a, b, c in SEEDS)
    return f"""
main:
    lea results(%rip), %r15
    lea seeds(%rip), %r14
1:  mov (%r14), %r8
    mov 8(%r14), %r9
    mov 16(%r14), %r10
    lea place(%rip), %rsi
    lea place+32(%rip), %rdi
    movq %r8, %xmm0
    movq %r9, %xmm1
    call cases
    add $24, %r14
    lea place(%rip), %rax
    cmp %rax, %r14
    jne 1b
    die
cases:
    {"".join(_CASE.format(*case) for case in cases)}
    ret
end_of_cases:
.data
.balign 16
seeds:
    {seeds}
place: .skip {64 + 8 * len(SETTERS) * len(USERS)}
results: .skip {8 * len(SEEDS) * len(cases)}
.text
"""


def results(guest: Tiny, count: int) -> list[int]:
    place = guest.label("results")
    return list(struct.unpack(f"<{count}Q", guest.window.read(place, 8 * count)))


def finish(guest: Tiny) -> Tiny:
    guest.finish()
    assert "halted" in guest.failure
    return guest


@cache
def in_large_blocks() -> tuple[str, list[int]]:
    guest = finish(Tiny(program(CASES)))
    return guest.window.digest(), results(guest, len(CASES) * len(SEEDS))


def test_flags_do_not_depend_on_cuts_between_all_instructions() -> None:
    guest = Tiny(program(CASES))
    guest.ticker.everywhere = True
    finish(guest)
    digest, expected = in_large_blocks()
    found = results(guest, len(expected))
    wrong = [
        (*CASES[i % len(CASES)], hex(a), hex(b))
        for i, (a, b) in enumerate(zip(expected, found, strict=True))
        if a != b
    ]
    assert not wrong
    assert guest.window.digest() == digest


@pytest.mark.parametrize("seed", range(3))
def test_flags_do_not_depend_on_cuts_anywhere(seed: int) -> None:
    guest, choice = Tiny(program(CASES)), random.Random(seed)
    places = range(guest.label("cases"), guest.label("end_of_cases"))
    for place in choice.choices(places, k=20_000):
        guest.engine.insert_breakpoint(place)
        guest.engine.remove_breakpoint(place)
    finish(guest)
    assert guest.window.digest() == in_large_blocks()[0]


def test_a_bit_test_changes_nothing_but_the_carry() -> None:
    """ZF is kept (SDM vol. 2, BT), and so do processors keep what is undefined."""
    users = ["nop", *(u for u in BIT_TESTS if "place" in u)]  # those that keep rdx
    in_memory = ("place", "cmpsb", "scasw")  # of which the users change something
    setters = [s for s in SETTERS if not any(word in s for word in in_memory)]
    cases = list(product(setters, users))
    guest = finish(Tiny(program(cases)))
    found = iter(results(guest, len(cases) * len(SEEDS)))
    wrong = []
    for setter in setters * len(SEEDS):
        before, *after = (next(found) for _ in users)
        wrong += [
            (setter, user, hex(before), hex(flags))
            for user, flags in zip(users[1:], after, strict=True)
            if (before ^ flags) & ARITHMETIC
        ]
    assert not wrong


# What faults, by its vector and whether it has an error code
FAULTS = ["mov (%r11), %edx", "mov %edx, (%r11)", "ud2", "div %r13", "push (%r11)"]
FAULTING = f"""
main:
    gate 14, with_code
    gate 6, without_code
    gate 0, without_code
    lea results(%rip), %r15
    lea seeds(%rip), %r14
    mov $0x10000000000, %r11    # not mapped
    xor %r13, %r13
1:  mov (%r14), %r8
    mov 8(%r14), %r9
    mov 16(%r14), %r10
    lea place(%rip), %rsi
    lea place+32(%rip), %rdi
    call cases
    add $24, %r14
    lea place(%rip), %rax
    cmp %rax, %r14
    jne 1b
    die
with_code:
    add $8, %rsp
without_code:
    mov 16(%rsp), %rdx
    mov %rdx, (%r15)
    lea 8(%r15), %r15
    mov %r12, (%rsp)
    iretq
cases:
    {
    "".join(
        f'''
    cmp %r15, %r15
    lea 8f(%rip), %r12
    mov %r8, %rax; mov %r9, %rbx; mov %r10, %rcx
    {setter}
    {fault}
8:
'''
        for setter in SETTERS
        for fault in FAULTS
    )
}
    ret
.data
.balign 16
seeds:
    {"; ".join(f".quad {a:#x}, {b:#x}, {c:#x}" for a, b, c in SEEDS)}
place: .skip 4096
results: .skip {8 * len(SEEDS) * len(SETTERS) * len(FAULTS)}
.text
"""


def test_flags_of_what_faults_do_not_depend_on_cuts() -> None:
    free, cut = Tiny(FAULTING), Tiny(FAULTING)
    cut.ticker.everywhere = True
    cases = [*product(SETTERS, FAULTS)] * len(SEEDS)
    expected = results(finish(free), len(cases))
    found = results(finish(cut), len(cases))
    wrong = [
        (*case, hex(a), hex(b))
        for case, a, b in zip(cases, expected, found, strict=True)
        if a != b
    ]
    assert not wrong
    assert free.log.delivered == cut.log.delivered == len(cases)
    assert free.clock == cut.clock
