# SPDX-License-Identifier: GPL-2.0-or-later
"""The g packet's registers are the processor's."""

import struct

import pytest

from nanokernel_vm.cpu.registers import Registers
from stub import amd64
from stub.errors import TargetError
from tests.guests import KERNEL_CS, KERNEL_DS, Tiny

SETUP = """
main:
    fninit
    fld1
    fldpi
    .irp n, 0, 1, 15
    movups vector(%rip), %xmm\\n
    .endr
    .irp r, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
    lea \\r\\()_value(%rip), %\\r
    .endr
    push $0x246
    popfq
    cli
here:
    hlt
vector: .quad 0x1111111111111111, 0x2222222222222222
.irp r, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
\\r\\()_value: .byte 0
.endr
"""


@pytest.fixture
def guest() -> Tiny:
    guest = Tiny(SETUP)
    guest.finish()
    return guest


@pytest.fixture
def registers(guest: Tiny) -> Registers:
    return Registers(guest.engine, part=7)


def value(registers: Registers, name: str) -> int:
    return int.from_bytes(registers.read(amd64.BY_NAME[name].number), "little")


def put(registers: Registers, name: str, number: int) -> None:
    register = amd64.BY_NAME[name]
    registers.write(register.number, number.to_bytes(register.size, "little"))


def test_all_are_as_the_program_left_them(guest: Tiny, registers: Registers) -> None:
    for name in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r15"):
        assert value(registers, name) == guest.label(f"{name}_value")
    assert value(registers, "rip") == guest.label("here") + 1
    assert value(registers, "rsp") == guest.label("stack")
    assert value(registers, "eflags") == 0x46
    assert value(registers, "cs") == KERNEL_CS
    assert value(registers, "ss") == KERNEL_DS
    assert value(registers, "xmm15") == 0x2222222222222222_1111111111111111
    assert value(registers, "xmm2") == 0
    assert value(registers, "st0") == 0x4000_C90FDAA22168C235
    assert value(registers, "st1") == 0x3FFF_8000000000000000
    assert value(registers, "fctrl") == 0x37F
    assert value(registers, "mxcsr") == 0x1F80
    assert value(registers, "cr3") == 0x2000
    assert value(registers, "idtr_base") == guest.label("idt")
    assert value(registers, "gdtr_base") == guest.label("gdt")
    assert value(registers, "tr_base") == guest.label("tss")
    assert value(registers, "part") == 7


def test_one_by_one_they_are_what_they_are_together(registers: Registers) -> None:
    whole = registers.read_all()
    assert len(whole) == amd64.SIZE
    pieces = [registers.read(r.number) for r in amd64.REGISTERS]
    assert b"".join(pieces) == whole


def test_reading_changes_nothing(guest: Tiny, registers: Registers) -> None:
    before = bytes(guest.engine.state), guest.window.digest(), guest.clock
    registers.read_all()
    assert (bytes(guest.engine.state), guest.window.digest(), guest.clock) == before


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("rax", 0xFEDC_BA98_7654_3210),
        ("rsp", 0x1_8000),
        ("r15", 15),
        ("rip", 0x10_1234),
        ("eflags", 0x8D7),
        ("xmm0", 0x1234_5678_9ABC_DEF0_1234_5678_9ABC_DEF0),
        ("xmm15", 1),
        ("st0", 0x3FFF_8000_0000_0000_0000),
        ("fctrl", 0x27F),
        ("mxcsr", 0x1FA0),
        ("fs_base", 0x7000),
        ("gs_base", 0xFFFF_8880_0000_0000),
        ("k_gs_base", 0x1234),
        ("cr2", 0x1234),
    ],
)
def test_a_register_is_set_and_the_others_are_not(
    guest: Tiny, registers: Registers, name: str, number: int
) -> None:
    register = amd64.BY_NAME[name]
    before = bytearray(registers.read_all())
    put(registers, name, number)
    assert value(registers, name) == number
    piece = number.to_bytes(register.size, "little")
    before[register.offset : register.offset + register.size] = piece
    assert registers.read_all() == bytes(before)


def test_what_is_set_is_what_the_program_goes_on_with(guest: Tiny) -> None:
    guest = Tiny("main:\nint3\nhere: report %ebx\nreport 0x15000\ndie")
    guest.engine.insert_breakpoint(guest.label("main"))
    guest.engine.prepare(stepping=False)
    guest.run(1_000_000)
    registers = Registers(guest.engine, 1)
    put(registers, "rip", guest.label("here"))
    put(registers, "rbx", 99)
    guest.window.write(0x15000, struct.pack("<I", 98))
    assert guest.finish() == [99, 98]


@pytest.mark.parametrize("name", ["cs", "cr0", "cr3", "efer", "idtr_base", "part"])
def test_a_fixed_register_may_be_given_its_own_value_only(
    registers: Registers, name: str
) -> None:
    put(registers, name, value(registers, name))
    with pytest.raises(TargetError, match=f"\\${name} cannot be set"):
        put(registers, name, value(registers, name) ^ 8)


def test_a_packet_of_all_sets_all(guest: Tiny, registers: Registers) -> None:
    data = bytearray(registers.read_all())
    data[0:8] = bytes(range(8))
    registers.write_all(bytes(data))
    assert registers.read_all() == bytes(data)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("cr0", "translated"),
        ("cr3", "TLB"),
        ("cs", "descriptor"),
        ("gdtr_base", "only its code"),
        ("part", "partition's number"),
    ],
)
def test_a_packet_with_one_that_cannot_be_set_changes_none(
    registers: Registers, name: str, why: str
) -> None:
    before = registers.read_all()
    data = bytearray(before)
    for changed in ("rax", "rip", "eflags", "xmm0", "st0", name):
        data[amd64.BY_NAME[changed].offset] ^= 1
    with pytest.raises(TargetError, match=rf"\${name} cannot be set: .*{why}"):
        registers.write_all(bytes(data))
    assert registers.read_all() == before


@pytest.mark.parametrize("number", [-1, len(amd64.REGISTERS), 10_000])
def test_there_is_no_such_register(registers: Registers, number: int) -> None:
    with pytest.raises(TargetError, match="there is no register"):
        registers.read(number)


def test_a_value_has_the_registers_size(registers: Registers) -> None:
    with pytest.raises(TargetError, match="has 8 bytes"):
        registers.write(0, bytes(4))


@pytest.mark.parametrize("name", ["cs", "fs", "ss"])
def test_all_at_once_is_all_or_nothing(registers: Registers, name: str) -> None:
    before = registers.read_all()
    changed = bytearray(before)
    for other in ("rax", "rip", "mxcsr", "st0", name):
        register = amd64.BY_NAME[other]
        changed[register.offset] ^= 1
    with pytest.raises(TargetError, match=f"\\${name} cannot be set: "):
        registers.write_all(bytes(changed))
    assert registers.read_all() == before
    registers.write_all(before)
    assert registers.read_all() == before
