# SPDX-License-Identifier: GPL-2.0-or-later
"""THE declarations: what a guest and the nanokernel must agree on.

Everything else that needs one of these numbers imports this module or is generated
from it.  A hypercall is ``outb %al, $0xe0`` in ring 0 with the function in rax and
arguments in rdi, rsi, rdx; the result replaces rax, and no other register changes.  A
negative result is an ``Error``.
"""

from enum import IntEnum
from typing import NamedTuple, Self

REVISION = 1  # counts incompatible changes; a guest refuses any other

PORT_HYPERCALL = 0xE0
PORT_RETURN = 0xE1  # told just before an IRET that rsp is at an extended frame
PORT_COM2 = 0x2F8  # the guest's only device with ports of its own

CPUID_SIGNATURE_LEAF = 0x4000_0000  # eax: highest leaf, then the signature
# eax: REVISION, ebx: 0, ecx: partition number, edx: kHz of the time stamp counter
CPUID_ABI_LEAF = 0x4000_0001
SIGNATURE = b"NanokernelVM"  # in ebx, ecx, edx

IRQ_LINES = 16
IRQ_VECTOR_BASE = 0x30  # line n arrives at vector 0x30 + n


class Documented(IntEnum):
    """Numbers that carry their documentation into whatever is generated."""

    text: str

    def __new__(cls, value: int, text: str = "") -> Self:
        """Make a member of a number and a sentence."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.text = text
        return member


class IrqLine(Documented):
    """Lines of the nanokernel's interrupt controller that are in use."""

    TIMER = 0, "edge: the deadline set by SET_TIMER has passed"
    COM2 = 3, "level: the UART at PORT_COM2"


class Error(Documented):
    """Results of a failed hypercall, with Linux's numbers."""

    EFAULT = -14, "an address is not mapped"
    EINVAL = -22, "an argument is out of range"
    ENOSYS = -38, "no such function"


class Hypercall(IntEnum):
    """Functions of the hypercall port.

    Each has the names of its arguments and what it does, with its errors at the end.
    The result is 0 where nothing else is said.
    """

    arguments: tuple[str, ...]
    text: str

    def __new__(cls, value: int, arguments: tuple[str, ...], text: str) -> Self:
        """Make a member of its number, its arguments and a description."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.arguments = arguments
        member.text = text
        return member

    SET_GATE = (
        *(1, ("vector", "handler", "gate word")),
        "Register the handler of vector 0 to 255. It is called as the CPU calls the "
        "handler of an IDT gate: same frame, same stack switch by TSS. After "
        "USE_FRAMES interrupt stacks serve #DF and what comes in the kernel only. "
        "EINVAL.",
    )
    SET_SYSCALL = (
        *(2, ("entry", "flags mask")),
        "Register the SYSCALL entry. It is entered as by SYSCALL: rcx and r11 hold the "
        "old rip and rflags, the mask's flags are cleared, rsp is the user's or, after "
        "USE_FRAMES, that of a frame on the stack of the TSS.",
    )
    MASK_IRQ = 3, ("line",), "Hold a line's interrupts back. EINVAL."
    UNMASK_IRQ = 4, ("line",), "Deliver a line's interrupts; all start masked. EINVAL."
    END_IRQ = (
        *(5, ("line",)),
        "End the line's interrupt in service; it delivers no other before. EINVAL.",
    )
    SET_TIMER = (
        *(6, ("nanoseconds",)),
        "Interrupt on line TIMER once after this time instead of the time set before; "
        "0: not at all.",
    )
    READ_CLOCK = 7, (), "Return the nanoseconds since the machine was switched on."
    READ_WALL_CLOCK = 8, (), "Return the nanoseconds since 1970-01-01 UTC."
    SHUT_DOWN = 9, (), "End this partition for good; does not return."
    RESTART = 10, (), "Boot this partition anew; does not return."
    REPORT_PANIC = (
        *(11, ("address", "length")),
        "Record the text at a virtual address, of at most 4096 bytes, as the reason "
        "why this partition fails. The partition goes on. EINVAL, EFAULT.",
    )
    USE_FRAMES = (
        *(12, ("frame revision", "stack size")),
        "Build extended frames from now on, and be told of each return at PORT_RETURN. "
        "Stacks are aligned to their size, a power of two. EINVAL.",
    )


class BitField(NamedTuple):
    """Some bits of a word, counted from the least significant."""

    shift: int
    width: int
    text: str

    @property
    def mask(self) -> int:
        """The field's bits in place."""
        return ((1 << self.width) - 1) << self.shift

    def of(self, word: int) -> int:
        """Return the field's value in a word."""
        return (word & self.mask) >> self.shift


# The gate word of SET_GATE: those parts of an IDT gate that are not the handler.
GATE_TYPE = BitField(0, 4, "0xe: interrupts are off on entry, 0xf: left as they are")
GATE_DPL = BitField(4, 2, "least privileged ring that may INT here")
GATE_IST = BitField(8, 3, "stack of the TSS's interrupt stack table, 0: none")
GATE_WORD = {"TYPE": GATE_TYPE, "DPL": GATE_DPL, "IST": GATE_IST}
