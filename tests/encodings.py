# SPDX-License-Identifier: GPL-2.0-or-later
"""Single instructions: what a processor does with each, and what binutils say of it."""

import ctypes
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from nanokernel_vm.cpu import state as s
from nanokernel_vm.cpu.engine import Event
from tests.guests import Tiny

HLT = b"\xf4"
SLOT = 32
CODE, DATA, STACK = 0x40_0000, 0x30_0000, 0x38_0000
OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE = 1 << 9, 1 << 10, 1 << 16, 1 << 18


@dataclass(frozen=True, slots=True)
class Mode:
    """Where code runs, for the processor and for binutils."""

    cpl: int
    bits: int

    def __str__(self) -> str:
        return f"ring {self.cpl}, {self.bits} bits"

    def enter(self, state: s.State) -> None:
        state.hflags = state.hflags & ~s.HF_CPL | self.cpl
        if self.bits == 32:
            state.hflags = state.hflags & ~s.HF_CS64 | s.HF_CS32 | s.HF_SS32


MODES = (Mode(0, 64), Mode(3, 64), Mode(3, 32))

_CR4 = OSFXSR | OSXMMEXCPT | FSGSBASE | OSXSAVE


class Processor:
    """Runs one instruction at a time; all memory is open to ring 3.

    RAX points to memory, RCX is 0; SYSCALL is enabled, SYSENTER has a segment.
    """

    def __init__(
        self, mode: Mode, codes: Sequence[bytes], displacement: int = 0
    ) -> None:
        source = f"main: call open_pages\nmov ${_CR4 | 0x20}, %eax\nmov %rax, %cr4\ndie"
        self.guest = Tiny(source, size=32 << 20)
        self.guest.finish()
        self.guest.window.write(CODE, b"".join(c.ljust(SLOT, HLT) for c in codes))
        state = self.guest.engine.state
        mode.enter(state)
        state.efer |= s.SCE
        state.sysenter_cs = 0x10
        state.regs[:] = [DATA + displacement] * 16
        state.regs[s.RCX], state.regs[s.RSP] = 0, STACK
        self._start, self._cr = bytes(state), state.cr[:]

    def run(self, number: int) -> int | None:
        """The exception that a code ends with before it has done anything."""
        engine, state = self.guest.engine, self.guest.engine.state
        ctypes.memmove(ctypes.addressof(state), self._start, len(self._start))
        state.rip = CODE + number * SLOT
        engine.put_state()
        engine.ticker.pause = engine.ticker.clock + SLOT
        event = engine.run()
        if state.cr[:] != self._cr:
            engine.flush_tlb()
        if event is not Event.VECTOR or state.is_software:
            return None
        return engine.ticker.vector if state.rip == CODE + number * SLOT else None


_DATA_LABEL = """
.balign 32, 0xf4
mxcsr: .long 0x1f80
"""


def listing(instructions: Sequence[str]) -> str:
    """Assembly that gives each its slot."""
    return "".join(f"{text}\n.balign {SLOT}, 0xf4\n" for text in instructions)


def encode(instructions: Sequence[str]) -> list[bytes]:
    """Assemble each by itself, in 64-bit mode."""
    body = listing(instructions)
    with tempfile.TemporaryDirectory() as folder:
        made, binary = Path(folder, "made.o"), Path(folder, "binary")
        subprocess.run(
            ["as", "--64", "-o", made], input=body + _DATA_LABEL, text=True, check=True
        )
        subprocess.run(["objcopy", "-O", "binary", made, binary], check=True)
        raw = binary.read_bytes()
    return [raw[SLOT * n : SLOT * (n + 1)] for n in range(len(instructions))]


class Verdict(Enum):
    """What binutils say of an encoding."""

    KNOWN = "an instruction of a processor with these features"
    UNKNOWN = "an instruction of other processors"
    RESERVED = "none"
    PREFIXED = "an instruction with a prefix that it ignores, or more"


def disassemble(codes: Sequence[bytes], bits: int) -> list[str]:
    """What objdump calls each."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(code.ljust(SLOT, b"\x90") for code in codes))
        file.flush()
        machine = "i386:x86-64" if bits == 64 else "i386"
        listing = subprocess.run(
            [
                *("objdump", "-D", "-w", "-z", "-b", "binary", "-m", machine),
                *("-M", "suffix", file.name),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    names = {}
    for line in listing.splitlines():
        address, _, text = line.partition(":\t")
        if text and int(address, 16) % SLOT == 0:
            names[int(address, 16) // SLOT] = text.split("\t", 1)[-1].partition("#")[0]
    return [names[n].strip() for n in range(len(codes))]


def assemble(names: Iterable[str], bits: int, march: str) -> dict[str, str]:
    """What the assembler says against each, if anything."""
    ordered = sorted(set(names))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source.s")
        source.write_text("\n".join(ordered) + "\n")
        errors = subprocess.run(
            ["as", f"--{bits}", f"-march={march}", "-o", "/dev/null", source],
            capture_output=True,
            text=True,
        ).stderr
    found = re.findall(r"source\.s:(\d+): Error: (.*)", errors)
    assert found or not errors, errors
    return {ordered[int(line) - 1]: error for line, error in found}


def judge(codes: Sequence[bytes], bits: int, march: str) -> list[tuple[str, Verdict]]:
    """What binutils call each, and say of it."""
    names = disassemble(codes, bits)
    errors = assemble((n for n in names if "(bad)" not in n), bits, march)
    return [(name, _verdict(name, errors.get(name))) for name in names]


def _verdict(name: str, error: str | None) -> Verdict:
    if "(bad)" in name:
        return Verdict.RESERVED
    if error is None:
        return Verdict.KNOWN
    return Verdict.UNKNOWN if "is not supported on" in error else Verdict.PREFIXED
