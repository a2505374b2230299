# SPDX-License-Identifier: GPL-2.0-or-later
"""What a handler finds on its stack, by Intel SDM vol. 3, chapter 6; real programs."""

import struct
from typing import NamedTuple

import pytest

from nanokernel_vm.cpu.delivery import Gate
from nanokernel_vm.cpu.registers import Registers
from nanokernel_vm.partition import Condition
from stub import amd64
from tests.guests import (
    COMPAT_CS,
    KERNEL_CS,
    KERNEL_DS,
    MS,
    USER_CS,
    USER_DS,
    Line,
    Tiny,
)

IF, TF, NT, RF, AC = 1 << 9, 1 << 8, 1 << 14, 1 << 16, 1 << 18
ARITHMETIC = 0x8D5  # OF SF ZF AF PF CF

# ``dump`` keeps seven words from the stack pointer on, which are then in ``frame``.
DUMP = """
dump:
    mov %rsp, frame(%rip)
    mov %rdi, saved(%rip)
    pushfq
    pop flags(%rip)
    cld
    mov %rsp, %rsi
    lea frame+8(%rip), %rdi
    mov $7, %ecx
    rep movsq
    die
.data
.balign 16
frame: .skip 64
saved: .quad 0
flags: .quad 0
.text
"""


class Frame(NamedTuple):
    """A frame without error code, the rsp that the handler had, and its flags."""

    rip: int
    cs: int
    rflags: int
    rsp: int
    ss: int
    at: int
    flags: int


def run(source: str, *gates: str) -> Tiny:
    """Run a program that ends in ``dump``."""
    lines = "\n".join(f"gate {gate}" for gate in gates)
    guest = Tiny(f"main:\n{lines}\n{source}\n{DUMP}")
    guest.finish()
    assert guest.condition is Condition.SHUT_DOWN, guest.failure
    return guest


def words(guest: Tiny) -> tuple[int, ...]:
    """The handler's rsp and the seven words there."""
    return struct.unpack("<8Q", guest.window.read(guest.label("frame"), 64))


def frame(guest: Tiny, error_code: int | None = None) -> Frame:
    """The frame, after seeing that it has, or has not, that error code."""
    at, *found = words(guest)
    if error_code is not None:
        assert found.pop(0) == error_code
    rip, cs, rflags, rsp, ss, *_ = found
    flags = guest.window.word(guest.label("flags"))
    return Frame(rip, cs, rflags, rsp, ss, at, flags)


FAULTS: dict[str, tuple[int, int | None, str]] = {
    "divide": (0, None, "xor %ecx, %ecx\nhere: div %ecx"),
    "undefined": (6, None, "here: ud2"),
    "segment": (13, 0x78, "mov $0x78, %eax\nhere: mov %eax, %ds"),
    "not canonical": (13, 0, "mov $1, %rbx\nshl $62, %rbx\nhere: mov (%rbx), %al"),
    "read": (14, 0, "mov $5, %rbx\nshl $32, %rbx\nhere: mov (%rbx), %al"),
    "write": (14, 2, "mov $5, %rbx\nshl $32, %rbx\nhere: mov %al, (%rbx)"),
    "x87": (16, None, "fninit\nfldcw mask(%rip)\nfldz\nfld1\nfdivp\nhere: fwait"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_points_at_the_instruction(name: str) -> None:
    vector, error_code, body = FAULTS[name]
    guest = run(f"{body}\ndie\nmask: .word 0x37b", f"{vector}, dump")
    found = frame(guest, error_code)
    assert found.rip == guest.label("here")
    assert (found.cs, found.ss) == (KERNEL_CS, KERNEL_DS)
    assert found.rsp == guest.label("stack")
    assert found.at % 16 == (8 if error_code is None else 0)
    if vector == 14:
        assert guest.engine.state.cr[2] == 5 << 32


USER_FAULTS: dict[str, tuple[int, int, str]] = {
    "read": (14, 5, "here: mov secret(%rip), %al"),
    "write": (14, 7, "here: mov %al, secret(%rip)"),
    "execute": (14, 0x15, "jmp closed"),
    "halt": (13, 0, "here: hlt"),
    "control": (13, 0, "here: mov %cr3, %rax"),
}


@pytest.mark.parametrize("name", USER_FAULTS)
def test_a_fault_of_a_user_program(name: str) -> None:
    """Supervisor page "secret", page without execution "closed": the last 2 MiB."""
    vector, error_code, body = USER_FAULTS[name]
    guest = run(
        f"""
    call open_pages
    mov $EFER, %ecx
    rdmsr
    or $0x800, %eax                  # NXE
    wrmsr
    mov %cr3, %rbx
    btrq $2, 0x2000+8*8(%rbx)        # 16 MiB is the supervisor's
    movq $0x87, 0x2000+8*9(%rbx)     # 18 MiB is this window, not executable
    btsq $63, 0x2000+8*9(%rbx)
    mov %rbx, %cr3
    enter_user user, {AC | 2:#x}
.set secret, 0x1000000
.set closed, 0x1200000
user:
    {body}
""",
        f"{vector}, dump",
    )
    found = frame(guest, error_code)
    assert found.rip == (0x120_0000 if name == "execute" else guest.label("here"))
    assert (found.cs, found.ss) == (USER_CS, USER_DS)
    assert found.rsp == guest.label("user_stack")
    assert found.rflags == AC | 2
    assert found.at == guest.label("stack") - 48
    assert guest.engine.state.cpl == 0
    assert guest.engine.state.segs[2].selector == 0


def test_flags_are_kept_in_the_frame_and_cleared_for_the_handler() -> None:
    flags = ARITHMETIC | IF | NT | AC | 0x402
    guest = run(f"pushq ${flags:#x}\npopfq\nud2", "6, dump")
    found = frame(guest)
    assert found.rflags == flags
    assert found.flags == flags & ~(IF | NT)


def test_a_trap_gate_leaves_interrupts_on() -> None:
    guest = run("sti\nud2", "6, dump, 0x8f")
    assert frame(guest).flags & IF


# -- software interrupts -----------------------------------------------------------

SOFTWARE = {
    "int3": (3, "int3", 1),
    "int 3": (3, ".byte 0xcd, 3", 2),
    "int 0x80": (0x80, "int $0x80", 2),
    "int 13, which would have an error code": (13, "int $13", 2),
    "int 14, which would have an error code": (14, "int $14", 2),
}


@pytest.mark.parametrize("name", SOFTWARE)
def test_int_n_returns_behind_itself(name: str) -> None:
    vector, code, length = SOFTWARE[name]
    guest = run(
        f"call open_pages\nenter_user user\nuser:\n{code}", f"{vector}, dump, 0xee"
    )
    found = frame(guest)
    assert found.rip == guest.label("user") + length
    assert found.cs == USER_CS
    assert guest.log.deliveries[0].error_code == 0


@pytest.mark.parametrize("name", ["int3", "int 3", "int 0x80"])
@pytest.mark.parametrize("attr", ["0x8e", "0xce", "0xae"])
def test_int_n_needs_the_gates_privilege(name: str, attr: str) -> None:
    vector, code, _ = SOFTWARE[name]
    guest = run(
        f"call open_pages\nenter_user user\nuser:\n{code}\nrefused: die",
        f"{vector}, refused, {attr}",
        "13, dump",
    )
    found = frame(guest, vector * 8 + 2)
    assert found.rip == guest.label("user")


def test_int_n_of_ring_0_needs_none() -> None:
    guest = run("here: int $0x80", "0x80, dump, 0x8e")
    assert frame(guest).rip == guest.label("here") + 2


def test_int_n_without_a_gate_is_a_fault_of_the_instruction() -> None:
    guest = run("here: int $0x81", "13, dump")
    assert frame(guest, 0x81 * 8 + 2).rip == guest.label("here")


def test_int_n_through_a_gate_that_is_not_present() -> None:
    guest = run("here: int $0x81", "0x81, dump, 0x0e", "11, dump")
    assert frame(guest, 0x81 * 8 + 2).rip == guest.label("here")


def test_int_n_through_a_gate_to_user_code_is_a_fault_of_the_instruction() -> None:
    guest = run(
        "movw $UCS, idt+16*0x81+2(%rip)\nhere: int $0x81", "0x81, dump", "13, dump"
    )
    assert frame(guest, USER_CS & ~3).rip == guest.label("here")


# -- stacks ------------------------------------------------------------------------


@pytest.mark.parametrize(("ist", "stack"), [(0, "stack"), (1, "stack1"), (2, "stack2")])
@pytest.mark.parametrize("user", [False, True])
def test_the_stack_is_the_gates_or_the_task_segments(
    ist: int, stack: str, user: bool
) -> None:
    enter = "call open_pages\nenter_user user\nuser:" if user else ""
    guest = run(f"{enter}\nud2", f"6, dump, 0x8e, {ist}")
    found = frame(guest)
    assert found.at == guest.label(stack) - 40
    assert found.rsp == guest.label("user_stack" if user else "stack")


def test_an_unaligned_stack_is_aligned_before_the_frame() -> None:
    guest = run("sub $3, %rsp\nud2", "6, dump")
    found = frame(guest)
    assert found.rsp == guest.label("stack") - 3
    assert found.at == guest.label("stack") - 16 - 40


def test_a_frame_may_cross_pages() -> None:
    guest = run("lea idt+16(%rip), %rsp\nud2", "6, dump")
    found = frame(guest)
    assert (found.at, found.rsp) == (
        guest.label("idt") - 24,
        guest.label("idt") + 16,
    )
    assert found.cs == KERNEL_CS


# -- faults while a fault is delivered ---------------------------------------------

UNMAP = """
    mov %cr3, %rbx
    movq $0, 0x2000+8*9(%rbx)        # 18 MiB is nowhere
    mov %rbx, %cr3
"""


def test_a_missing_gate_is_a_double_fault() -> None:
    guest = run("mov $0x78, %eax\nhere: mov %eax, %ds", "8, dump, 0x8e, 1")
    found = frame(guest, 0)
    assert found.rip == guest.label("here")
    assert [d.vector for d in guest.log.deliveries] == [8]


def test_no_stack_for_a_page_fault_is_a_double_fault() -> None:
    guest = run(
        UNMAP + "mov $0x1200100, %esp\nhere: push %rax", "14, dump", "8, dump, 0x8e, 2"
    )
    found = frame(guest, 0)
    assert found.rip == guest.label("here")
    assert found.rsp == 0x120_0100
    assert guest.engine.state.cr[2] == 0x120_0100 - 8
    assert found.at == guest.label("stack2") - 48


def test_no_stack_for_a_benign_exception_is_a_page_fault() -> None:
    guest = run(
        UNMAP + "mov $0x1200100, %esp\nhere: ud2", "6, dump", "14, dump, 0x8e, 1"
    )
    assert frame(guest, 2).rip == guest.label("here")
    assert guest.engine.state.cr[2] == 0x1200100 - 8


def test_a_stack_that_is_not_canonical_is_a_stack_fault() -> None:
    guest = run(
        "mov $1, %rsp\nshl $62, %rsp\nhere: ud2", "6, dump", "12, dump, 0x8e, 1"
    )
    assert frame(guest, 1).rip == guest.label("here")


def test_a_user_programs_benign_exception_without_a_gate_is_a_protection_fault() -> (
    None
):
    guest = run("here: ud2", "13, dump")
    assert frame(guest, 6 * 8 + 3).rip == guest.label("here")  # IDT, external


@pytest.mark.parametrize(
    ("body", "gates", "vectors"),
    [
        ("ud2", (), "0x6, 0xd, 0x8"),
        ("mov $0x78, %eax\nmov %eax, %ds", (), "0xd, 0x8"),
        ("mov $5, %rbx\nshl $32, %rbx\nmov (%rbx), %al", (), "0xe, 0x8"),
        ("lidt nothing(%rip)\nint3\nnothing: .word 0; .quad 0", (), "0x3, 0xd, 0x8"),
        (
            UNMAP + "mov $0x1200100, %esp\npush %rax",
            ("14, main", "8, main"),
            "0xe, 0x8",
        ),
    ],
)
def test_a_triple_fault_is_a_value(
    body: str, gates: tuple[str, ...], vectors: str
) -> None:
    lines = "\n".join(f"gate {gate}" for gate in gates)
    guest = Tiny(f"main:\n{lines}\n{body}")
    guest.finish()
    assert guest.condition is Condition.FAILED
    assert f"triple fault at {guest.engine.state.rip:#x}: " in guest.failure
    assert f"vectors {vectors}: " in guest.failure
    assert not guest.log.deliveries


# -- there and back ----------------------------------------------------------------

# A user program that has every register, flag and vector set, and counts on them.
EVERYTHING = """
main:
    gate 0x30, timer
    call open_pages
    enter_user user, 0x202
timer:
    movups %xmm7, kept(%rip)
    pcmpeqd %xmm7, %xmm7
    incl count(%rip)
    movups kept(%rip), %xmm7
    iretq
user:
    fninit
    fldpi
    fld1
    fldcw control(%rip)
    ldmxcsr status(%rip)
    .irp r, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
    mov $0x0123456789abcdef, %\\r
    .endr
    .irp n, 0, 1, 7, 8, 15
    movups vector(%rip), %xmm\\n
    .endr
    pushq $0xad7
    popfq
1:  nop
    jmp 1b
control: .word 0xf7f
status: .long 0x3f80
vector: .quad 0x1111111111111111, 0x2222222222222222
.data
kept: .quad 0, 0
count: .quad 0
"""


def test_an_interrupt_changes_nothing_of_a_program() -> None:
    """Two moments in the same loop, a hundred interrupts between them."""
    guest = Tiny(EVERYTHING.replace("0xad7", f"{ARITHMETIC | 2:#x}"))
    guest.connect(Line(0x30, *(100_000 + 1000 * n for n in range(100))))
    guest.run(90_000)
    before = _registers(guest)
    guest.run(300_000)
    assert guest.log.delivered == guest.window.word(guest.label("count")) == 100
    assert {d.cpl for d in guest.log.deliveries} == {3}
    assert _registers(guest) == before


def _registers(guest: Tiny) -> bytes:
    data = bytearray(Registers(guest.engine, 1).read_all())
    rip = amd64.BY_NAME["rip"]
    data[rip.offset : rip.offset + rip.size] = bytes(rip.size)
    return bytes(data)


def test_a_program_is_interrupted_and_goes_on_in_32_bit_code() -> None:
    guest = Tiny(
        f"""
main:
    gate 0x30, timer
    gate 0x80, call, 0xee
    call open_pages
    enter_user user, {IF | 2:#x}, CCS
timer:
    report 8(%rsp)
    iretq
call:
    report (%rsp)
    report 8(%rsp)
    report %eax
    die
.code32
user:
    mov $100000, %ecx
1:  dec %ecx
    jnz 1b
    mov $0x1234, %eax
here:
    int $0x80
.code64
"""
    )
    guest.connect(Line(0x30, 100_000))
    reports = guest.finish()
    assert reports == [COMPAT_CS, guest.label("here") + 2, COMPAT_CS, 0x1234]


# -- system calls ------------------------------------------------------------------

CALLS = """
    call open_pages
    mov $STAR, %ecx
    mov $0x00200010, %edx            # sysret: 0x20, syscall: 0x10
    xor %eax, %eax
    wrmsr
    wrmsr_label LSTAR, entry
    mov $FMASK, %ecx
    mov $0x40700, %eax               # AC DF IF TF
    xor %edx, %edx
    wrmsr
"""


def test_a_system_call_there_and_back() -> None:
    guest = Tiny(
        f"""
main:
{CALLS}
    enter_user user, {ARITHMETIC | IF | AC | 0x402:#x}
entry:
    mov %rsp, %r12                   # the user's
    lea stack(%rip), %rsp
    report %ecx
    report %r11d
    pushfq
    pop %rax
    report %eax
    mov %cs, %eax
    report %eax
    mov %ss, %eax
    report %eax
    mov %r12, %rsp
    cmp $7, %r13d
    je 1f
    mov $7, %r13d
    sysretq
1:  die
user:
    syscall
behind:
    pushfq
    pop %rax
    mov %cs, %ebx
    mov %ss, %ebp
    syscall
"""
    )
    reports = guest.finish()
    flags = ARITHMETIC | IF | AC | 0x402
    kernel = flags & ~(AC | 0x400 | IF | TF)
    assert reports[:5] == [guest.label("behind"), flags, kernel, KERNEL_CS, KERNEL_DS]
    regs = guest.engine.state.regs
    assert regs[3] == USER_CS
    assert regs[5] == USER_DS


@pytest.mark.parametrize(
    "off", ["off: mov $EFER, %ecx; rdmsr; btr $0, %eax; wrmsr", "compat: nop"]
)
def test_a_system_call_that_this_processor_has_not_is_undefined(off: str) -> None:
    """Without EFER.SCE, and from 32-bit code on an Intel processor."""
    kind, _, code = off.partition(":")
    guest = run(
        f"""{CALLS}
    {code.replace(";", chr(10))}
    enter_user user, 2, {"CCS" if kind == "compat" else "UCS"}
entry:
    die
user:
    syscall
""",
        "6, dump",
    )
    assert frame(guest).rip == guest.label("user")


# -- one instruction at a time -----------------------------------------------------


def test_a_trap_flag_traps_after_each_instruction() -> None:
    guest = run(
        f"""
    pushq ${TF | 2}
    popfq
    nop
first:
    nop
second:
    jmp third
    nop
third:
    die
trap:
    report (%rsp)
    mov %dr6, %rax
    report %eax
    decl left(%rip)
    jz dump
    iretq
left: .long 3
""",
        "1, trap",
    )
    places = [guest.label(n) for n in ("first", "second", "third")]
    assert guest.reports[::2] == places
    assert all(dr6 & 1 << 14 for dr6 in guest.reports[1::2])
    found = frame(guest)
    assert found.rflags & TF
    assert not found.flags & TF


# -- interrupts and the halt -------------------------------------------------------


def test_an_interrupt_waits_for_the_instruction_behind_sti() -> None:
    guest = Tiny(
        """
main:
    gate 0x30, timer
    mov $5000, %ecx
1:  dec %ecx
    jnz 1b
    sti
    hlt
halted:
    die
timer:
    report (%rsp)
    iretq
"""
    )
    guest.connect(Line(0x30, 1000))
    assert guest.finish() == [guest.label("halted")]


# -- handlers registered with the nanokernel ---------------------------------------


def test_a_registered_handler_is_called_like_a_gates() -> None:
    source = "call open_pages\nenter_user user\nuser:\nud2\n"
    by_gate = run(source, "6, dump")
    guest = Tiny(f"main:\n{source}\n{DUMP}")
    handler = Gate(guest.label("dump"), KERNEL_CS, trap=False, dpl=0, ist=0)
    guest.use_handlers({6: handler}.get, lambda: None)
    guest.finish()
    shift = by_gate.label("user") - guest.label("user")
    found, expected = frame(guest), frame(by_gate)
    assert found.rip == expected.rip - shift
    assert found[1:3] == expected[1:3]
    assert guest.log.deliveries[0].handler == handler.handler


def test_without_a_registered_handler_there_is_none() -> None:
    guest = Tiny("main:\ngate 6, dump\nud2\n" + DUMP)
    guest.use_handlers(lambda _: None, lambda: None)
    guest.finish()
    assert guest.condition is Condition.FAILED


def test_a_registered_system_call_takes_the_place_of_the_registers() -> None:
    guest = Tiny("main:\nsyscall\nentry:\nreport $3\ndie")
    entry = guest.label("entry")
    guest.use_handlers(lambda _: None, lambda: (entry, IF))
    assert guest.finish() == [3]
    assert guest.clock < MS
