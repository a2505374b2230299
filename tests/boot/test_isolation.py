# SPDX-License-Identifier: GPL-2.0-or-later
"""What a partition can reach of its neighbour: nothing, by any route; all is logged.

The tiny guest has the second 2 MiB of RAM; the first 2 MiB are somebody else's and hold
a pattern.  Its page tables map the whole of them, as any kernel could.
"""

import hashlib

import pytest

from nanokernel_vm.partition import Condition, Outcome
from tests.guests import MS, WINDOW, Tiny

ONES = 0xFFFF_FFFF
PATTERN = bytes(range(256)) * (WINDOW // 256)
VICTIM = 0x1_2000

# route: what main does; it may report what it has read
ROUTES = {
    "store": "movq $0x1234, (%rdi); movb $1, 9(%rdi); mov (%rdi), %eax; report %eax",
    "locked": "mov $1, %eax; lock xadd %eax, (%rdi); report %eax; lock incl (%rdi)",
    "exchange": "mov $7, %eax; xchg %eax, (%rdi); report %eax",
    "unaligned": "movq $0, 0xffd(%rdi); mov 0xffd(%rdi), %eax; report %eax",
    "rep stos": "mov $512, %ecx; xor %eax, %eax; rep stosq; report -8(%rdi)",
    "rep movs in": """
        lea main(%rip), %rsi; mov $64, %ecx; rep movsq; report -8(%rdi)""",
    "rep movs out": """
        mov %rdi, %rsi; lea user_stack(%rip), %rdi; mov $64, %ecx; rep movsq
        report -8(%rdi)""",
    "sse": """
        mov %cr4, %rax; or $0x600, %rax; mov %rax, %cr4
        movups %xmm0, (%rdi); movups (%rdi), %xmm1; movd %xmm1, %eax; report %eax""",
    "push": "mov %rsp, %rbx; lea 64(%rdi), %rsp; push %rax; pop %rax; mov %rbx, %rsp; "
    "report %eax",
    "page table entry": """
        mov %cr3, %rbx                   # the first page directory is 8 KiB behind
        movq $0x83, 0x2000+8*100(%rbx)   # 200 MiB: the neighbour's first 2 MiB
        mov %rbx, %cr3
        add $200*0x100000, %rdi; movq $5, (%rdi); mov (%rdi), %eax; report %eax""",
}

FAULT = """
fault:
    report $0xfa
    die
"""


def _run(body: str) -> tuple[Tiny, Outcome]:
    source = f"""
main:
    gate 14, fault
    mov ${VICTIM:#x}, %edi
    {body}
    die
{FAULT}"""
    guest = Tiny(source.replace(";", "\n"), base=WINDOW)
    guest.window.ram.view[:WINDOW] = PATTERN
    outcome = guest.run(10 * MS)
    ram = hashlib.sha256(guest.window.ram.view[:WINDOW]).digest()
    assert ram == hashlib.sha256(PATTERN).digest()
    return guest, outcome


@pytest.mark.parametrize("route", ROUTES)
def test_a_neighbour_is_an_empty_bus(route: str) -> None:
    guest, outcome = _run(ROUTES[route])
    assert outcome is Outcome.DEAD
    assert guest.condition is Condition.SHUT_DOWN  # it went on to its end
    assert guest.reports == [ONES]
    assert guest.log.violated > 0
    assert all(v.space == "memory" and v.addr < WINDOW for v in guest.log.violations)


def test_page_tables_in_a_neighbour_are_no_tables() -> None:
    guest, _ = _run(
        f"""
        mov %cr3, %rbx
        movq ${VICTIM + 3:#x}, 8(%rbx)   # the second 512 GiB
        mov %rbx, %cr3
        mov $1, %eax
        shl $39, %rax
        movq $1, (%rax)
        """
    )
    assert guest.reports == [0xFA]


def test_top_table_in_a_neighbour_is_the_end_of_a_partition() -> None:
    guest, outcome = _run("mov %rdi, %cr3; mov (%rdi), %eax")
    assert outcome is Outcome.DEAD
    assert guest.condition is Condition.FAILED
    assert "triple fault" in guest.failure


def test_code_in_a_neighbour_is_the_end_of_a_partition() -> None:
    guest, outcome = _run("jmp *%rdi")
    assert outcome is Outcome.DEAD
    assert guest.condition is Condition.FAILED
    assert f"{VICTIM:#x}" in guest.failure
