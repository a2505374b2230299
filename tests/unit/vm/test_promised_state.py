# SPDX-License-Identifier: GPL-2.0-or-later
"""Promises that depend on state, and faults that state decides on."""

import pytest

from nanokernel_vm.cpu import state as s
from nanokernel_vm.cpu.cpuid import answer
from nanokernel_vm.cpu.promises import CR4_PROMISED
from tests.encodings import OSXSAVE
from tests.guests import Tiny

UD, GP = 6, 13


def test_osxsave_follows_cr4() -> None:
    source = f"""main:
        mov $1, %eax
        cpuid
        report %ecx
        mov %cr4, %rax
        xor ${OSXSAVE}, %rax
        mov %rax, %cr4
        mov $1, %eax
        cpuid
        report %ecx
        die"""
    without, with_ = Tiny(source).finish()
    assert without ^ with_ == 1 << 27
    assert with_ >> 26 & 3 == 3


@pytest.mark.parametrize(
    ("leaf", "subleaf", "like"),
    [
        (2, 7, (2, 0)),
        (4, 3, (3, 0)),  # no more caches
        (7, 1, (3, 0)),
        (0xD, 2, (3, 0)),  # no state of AVX
        (0xE, 1, (0xD, 1)),
        (0x3FFF_FFFF, 0, (0xD, 0)),
        (0x8000_0009, 0, (0xD, 0)),
        (0xFFFF_FFFF, 1, (0xD, 1)),
        (0x4000_0000, 0, (3, 0)),
    ],
)
def test_a_leaf_that_is_not_there(
    leaf: int, subleaf: int, like: tuple[int, int]
) -> None:
    assert answer(leaf, subleaf, 0, {}) == answer(*like, 0, {})


def _fault(setup: str, instruction: str) -> list[int]:
    """The vector and error code, rip from the instruction on, if it faults; else []."""
    handlers = "".join(
        f"h{vector}: report ${vector}\n{pop}jmp report_rip\n"
        for vector, pop in ((6, "push $0\n"), (13, ""), (19, "push $0\n"))
    )
    gates = "".join(f"gate {vector}, h{vector}\n" for vector in (6, 13, 19))
    source = f"""main: {gates} {setup}
    instruction: {instruction}
        die
    {handlers}
    report_rip:
        mov (%rsp), %eax
        report %eax
        mov 8(%rsp), %rax
        lea instruction(%rip), %rdx
        sub %rdx, %rax
        report %eax
        die"""
    return Tiny(source).finish()


_OSXSAVE_ON = f"mov %cr4, %rax; or ${OSXSAVE}, %eax; mov %rax, %cr4; xor %edx, %edx;"


@pytest.mark.parametrize("bit", range(64))
def test_a_bit_of_cr4_that_is_not_promised_cannot_be_set(bit: int) -> None:
    setup = f"mov %cr4, %rax; mov ${1 << bit:#x}, %rdx; or %rdx, %rax"
    found = _fault(setup, "mov %rax, %cr4")
    assert found == ([] if CR4_PROMISED >> bit & 1 else [GP, 0, 0])


@pytest.mark.parametrize(
    ("number", "value", "faults"),
    [(0, 1, 0), (0, 3, 0), (0, 7, 1), (0, 0x1F, 1), (0, 2, 1), (0, 0, 1), (1, 1, 1)],
)
def test_xcr0_holds_what_leaf_d_has(number: int, value: int, faults: int) -> None:
    setup = f"{_OSXSAVE_ON} mov ${number}, %ecx; mov ${value}, %eax"
    assert _fault(setup, "xsetbv") == [GP, 0, 0] * faults


@pytest.mark.parametrize(
    ("setup", "instruction", "vector"),
    [
        ("", "xgetbv", UD),  # CR4.OSXSAVE is clear
        (_OSXSAVE_ON + "mov $1, %ecx", "xgetbv", GP),
        ("xor %ecx, %ecx", "rdpmc", GP),  # there is no counter
        ("", "sysenter", GP),  # IA32_SYSENTER_CS is 0
        ("", "data16 sysenter", GP),
        ("movl $0x11f80, -8(%rsp)", "ldmxcsr -8(%rsp)", GP),
    ],
    ids=["xgetbv off", "xgetbv 1", "rdpmc", "sysenter", "data16 sysenter", "ldmxcsr"],
)
def test_a_fault_of_state(setup: str, instruction: str, vector: int) -> None:
    assert _fault(setup, instruction) == [vector, 0, 0]


def test_rdtscp_has_the_processor_s_number() -> None:
    source = """main:
        mov $0xc0000103, %ecx
        mov $0x12345678, %eax
        xor %edx, %edx
        wrmsr
        mov $-1, %rcx
        rdtscp
        report %ecx
        shr $32, %rcx
        report %ecx
        die"""
    assert Tiny(source).finish() == [0x1234_5678, 0]


@pytest.mark.parametrize("length", [0x8000_0000, 0x7FFF_FFFF, 16, 17, -16, -17])
def test_a_length_of_pcmpestri_saturates(length: int) -> None:
    """All 16 bytes are equal: the index of the last, found from the end."""
    source = f"""main:
        mov ${length}, %eax
        mov %eax, %edx
        pcmpestri $0x48, %xmm0, %xmm0
        report %ecx
        report %eax
        die"""
    assert Tiny(source).finish() == [15, length & 0xFFFF_FFFF]


def test_a_step_over_sysenter_ends_at_its_entry() -> None:
    source = """main:
        mov $0x174, %ecx
        mov $KCS, %eax
        xor %edx, %edx
        wrmsr
        inc %ecx
        lea stack2(%rip), %rax
        wrmsr
        wrmsr_label 0x176, entered
        enter_user before, flags=0x202
    .code64
    before: sysenter
    entered:
        mov %cs, %eax
        report %eax
        mov %ss, %eax
        report %eax
        pushfq
        pop %rax
        and $0x200, %eax
        report %eax
        lea stack2(%rip), %rax
        sub %rsp, %rax
        report %eax
        die"""
    source = source.replace("main:", "main: call open_pages", 1)
    assert Tiny(source).finish() == [0x10, 0x18, 0, 0]
    guest = Tiny(source)
    engine = guest.engine
    engine.insert_breakpoint(guest.label("before"))
    engine.prepare(stepping=True)
    guest.run(1 << 40)
    assert engine.state.rip == guest.label("before")
    engine.ticker.passing = engine.state.rip
    engine.ticker.steps = 2
    guest.run(1 << 40)
    assert engine.state.rip == guest.label("entered")
    assert engine.state.regs[s.RSP] == guest.label("stack2")
