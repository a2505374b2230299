# SPDX-License-Identifier: GPL-2.0-or-later
"""THE extended interrupt frame: what follows ss, and how it is read.

The nanokernel calls a guest's handlers by software and puts six words of its own above
the five that IRET takes; with them ``struct pt_regs`` ends.  In memory, upwards::

    ip | cs | flags | sp | ss | identity | built_at | sequence | time | hardware | check
    ^ the frame's address

Linux moves frames: fork copies one to the child's stack, exec, signals and ptrace
rewrite one in place.  The words tell which, by ``classify``, from the frame alone.

The check is a mix of the words without a secret, so that a debugger can verify it on a
live machine and in a dump alike.  It is there against accidents: a guest kernel owns
its stack and could forge it, as it could forge the frame.  Each step of ``mix`` maps
values one to one, so a change of any single word always changes the result.

Standard library only: ``gdb_scripts/nk/abi.py`` holds this file's text.
"""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

FRAME_MAGIC = 0x7266_4B4E  # "NKfr" in memory
FRAME_REVISION = 1
SYSCALL_VECTOR = 0x100  # in the identity of a frame built for SYSCALL

WORD = 8  # bytes
PT_REGS_IP = 128  # offsetof(struct pt_regs, ip), Linux 6.1

_WORD_MASK = (1 << 64) - 1
_SEED, _FACTOR = 0x6E61_6E6F_6B65_726E, 0x9E37_79B9_7F4A_7C15  # the factor is odd


class Hardware(NamedTuple):
    """What IRET takes, in memory order from the frame's address on."""

    ip: int
    cs: int
    flags: int
    sp: int
    ss: int


class Words(NamedTuple):
    """The nanokernel's words, in memory order above ss."""

    identity: int
    built_at: int
    sequence: int
    time: int
    hardware: int
    check: int

    @property
    def magic(self) -> int:
        """FRAME_MAGIC, or the words are not the nanokernel's."""
        return self.identity & 0xFFFF_FFFF

    @property
    def revision(self) -> int:
        """FRAME_REVISION of the nanokernel that built it."""
        return self.identity >> 32 & 0xFFFF

    @property
    def vector(self) -> int:
        """What was entered: 0 to 255, or SYSCALL_VECTOR."""
        return self.identity >> 48


WORD_TEXTS = {
    "identity": "bits 0-31: magic, 32-47: revision, 48-63: vector",
    "built_at": "virtual address of ip when the frame was built",
    "sequence": "number of the frame, from 1 on, in the order of building",
    "time": "virtual nanoseconds since the machine was switched on",
    "hardware": "mix of ip, cs, flags, sp, ss as they were built",
    "check": "mix of the words before it",
}

HARDWARE_SIZE = WORD * len(Hardware._fields)
WORDS_SIZE = WORD * len(Words._fields)
FRAME_SIZE = HARDWARE_SIZE + WORDS_SIZE
PT_REGS_SIZE = PT_REGS_IP + FRAME_SIZE
# Bytes from the frame's address, that of ip; add PT_REGS_IP for those in pt_regs
WORD_OFFSETS = Words(*range(HARDWARE_SIZE, FRAME_SIZE, WORD))


class Class(Enum):
    """What a returning frame is."""

    SAME = "same"
    REWRITTEN = "rewritten"
    COPY = "copy"
    MOVED = "moved"
    UNBORN = "unborn"
    CORRUPT = "corrupt"
    REPLAYED = "replayed"


CLASS_TEXTS = {
    Class.SAME: "as it was built, where it was built",
    Class.REWRITTEN: "where it was built, with another target: exec, signal, ptrace",
    Class.COPY: "on another stack than it was built on: the child of a fork",
    Class.MOVED: "elsewhere on the stack it was built on: an INT3 in the kernel",
    Class.UNBORN: "made by Linux, all words zero: a kernel thread's first exec",
    Class.CORRUPT: "magic, revision or check is wrong",
    Class.REPLAYED: "returned before, or given up; only the nanokernel can tell",
}


def mix(words: Iterable[int]) -> int:
    """Return 64 bits that change whenever one of ``words`` does."""
    mixed = _SEED
    for word in words:
        mixed = (mixed ^ word) * _FACTOR & _WORD_MASK
        mixed ^= mixed >> 32
    return mixed


def new_words(
    vector: int, built_at: int, sequence: int, time: int, hardware: Sequence[int]
) -> Words:
    """Return the words of a new frame."""
    identity = FRAME_MAGIC | FRAME_REVISION << 32 | vector << 48
    checked = (identity, built_at, sequence, time, mix(hardware))
    return Words(*checked, mix(checked))


def defects(words: Words) -> list[str]:
    """Return what is wrong with the words, with what was expected and what found."""
    wrong = []
    if words.magic != FRAME_MAGIC:
        wrong.append(f"magic: expected {FRAME_MAGIC:#x}, found {words.magic:#x}")
    if words.revision != FRAME_REVISION:
        wrong.append(f"revision: expected {FRAME_REVISION}, found {words.revision}")
    expected = mix(words[:-1])
    if words.check != expected:
        wrong.append(f"check: expected {expected:#x}, found {words.check:#x}")
    return wrong


def classify(address: int, hardware: Sequence[int], words: Words, stack: int) -> Class:
    """Say what a frame is, from the frame alone; never REPLAYED.

    Args:
        address: Virtual address of ip.
        hardware: The five words there.
        words: The six after them.
        stack: Size of the guest's stacks in bytes, a power of two: they are aligned
            to it.
    """
    if words.built_at == address and not defects(words):
        return Class.SAME if mix(hardware) == words.hardware else Class.REWRITTEN
    if not any(words):
        return Class.UNBORN
    if defects(words):
        return Class.CORRUPT
    return Class.COPY if (words.built_at ^ address) & -stack else Class.MOVED
