# SPDX-License-Identifier: GPL-2.0-or-later
"""Tiny guests: assembly made into a real kernel file, booted on a real partition.

A guest is entered as Linux is (linux/boot.py): ring 0, 64-bit mode, the first 4 GiB
mapped onto themselves by supervisor pages of 2 MiB.  It is linked for 1 MiB and moved
up by its window's base, so it must address what is its own relative to rip.  The
prelude gives it a stack and segments, a TSS, an empty IDT, and macros.  What it finds
out it reports by OUT; ``cli; hlt`` ends it.
"""

import io
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from nanokernel_vm.config import parse
from nanokernel_vm.linux.boot import BootFiles, boot
from nanokernel_vm.machine import Machine
from nanokernel_vm.memory import Ram, Window
from nanokernel_vm.partition import Outcome, Partition

LINKED = 0x10_0000
WINDOW = 2 << 20
REPORT = 0xF4  # the port that reports go to
MS = 400_000

KERNEL_CS, KERNEL_DS = 0x10, 0x18
COMPAT_CS, USER_DS, USER_CS = 0x23, 0x2B, 0x33

_LINK = ("-N", "--no-warn-rwx-segments", f"-Ttext={LINKED:#x}")

_PRELUDE = """
.set KCS, 0x10; .set KDS, 0x18; .set CCS, 0x23; .set UDS, 0x2b; .set UCS, 0x33
.set TSS, 0x38; .set REPORT, 0xf4; .set EFER, 0xc0000080
.set STAR, 0xc0000081; .set LSTAR, 0xc0000082; .set FMASK, 0xc0000084

# Report a 32-bit value; changes nothing else.
.macro report value
    mov %rax, kept_rax(%rip)
    mov \\value, %eax
    out %eax, $REPORT
    mov kept_rax(%rip), %rax
.endm

.macro die
    cli
    hlt
.endm

# Fill an IDT gate; attr 0x8e: interrupt, 0x8f: trap, 0xee: for INT n of ring 3.
.macro gate vector, handler, attr=0x8e, ist=0
    lea \\handler(%rip), %rax
    lea idt+16*\\vector(%rip), %rbx
    mov %ax, (%rbx)
    movw $KCS, 2(%rbx)
    movb $\\ist, 4(%rbx)
    movb $\\attr, 5(%rbx)
    shr $16, %rax
    mov %ax, 6(%rbx)
    shr $16, %rax
    mov %eax, 8(%rbx)
.endm

# Continue at a label in ring 3, on the user stack.
.macro enter_user label, flags=0x2, cs=UCS
    pushq $UDS
    lea user_stack(%rip), %rax
    push %rax
    pushq $\\flags
    pushq $\\cs
    lea \\label(%rip), %rax
    push %rax
    iretq
.endm

.macro wrmsr_label msr, label
    mov $\\msr, %ecx
    lea \\label(%rip), %rax
    xor %edx, %edx
    wrmsr
.endm

.text
.globl _start
_start:
    cld
    lea stack(%rip), %rsp
    mov %cr4, %rax
    or $0x600, %eax         # OSFXSR, OSXMMEXCPT: SSE
    mov %rax, %cr4
    lea gdt(%rip), %rax
    mov %rax, gdt_pointer+2(%rip)
    lgdt gdt_pointer(%rip)
    lea idt(%rip), %rax
    mov %rax, idt_pointer+2(%rip)
    lidt idt_pointer(%rip)
    lea stack(%rip), %rax
    mov %rax, tss+4(%rip)
    lea stack1(%rip), %rax
    mov %rax, tss+36(%rip)
    lea stack2(%rip), %rax
    mov %rax, tss+44(%rip)
    lea tss(%rip), %rax
    mov %ax, gdt+TSS+2(%rip)
    shr $16, %rax
    mov %al, gdt+TSS+4(%rip)
    mov %ah, gdt+TSS+7(%rip)
    mov $TSS, %ax
    ltr %ax
    mov $KDS, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    pushq $KCS
    lea main(%rip), %rax
    push %rax
    lretq

# Open all pages to ring 3.
open_pages:
    mov %cr3, %rbx
    orb $4, (%rbx)
    mov $4*512+512, %ecx
1:  orb $4, 0x1000-8(%rbx,%rcx,8)
    loop 1b
    mov %rbx, %cr3
    ret

.data
.balign 16
gdt:
    .quad 0, 0
    .quad 0x00af9b000000ffff, 0x00cf93000000ffff
    .quad 0x00cffb000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff
    .quad 0x0000890000000067, 0
gdt_pointer:
    .word . - gdt - 1
    .quad 0
idt_pointer:
    .word 4095
    .quad 0
.balign 16
tss:
    .skip 102
    .word 104               # no ports for ring 3
kept_rax: .quad 0
.balign 4096
idt:
    .skip 4096
    .skip 4096
stack:
    .skip 4096
stack1:
    .skip 4096
stack2:
    .skip 4096
user_stack:
.balign 4096
.text
"""

# The beginning of a guest: the first 512 GiB again, one PML4 entry higher and not
# executable, as in a direct map; rdi points at `code` there.
ALIAS = """
.set ALIAS, 1 << 39
main:
    mov $EFER, %ecx
    rdmsr
    bts $11, %eax
    wrmsr
    mov %cr3, %rax
    mov (%rax), %rbx
    bts $63, %rbx
    mov %rbx, 8(%rax)
    mov %rax, %cr3
    movabs $ALIAS, %rbx
    lea code(%rip), %rdi
    add %rbx, %rdi
"""


@cache
def link(source: str) -> bytes:
    """Assemble and link ``source``, which defines ``main``, behind the prelude."""
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        subprocess.run(
            ["as", "--64", "-o", where / "guest.o"],
            input=_PRELUDE + source + "\n",
            text=True,
            check=True,
        )
        subprocess.run(
            ["ld", *_LINK, "-o", where / "guest", where / "guest.o"], check=True
        )
        return (where / "guest").read_bytes()


@cache
def symbols(source: str) -> dict[str, int]:
    """Link addresses of the labels of ``source``."""
    table = ELFFile(io.BytesIO(link(source))).get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    return {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}


class Reports:
    """A port space that keeps what is written and answers reads by the clock.

    Attributes:
        writes: Port, value, and the clock inside the access.
        actions: What a write to a port does.
    """

    def __init__(self) -> None:
        self.actions: dict[int, Callable[[], None]] = {}
        self.writes: list[tuple[int, int, int]] = []
        self.partition: Partition | None = None

    def read(self, port: int, size: int) -> int:
        """Answer with the low bits of the clock."""
        assert self.partition is not None
        return self.partition.now() & (1 << 8 * size) - 1

    def write(self, port: int, size: int, value: int) -> None:
        """Keep it."""
        assert self.partition is not None
        self.writes.append((port, value, self.partition.now()))
        self.actions.get(port, lambda: None)()


class Line:
    """A controller with one interrupt, and a timer with any number of deadlines."""

    def __init__(self, vector: int, *times: int) -> None:
        self.vector, self.output = vector, False
        self.times = list(times)
        self.expired: list[int] = []
        self.raised: Callable[[], None] = lambda: None

    def acknowledge(self) -> int:
        """Take the interrupt."""
        self.output = False
        return self.vector

    def deadline(self) -> int | None:
        """When the next interrupt comes."""
        return self.times[0] if self.times else None

    def expire(self, now: int) -> None:
        """Raise it."""
        self.times.pop(0)
        self.expired.append(now)
        self.output = True
        self.raised()


class Tiny(Partition):
    """A partition that has booted ``source``, with reports for a port space."""

    def __init__(self, source: str, base: int = 0, size: int = WINDOW) -> None:
        self.source, self.ports = source, Reports()
        super().__init__(1, "tiny", Window(Ram(base + size), base, size), self.ports)
        self.ports.partition = self
        with tempfile.NamedTemporaryFile() as file:
            file.write(link(source))
            file.flush()
            boot(BootFiles(Path(file.name), None, ""), self.window, self.engine.state)
        self.engine.put_state()

    def connect(self, line: Line) -> None:
        """Give it an interrupt controller that is its timer, too."""
        self.controller, self.timed = line, (line,)
        line.raised = self.reschedule

    def label(self, name: str) -> int:
        """Where a label is, in the partition's memory."""
        return symbols(self.source)[name] + self.window.base

    def finish(self, until: int = 10_000 * MS) -> list[int]:
        """Run to the end of the guest; its reports."""
        outcome = self.run(until)
        assert outcome is Outcome.DEAD, (outcome, hex(self.engine.state.rip))
        return self.reports

    @property
    def reports(self) -> list[int]:
        """What it has reported up to now."""
        return [value for port, value, _ in self.ports.writes if port == REPORT]


_PARTITION = """
[partition.{name}]
pid = {pid}
base = {base:#x}
size = {size:#x}
kernel = "{name}"
device = [{{ chip = "uart", port = {port:#x}, irq = {irq} }}{more}]
{keys}
"""
_PC = ', { chip = "pic" }, { chip = "pit" }'


def pair(
    folder: Path,
    host: str,
    guest: str,
    warp: bool = True,
    quantum: int = 4,
    chips: str = "",
    keys: tuple[str, str] = ("", ""),
) -> Machine:
    """Describe a machine of two programs, host below with a PC's chips; build it.

    Args:
        chips: More of the host's.
        keys: More lines for the table of each.
    """
    (folder / "host").write_bytes(link(host))
    (folder / "guest").write_bytes(link(guest))
    rows = (("host", 1, 0, 0x3F8, 4, _PC + chips), ("guest", 2, WINDOW, 0x2F8, 3, ""))
    text = f"[machine]\nquantum_ms = {quantum}\n" + "".join(
        _PARTITION.format(
            name=name,
            pid=pid,
            base=base,
            size=WINDOW,
            port=port,
            irq=irq,
            more=more,
            keys=lines,
        )
        for (name, pid, base, port, irq, more), lines in zip(rows, keys, strict=True)
    )
    return Machine(parse(text, folder / "machine.toml"), warp=warp)
