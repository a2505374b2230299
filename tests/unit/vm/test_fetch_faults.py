# SPDX-License-Identifier: GPL-2.0-or-later
"""Breakpoints and steps at an instruction that cannot be fetched come before the fault.

SDM vol. 3, table 6-2 "Priority Among Concurrent Events".  gdb calls functions that way:
they return to its own breakpoint, on a stack that no code may be in.
"""

import pytest

from nanokernel_vm.partition import Condition, Outcome
from tests.guests import Tiny
from tests.unit.vm.test_engine import run_to_stop

# Four ways for a place to be no code.  The handler reports CR2, if it is about a page,
# and returns behind the call.
_GUEST = """
main:
    gate 14, page_fault
    gate 13, protection
    mov $EFER, %ecx
    rdmsr
    or $0x800, %eax                     # NXE
    wrmsr
    mov %cr3, %rbx
    movl $0x80000000, 0x3004(%rbx)      # 1 GiB: no execution
    movl $0x83, 0x3000(%rbx)
    movq $0, 0x3008(%rbx)               # 2 MiB further: nothing
    mov %rbx, %cr3
    call lies
    mov {place}, %rax
here:
    call *%rax
behind:
    die
lies:
    ret
page_fault:
    mov %cr2, %rdx
    report %edx
protection:
    add $8, %rsp
    lea behind(%rip), %rax
    mov %rax, (%rsp)
    lea stack(%rip), %rax
    mov %rax, 24(%rsp)
    report $0x600d
    iretq
"""
PLACES = {
    "no execution": 0x4000_0000,
    "not mapped": 0x4020_0000,
    "not canonical": 0x8000_0000_0000,
    "no memory": 0x8000_0000,
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> int:
    """An address from which nothing can be fetched."""
    return PLACES[request.param]


def guest_of(place: int) -> Tiny:
    return Tiny(_GUEST.format(place=f"${place:#x}"))


def ends(guest: Tiny) -> tuple[object, ...]:
    """All by which a run could differ from another."""
    memory = guest.window.digest()
    return guest.condition, guest.failure, guest.clock, guest.reports, memory


def undisturbed(place: int) -> tuple[object, ...]:
    guest = guest_of(place)
    guest.run(1 << 40)
    return ends(guest)


def test_a_breakpoint_comes_before_the_fault(place: int) -> None:
    guest = guest_of(place)
    guest.engine.insert_breakpoint(place)
    assert run_to_stop(guest) is Outcome.BREAKPOINT
    assert guest.engine.state.rip == place
    assert guest.engine.state.cr[2] == 0  # nothing has happened yet
    assert guest.reports == []
    assert run_to_stop(guest) is Outcome.DEAD
    assert ends(guest) == undisturbed(place)


def test_a_step_ends_there(place: int) -> None:
    guest = guest_of(place)
    guest.engine.insert_breakpoint(guest.label("here"))
    assert run_to_stop(guest) is Outcome.BREAKPOINT
    assert run_to_stop(guest, stepping=True) is Outcome.STEP
    assert guest.engine.state.rip == place
    assert run_to_stop(guest) is Outcome.DEAD
    assert ends(guest) == undisturbed(place)


def test_a_breakpoint_there_ends_a_step(place: int) -> None:
    guest = guest_of(place)
    guest.engine.insert_breakpoint(guest.label("here"))
    guest.engine.insert_breakpoint(place)
    assert run_to_stop(guest) is Outcome.BREAKPOINT
    assert run_to_stop(guest, stepping=True) is Outcome.BREAKPOINT
    assert guest.engine.state.rip == place


def test_a_step_from_there_ends_at_the_handler() -> None:
    guest = guest_of(PLACES["no execution"])
    guest.engine.insert_breakpoint(PLACES["no execution"])
    assert run_to_stop(guest) is Outcome.BREAKPOINT
    assert run_to_stop(guest, stepping=True) is Outcome.STEP
    assert guest.engine.state.rip == guest.label("page_fault")
    assert guest.engine.state.cr[2] == PLACES["no execution"]


def test_a_removed_breakpoint_lets_the_fault_come(place: int) -> None:
    guest = guest_of(place)
    guest.engine.insert_breakpoint(place)
    guest.engine.remove_breakpoint(place)
    assert run_to_stop(guest) is Outcome.DEAD
    assert ends(guest) == undisturbed(place)


def test_where_the_pc_is_set_elsewhere_no_fault_was(place: int) -> None:
    """The debugger takes the processor back, as at the end of a function it called."""
    guest = guest_of(place)
    guest.engine.insert_breakpoint(place)
    assert run_to_stop(guest) is Outcome.BREAKPOINT
    guest.engine.state.rip = guest.label("behind")
    guest.engine.put_state()
    assert run_to_stop(guest) is Outcome.DEAD
    assert guest.condition is Condition.SHUT_DOWN
    assert guest.reports == []


# The instruction at `tail` does not end in its page, and the next is not mapped.
_TAIL = """
main:
    gate 14, page_fault
    mov %cr3, %rbx
    lea table(%rip), %rax
    or $3, %rax
    mov %rax, 0x3000(%rbx)
    lea code(%rip), %rax
    or $3, %rax
    mov %rax, table(%rip)
    mov %rbx, %cr3
    mov $0x40000000 + tail - code, %eax
    call *%rax
    die
page_fault:
    mov %cr2, %rdx
    report %edx
    lea code+4096(%rip), %rax
    or $3, %rax
    mov %rax, table+8(%rip)
    add $8, %rsp
    iretq
.data
.balign 4096
table: .skip 4096
code:
    .skip 4093, 0x90
tail:
    mov $1, %eax
    ret
"""
TAIL = 0x4000_0000 + 4093


def test_an_instruction_with_its_tail_in_an_unmapped_page() -> None:
    """It is told once before its fault, and once after, when the handler has returned
    to it: as every instruction that faults.
    """
    plain = Tiny(_TAIL)
    assert plain.finish() == [0x4000_1000]
    guest = Tiny(_TAIL)
    guest.engine.insert_breakpoint(TAIL)
    assert run_to_stop(guest) is Outcome.BREAKPOINT
    assert (guest.engine.state.rip, guest.reports) == (TAIL, [])
    assert run_to_stop(guest) is Outcome.BREAKPOINT
    assert (guest.engine.state.rip, guest.reports) == (TAIL, [0x4000_1000])
    assert run_to_stop(guest) is Outcome.DEAD
    assert ends(guest) == ends(plain)
