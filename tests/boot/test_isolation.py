# SPDX-License-Identifier: GPL-2.0-or-later
"""What a partition can reach of its neighbour: nothing, by any route; all is logged.

The tiny guest has the second 2 MiB of RAM; the first 2 MiB are somebody else's and hold
a pattern.  Its page tables map the whole of them, as any kernel could.
"""

import hashlib
from functools import partial
from pathlib import Path

import pytest

from nanokernel_vm.machine import End
from nanokernel_vm.partition import Condition, Outcome, Partition
from tests.guests import MS, WINDOW, Tiny, pair

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
    "fxsave": "fxsave (%rdi); fxrstor 512(%rdi); mov 160(%rdi), %eax; report %eax",
    "cmpxchg16b": "lock cmpxchg16b (%rdi); mov (%rdi), %eax; report %eax",
    "sgdt": "sgdt (%rdi); str 16(%rdi); mov (%rdi), %eax; report %eax",
    "x87": "fldpi; fstpt (%rdi); fnstenv 16(%rdi); mov (%rdi), %eax; report %eax",
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
    gate 8, fault, 0x8e, 1
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


@pytest.mark.parametrize(
    "body",
    [
        "lea 0x1000(%rdi), %rsp; ud2",
        "mov %rdi, tss+44(%rip); gate 6, fault, 0x8e, 2; ud2",
    ],
    ids=["the stack in use", "the interrupt stack"],
)
def test_no_exception_frame_is_pushed_into_a_neighbour(body: str) -> None:
    """Nothing can be pushed there: a double fault, on a stack of its own."""
    guest, _ = _run(body)
    assert guest.reports == [0xFA]
    assert [d.vector for d in guest.log.deliveries] in ([8], [14])


@pytest.mark.parametrize("table", ["lidt", "lgdt"])
def test_descriptors_in_a_neighbour_are_no_descriptors(table: str) -> None:
    guest, _ = _run(
        f"movw $0xfff, place(%rip); mov %rdi, place+2(%rip); {table} place(%rip); ud2"
        "; place: .quad 0, 0"
    )
    assert guest.condition is Condition.FAILED
    assert "triple fault" in guest.failure


COUNT = """
main:
    incl %ecx
    test $0xfff, %ecx
    jnz main
    mov $'*', %al
    mov $0x2f8, %edx
    out %al, %dx
    jmp main
"""
ATTACK = f"""
main:
    mov ${WINDOW:#x}, %edi
    mov $512, %ecx
    xor %eax, %eax
    rep stosq
    mov $100000, %ecx
1:  loop 1b
    jmp main
"""


def _has_run(partition: Partition) -> bool:
    return partition.clock >= 40 * MS


LEAVE = f"main: mov ${WINDOW:#x}, %eax; jmp *%rax"


@pytest.mark.parametrize("attack", [ATTACK, LEAVE], ids=["stores", "a jump"])
def test_the_neighbour_and_the_machine_go_on(tmp_path: Path, attack: str) -> None:
    """Beside a host that attacks the guest runs as beside one that does not."""
    runs = []
    for host in (COUNT, attack.replace("; ", "\n")):
        machine = pair(tmp_path, host, COUNT)
        guest = machine.partitions[1]
        machine.goal = partial(_has_run, guest)
        while machine.run(machine.partitions) is not End.REACHED:
            assert not machine.partitions[0].alive
        runs.append(
            (guest.window.digest(), guest.clock, machine.boards[1].console.output)
        )
    assert runs[0] == runs[1]
    assert len(runs[0][2]) > 100
