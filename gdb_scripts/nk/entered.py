# SPDX-License-Identifier: GPL-2.0-or-later
"""What a frame of the processor's on the kernel's stack says of how it came about."""

from collections.abc import Iterator
from struct import unpack
from typing import Any, NamedTuple

from nk import abi
from nk.orc import Read

EXCEPTIONS = {
    0: "divide error", 1: "debug exception", 2: "NMI", 3: "breakpoint", 4: "overflow",
    5: "bound range exception", 6: "invalid opcode", 7: "device not available",
    8: "double fault", 10: "invalid TSS", 11: "segment not present",
    12: "stack segment fault", 13: "general protection fault", 14: "page fault",
    16: "x87 error", 17: "alignment check", 18: "machine check", 19: "SIMD error",
    21: "control protection fault",
}  # fmt: skip
_LINES = {"TIMER": "timer"}  # the others' names are names
_STUBS = ("asm_exc_", "asm_sysvec_", "asm_")

_HARDWARE_TEXTS = {"ip": "where it goes on", "cs": "the ring in bits 0-1"}

_CHANGED = {
    abi.Class.SAME: "",
    abi.Class.REWRITTEN: "rewritten by exec, signal or ptrace, ",
    abi.Class.COPY: "copied by fork from ",
    abi.Class.MOVED: "moved from ",
}


class Entered(NamedTuple):
    """One entry into the kernel.

    Attributes:
        address: Virtual address of the word that holds ip.
        orig_ax: The word below: a system call's number or an error code, or -1.
        words: The nanokernel's, in a guest that asked for them.
        delivered: The row of ``monitor irqlog`` that fits, with its vector.
        stub: The name of the code entered, or where it has come to.
    """

    address: int
    orig_ax: int
    hardware: abi.Hardware
    words: abi.Words | None
    delivered: dict[str, Any] | None = None
    stub: str = ""

    @property
    def user(self) -> bool:
        """Whether user space was entered from."""
        return self.hardware.cs & 3 == 3

    @property
    def vector(self) -> int | None:
        """What was entered, as far as anybody knows."""
        if self.words and not abi.defects(self.words):
            return self.words.vector
        if self.delivered:
            return int(self.delivered["vector"])
        syscall = self.user and "SYSCALL" in self.stub
        return abi.SYSCALL_VECTOR if syscall or 0 <= self.orig_ax < 1024 else None


def read_entered(read: Read, address: int, extended: bool) -> Entered:
    """Read a frame from its address on; raises what ``read`` does."""
    (orig_ax,) = unpack("<q", read(address - 8, 8))
    hardware = abi.Hardware(*unpack("<5Q", read(address, abi.HARDWARE_SIZE)))
    words = None
    if extended:
        raw = read(address + abi.HARDWARE_SIZE, abi.WORDS_SIZE)
        words = abi.Words(*unpack("<6Q", raw))
    return Entered(address, orig_ax, hardware, words)


def fitting(rows: list[dict[str, Any]], entered: Entered) -> dict[str, Any] | None:
    """The last delivery that came from where the frame goes back to, if any."""
    ip, cpl = entered.hardware.ip, entered.hardware.cs & 3
    fits = (row for row in reversed(rows) if (row["rip"], row["cpl"]) == (ip, cpl))
    return next(fits, None)


def summary(entered: Entered, syscall: str, task: str, stack: int) -> str:
    """The frame in one line, for a backtrace.

    Args:
        entered: The frame.
        syscall: The name of its system call, if it is one.
        task: Who runs, for instance ``pid 61 (sh)``.
        stack: Size of the kernel's stacks in bytes.
    """
    origin = f"from {'user' if entered.user else 'kernel'} {task}".rstrip()
    parts = [_what(entered, syscall), *_provenance(entered, stack), origin]
    return f"<{', '.join(parts)}>"


def _what(entered: Entered, syscall: str) -> str:
    vector = entered.vector
    if vector is None:
        return _plain(entered.stub)
    if vector == abi.SYSCALL_VECTOR:
        return f"system call {entered.orig_ax}" + (f" ({syscall})" if syscall else "")
    return f"{_name(entered, vector)}, vector {vector:#x}"


def _name(entered: Entered, vector: int) -> str:
    if vector in EXCEPTIONS:
        return EXCEPTIONS[vector]
    line = abi.IRQS.get(vector - abi.IRQ_VECTOR_BASE) if entered.words else None
    return f"{_LINES.get(line, line)} interrupt" if line else "interrupt"


def _plain(stub: str) -> str:
    for prefix in _STUBS:
        if stub.startswith(prefix):
            name = stub.removeprefix(prefix).replace("_", " ")
            return name.removeprefix("common ")
    return "interrupt or exception"


def _provenance(entered: Entered, stack: int) -> Iterator[str]:
    words = entered.words
    if words is None:
        if entered.delivered:
            yield f"at {entered.delivered['seconds']:.3f} s"
        return
    kind = abi.classify(entered.address, entered.hardware, words, stack)
    if kind is abi.Class.CORRUPT:
        yield f"frame is corrupt ({'; '.join(abi.defects(words))})"
    elif kind is abi.Class.UNBORN:
        yield "made by Linux"
    else:
        origin = f"nanokernel #{words.sequence} at {words.time / 1e9:.3f} s"
        yield _CHANGED[kind] + origin


def report(entered: Entered, stack: int, history: list[str]) -> Iterator[str]:
    """All of a frame, a word a line, and what it amounts to."""
    yield f"frame at {entered.address:#x}"
    yield _line("orig_ax", entered.orig_ax & (1 << 64) - 1, "number, error code or -1")
    for name, value in entered.hardware._asdict().items():
        yield _line(name, value, _HARDWARE_TEXTS.get(name, ""))
    words = entered.words
    if words is None:
        yield "no nanokernel's words follow"
        if entered.delivered:
            row = entered.delivered
            yield (
                f"delivered at {row['seconds']:.6f} s: vector {row['vector']:#x}, "
                f"error {row['error_code']:#x}"
            )
        return
    for name, value in words._asdict().items():
        yield _line(name, value, abi.WORD_TEXTS[name])
    yield (
        f"vector {words.vector:#x}, revision {words.revision}, "
        f"#{words.sequence}, built at {words.time / 1e9:.9f} s"
    )
    yield from abi.defects(words) or ["magic, revision and check hold"]
    kind = abi.classify(entered.address, entered.hardware, words, stack)
    yield f"{kind.value}: {abi.CLASS_TEXTS[kind]}"
    yield from history


def _line(name: str, value: int, text: str) -> str:
    return f"  {name:8}  {value:#018x}  {text}".rstrip()


def as_json(entered: Entered, stack: int, history: list[str]) -> dict[str, Any]:
    """The same for programs."""
    words = entered.words
    found: dict[str, Any] = {
        "address": entered.address,
        "orig_ax": entered.orig_ax,
        "vector": entered.vector,
        "hardware": entered.hardware._asdict(),
        "words": words._asdict() if words else None,
    }
    if words:
        kind = abi.classify(entered.address, entered.hardware, words, stack)
        found |= {"defects": abi.defects(words), "class": kind.value}
        found["history"] = history
    return found


def returns(rows: list[dict[str, Any]], entered: Entered) -> list[str]:
    """What the nanokernel saw of frames with the same number, as it logged it."""
    number = entered.words.sequence if entered.words else 0
    return [
        f"the nanokernel saw #{number} return at {row['address']:#x} as {row['kind']}"
        for row in rows
        if number and row["sequence"] == number
    ]
