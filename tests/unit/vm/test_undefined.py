# SPDX-License-Identifier: GPL-2.0-or-later
"""Every encoding with LOCK is #UD or executes, as binutils know which may have one."""

import ctypes
import subprocess
from dataclasses import dataclass
from functools import cache
from itertools import permutations, product
from pathlib import Path

import pytest

from nanokernel_vm.cpu import state as s
from nanokernel_vm.cpu.engine import Event
from tests.guests import Tiny

UD, GP = 6, 13
HLT = b"\xf4"  # also every displacement and immediate
SLOT = 32
CODE, DATA = 0x40_0000, 0x30_0000
FAR = (
    0x0B0B_0B0C  # so that DATA is at [rbp - 0x0b0b0b0c], HLT's bytes as a displacement
)
MEMORY = (0x03, 0x45, 0x85)  # ModRM: [rbx], [rbp + disp8], [rbp + disp32]
REGISTER = 0xC3
PREFIXES = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3}


@dataclass(frozen=True, slots=True)
class Mode:
    """Where code runs, for the processor and for binutils."""

    cpl: int
    bits: int

    def enter(self, state: s.State) -> None:
        state.hflags = state.hflags & ~s.HF_CPL | self.cpl
        if self.bits == 32:
            state.hflags = state.hflags & ~s.HF_CS64 | s.HF_CS32 | s.HF_SS32


MODES = (Mode(0, 64), Mode(3, 64), Mode(3, 32))


def _opcodes(bits: int) -> list[bytes]:
    rex = set(range(0x40, 0x50)) if bits == 64 else set()
    one = [bytes((op,)) for op in range(256) if op not in PREFIXES | rex | {0x0F}]
    return [
        *one,
        *(bytes((0x0F, op)) for op in range(256)),
        *(bytes((0x0F, m, op)) for m in (0x38, 0x3A) for op in range(256)),
    ]


@cache
def _cases(bits: int) -> list[bytes]:
    """Opcode, ModRM and bytes that end a run, whatever part of them is an operand."""
    forms = (*MEMORY, REGISTER)
    return [
        opcode + bytes((form | extension << 3,)) + HLT * 12
        for opcode, form, extension in product(_opcodes(bits), forms, range(8))
    ]


@cache
def _lockable(bits: int, folder: Path) -> list[bool]:
    """Whether the assembler takes "lock" before what the disassembler calls each."""
    cases = _cases(bits)
    binary, source = folder / "cases", folder / "cases.s"
    binary.write_bytes(b"".join(case.ljust(SLOT, HLT) for case in cases))
    machine = "i386:x86-64" if bits == 64 else "i386"
    listing = subprocess.run(
        ["objdump", "-D", "-w", "-b", "binary", "-m", machine, binary],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = {}
    for line in listing.splitlines():
        address, _, text = line.partition(":\t")
        if text and int(address, 16) % SLOT == 0:
            names[int(address, 16) // SLOT] = text.split("\t")[-1].partition("#")[0]
    source.write_text(
        "".join(
            "bad\n" if "(bad)" in names[n] else f"lock {names[n]}\n"
            for n in range(len(cases))
        )
    )
    errors = subprocess.run(
        ["as", f"--{bits}", "-o", "/dev/null", source], capture_output=True, text=True
    ).stderr
    wrong = {int(line.split(":")[1]) for line in errors.splitlines() if "Error" in line}
    return [n + 1 not in wrong for n in range(len(cases))]


class Processor:
    """A processor that runs single instructions, all memory open to ring 3."""

    def __init__(self, mode: Mode, codes: list[bytes]) -> None:
        self.guest = Tiny("main: call open_pages\ndie", size=16 << 20)
        self.guest.finish()
        self.codes = codes
        self.guest.window.write(CODE, b"".join(c.ljust(SLOT, HLT) for c in codes))
        state = self.guest.engine.state
        mode.enter(state)
        state.regs[s.RBX], state.regs[s.RBP] = DATA, DATA + FAR
        self._mode, self._start = mode, bytes(state)

    def is_undefined(self, number: int) -> bool:
        """Run one code; the state is then as before."""
        engine, state = self.guest.engine, self.guest.engine.state
        state.rip = CODE + number * SLOT
        engine.put_state()
        event = engine.run()
        undefined = event is Event.VECTOR and engine.ticker.vector == UD
        if undefined:
            assert state.rip == CODE + number * SLOT, self.codes[number].hex(" ")
        else:
            assert state.rip > CODE + number * SLOT, self.codes[number].hex(" ")
        ctypes.memmove(ctypes.addressof(state), self._start, len(self._start))
        return undefined


@pytest.mark.parametrize("mode", MODES, ids=lambda m: f"ring {m.cpl}, {m.bits} bits")
def test_lock_is_undefined_but_where_it_is_defined(mode: Mode, tmp_path: Path) -> None:
    cases, lockable = _cases(mode.bits), _lockable(mode.bits, tmp_path)
    assert sum(lockable) == (651 if mode.bits == 64 else 672)  # 82 /0 to /6
    processor = Processor(mode, [b"\xf0" + case for case in cases])
    wrong = [
        case.hex(" ")
        for number, (case, valid) in enumerate(zip(cases, lockable, strict=True))
        if processor.is_undefined(number) == valid
    ]
    assert wrong == []


@pytest.mark.parametrize("mode", MODES[:2], ids=lambda m: f"ring {m.cpl}")
@pytest.mark.parametrize(
    ("code", "undefined"),
    [("0f ab e3", True), ("0f ab 23", False), ("89 d8", True), ("01 03", False)],
    ids=["bts reg", "bts mem", "mov", "add mem"],
)
def test_lock_counts_wherever_it_stands(mode: Mode, code: str, undefined: bool) -> None:
    """Among any other prefixes, and any number of times."""
    others = (b"\xf0", b"\x66", b"\x3e", b"\xf2", b"\xf0", b"\x48")
    cases = [
        b"".join(order) + bytes.fromhex(code)
        for length in range(1, len(others) + 1)
        for order in permutations(others, length)
        if b"\xf0" in order
    ]
    processor = Processor(mode, cases)
    found = {processor.is_undefined(number) for number in range(len(cases))}
    assert found == {undefined}


def test_too_many_prefixes_are_a_general_protection_fault() -> None:
    """SDM vol. 3, 6.15, #GP: an instruction longer than 15 bytes, LOCK or not."""
    guest = Tiny("main: gate 13, h\n.skip 15, 0xf0\nmov %eax, %eax\nh: report $13\ndie")
    assert guest.finish() == [GP]
