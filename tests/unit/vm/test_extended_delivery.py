# SPDX-License-Identifier: GPL-2.0-or-later
"""Extended frames on the stacks of tiny guests, and the way back."""

import struct

import pytest

from nanokernel_vm.abi.frame import (
    FRAME_SIZE,
    SYSCALL_VECTOR,
    WORD_OFFSETS,
    Class,
    Hardware,
    Words,
    classify,
)
from nanokernel_vm.abi.layout import PORT_RETURN
from nanokernel_vm.cpu.delivery import DB, DF, UD, Gate
from nanokernel_vm.nanokernel.frames import Frames
from nanokernel_vm.partition import Condition, Outcome
from tests.guests import KERNEL_CS, KERNEL_DS, MS, USER_CS, USER_DS, Tiny

STACK = 0x1000
FMASK = 0x200
# ``back`` returns as the guest's Linux does; ``stay`` ends where a handler begins.
HANDLERS = f"""
stay:
    die
back:
    outb %al, ${PORT_RETURN:#x}
    jmp 1f
    die
1:  iretq
"""
ENTER = """
    mov $EFER, %ecx
    rdmsr
    or $1, %eax                      # SCE
    wrmsr
    mov $STAR, %ecx
    xor %eax, %eax
    mov $0x00230010, %edx
    wrmsr
    call open_pages
    enter_user user, 0x202
user:
"""


class Extended(Tiny):
    """A guest with registered handlers and extended frames.

    Args:
        source: Its main program.
        gates: Vector to label and interrupt stack.
        syscall: Label of the SYSCALL entry.
    """

    def __init__(
        self, source: str, gates: dict[int, tuple[str, int]], syscall: str = "stay"
    ) -> None:
        super().__init__(f"main:\n{source}\n{HANDLERS}")
        registered = {
            vector: Gate(self.label(name), KERNEL_CS, trap=False, dpl=3, ist=ist)
            for vector, (name, ist) in gates.items()
        }
        self.made = Frames(self, STACK)
        entry = self.label(syscall)
        self.use_handlers(registered.get, lambda: (entry, FMASK), lambda: self.made)
        self.ports.actions[PORT_RETURN] = lambda: self.returns(self.made)

    def frame(self, at: int) -> tuple[Hardware, Words]:
        """The frame there."""
        values = struct.unpack("<11Q", self.window.read(at, FRAME_SIZE))
        return Hardware(*values[:5]), Words(*values[5:])

    def ends(self) -> int:
        """Run to its end; rsp there."""
        assert self.run(1000 * MS) is Outcome.DEAD
        return self.engine.state.regs[4]


def below(stack: int) -> int:
    """Address of a frame at the top of a stack."""
    return (stack & ~15) - FRAME_SIZE


@pytest.mark.parametrize("ist", [0, 1])
def test_out_of_a_user_program_it_is_where_the_thread_s_belongs(ist: int) -> None:
    guest = Extended(f"{ENTER}here: ud2", {UD: ("stay", ist)})
    at = below(guest.label("stack"))
    assert guest.ends() == at
    hardware, words = guest.frame(at)
    assert hardware[:2] == (guest.label("here"), USER_CS)
    assert hardware[3:] == (guest.label("user_stack"), USER_DS)
    assert classify(at, hardware, words, STACK) is Class.SAME
    assert (words.vector, words.sequence) == (UD, 1)
    assert guest.log.deliveries[-1].sequence == 1


@pytest.mark.parametrize(("ist", "stack"), [(0, "stack"), (1, "stack1")])
def test_out_of_the_kernel_it_is_where_the_gate_says(ist: int, stack: str) -> None:
    guest = Extended("push %rax\nhere: ud2", {UD: ("stay", ist)})
    at = below(guest.label(stack) - (0 if ist else 8))
    assert guest.ends() == at
    hardware, words = guest.frame(at)
    assert hardware.sp == guest.label("stack") - 8
    assert hardware.ss == KERNEL_DS
    assert classify(at, hardware, words, STACK) is Class.SAME


def test_an_error_code_is_below_the_frame() -> None:
    guest = Extended("mov $0x78, %eax\nmov %eax, %ds", {13: ("stay", 0)})
    rsp = guest.ends()
    assert guest.window.word(rsp) == 0x78
    assert classify(rsp + 8, *guest.frame(rsp + 8), STACK) is Class.SAME


def test_a_system_call_has_a_frame() -> None:
    guest = Extended(f"{ENTER}syscall\nbehind: ud2", {}, "stay")
    at = below(guest.label("stack"))
    assert guest.ends() == at
    hardware, words = guest.frame(at)
    state = guest.engine.state
    assert words.vector == SYSCALL_VECTOR
    assert hardware.ip == state.regs[1] == guest.label("behind")
    assert hardware.flags == state.regs[11] == 0x202
    assert not state.rflags & FMASK
    assert (hardware.cs, hardware.sp) == (USER_CS, guest.label("user_stack"))
    assert classify(at, hardware, words, STACK) is Class.SAME


def test_it_returns() -> None:
    program = f"{ENTER}syscall\nsyscall\nud2"
    guest = Extended(program, {UD: ("stay", 0)}, "back")
    guest.ends()
    assert guest.made.counts[Class.SAME] == 2
    assert guest.made.sequence == 3
    assert [f.sequence for f in guest.made.out.values()] == [3]


@pytest.mark.parametrize("steps", [False, True])
def test_a_corrupt_frame_gets_no_further_than_the_jump(steps: bool) -> None:
    spoil = f"""
    {ENTER}syscall
    report $1
spoil:
    incb {WORD_OFFSETS.check}(%rsp)
    jmp back
"""
    guest = Extended(spoil, {UD: ("stay", 0)}, "spoil")
    if steps:
        guest.engine.prepare(stepping=True)
        guest.ticker.steps = 2
        while guest.run(guest.clock + MS) is Outcome.STEP:
            guest.ticker.steps = 2
    at = below(guest.label("stack"))
    assert guest.ends() == at
    assert guest.condition is Condition.FAILED
    assert f"corrupt interrupt frame at {at:#x}: check: expected" in guest.failure
    assert guest.reports == []


def test_without_a_stack_it_is_a_double_fault_on_its_own() -> None:
    """And the frame that could not be built has had no number."""
    spoil = f"movb $1, tss+11(%rip)\n{ENTER}syscall"
    guest = Extended(spoil, {DF: ("stay", 2), 12: ("stay", 0)})
    rsp = guest.ends()
    assert rsp == below(guest.label("stack2")) - 8
    _, words = guest.frame(rsp + 8)
    assert (words.vector, words.sequence) == (DF, 1)
    assert len(guest.made.out) == 1


def test_a_fault_with_nowhere_to_go_names_what_was_tried() -> None:
    guest = Extended(f"movb $1, tss+11(%rip)\n{ENTER}syscall", {})
    guest.ends()
    assert guest.condition is Condition.FAILED
    assert "triple fault" in guest.failure


def test_a_user_program_s_step_ends_in_a_frame() -> None:
    guest = Extended(f"{ENTER}pushf\norl $0x100, (%rsp)\npopf\nnop", {DB: ("stay", 3)})
    at = below(guest.label("stack"))
    assert guest.ends() == at
    assert guest.frame(at)[0].flags & 0x100
