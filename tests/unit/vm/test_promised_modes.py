# SPDX-License-Identifier: GPL-2.0-or-later
"""Promises that are no instructions: what a bit of CR4, of EFER or an MSR does."""

import pytest

from tests.guests import Tiny

UD, GP, PF = 6, 13, 14
_HANDLERS = """
    h6: report $6
        die
    h13: report $13
        die
    h14: report $14
        mov (%rsp), %eax
        report %eax
        die
"""
_GATES = "gate 6, h6\ngate 13, h13\ngate 14, h14\n"


def _reports(body: str) -> list[int]:
    return Tiny(f"main: {_GATES} {body}\n die\n {_HANDLERS}").finish()


def _set_cr4(bit: int) -> str:
    return f"mov %cr4, %rax\nor ${1 << bit}, %eax\nmov %rax, %cr4\n"


def test_smep_keeps_the_kernel_from_executing_what_is_a_program_s() -> None:
    """Not even a handler can be fetched then: the guest ends at once."""
    source = "main: call open_pages\n{}report $1\ndie"
    assert Tiny(source.format("")).finish() == [1]
    guest = Tiny(source.format(_set_cr4(20)))
    assert guest.finish() == []
    assert "vectors 0xe" in guest.failure


@pytest.mark.parametrize("enabled", [False, True])
def test_nx_keeps_a_page_from_being_executed(enabled: bool) -> None:
    """And is a reserved bit where EFER.NXE is clear (SDM vol. 3, figure 4-12)."""
    body = f"""
        mov $EFER, %ecx
        rdmsr
        and $~0x800, %eax
        or ${int(enabled) << 11}, %eax
        wrmsr
        mov %cr3, %rbx
        mov $0x40000000, %rcx
        mov $0x8000000000000083, %rax
        mov %rax, 0x3000(%rbx)      # the directory of the second GiB
        mov %rbx, %cr3
        call *%rcx
    """
    vector, code = _reports(body)
    assert (vector, code) == (PF, 0x11 if enabled else 0x09)


def test_time_stamps_can_be_kept_from_programs() -> None:
    body = "call open_pages\n{}enter_user 1f\n1: rdtsc\n int3\n"
    assert _reports(body.format(_set_cr4(2))) == [GP]


def test_de_makes_debug_registers_4_and_5_undefined() -> None:
    assert _reports(_set_cr4(3) + "mov %db4, %rax\n") == [UD]


def test_fsgsbase_wants_its_bit() -> None:
    assert _reports("rdfsbase %rax\n") == [UD]
    assert _reports(_set_cr4(16) + "rdfsbase %rax\n") == []


@pytest.mark.parametrize(
    "number",
    [0x174, 0x175, 0x176, 0x277, 0x200, 0x201, 0x250, 0x2FF, 0xC000_0103],
    ids=hex,
)
def test_a_register_that_is_promised_keeps_what_is_written(number: int) -> None:
    """SEP's, PAT, MTRRs, TSC_AUX."""
    body = f"""
        mov ${number}, %ecx
        mov $0x0606, %eax
        xor %edx, %edx
        wrmsr
        xor %eax, %eax
        rdmsr
        report %eax
    """
    assert _reports(body) == [0x0606]
