# SPDX-License-Identifier: GPL-2.0-or-later
"""The edges of the kernel, where ORC knows of nobody who called.

SYSCALL saves nothing in memory: until entry_SYSCALL_64 has built its pt_regs, the
user's rip is in rcx, rflags in r11, and rsp is live or in a word of the CPU's.  On the
way out, from the moment at which the stack is left, what remains is a handful of
instructions, and what they will do to registers *is* the caller: they are looked at
one by one, ahead of the processor.
"""

import re
from struct import unpack

from nk.callers import GENERAL, HARDWARE, Registers, known, word
from nk.orc import Read

_USER_CS, _USER_SS = 0x33, 0x2B
_MASK = (1 << 64) - 1
# mov %rsp,ADDRESS or mov %rsp,%gs:ADDRESS
_SAVE_RSP = re.compile(rb"(\x65?)\x48\x89\x24\x25(....)", re.DOTALL)
_MOST = 48  # instructions; 31 are in use


def before_syscall(executed: bytes, register: Registers, read: Read) -> dict[str, int]:
    """The user's registers when some of entry_SYSCALL_64 has been executed.

    Args:
        executed: That code.
        register: The live registers.
        read: Reads the kernel's memory.
    """
    user = known(register, GENERAL)
    user |= {"rip": user["rcx"], "eflags": user["r11"], "rsp": register("rsp")}
    if save := _SAVE_RSP.search(executed):
        per_cpu = register("gs_base") if save[1] else 0
        user["rsp"] = word(read, per_cpu + unpack("<i", save[2])[0])
    return user | {"cs": _USER_CS, "ss": _USER_SS}


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


class _Ahead:
    """The processor, some instructions later; what it writes stays here."""

    def __init__(self, register: Registers, read: Read) -> None:
        self.registers = known(register, (*GENERAL, *HARDWARE))
        self.read, self._written = read, dict[int, int]()

    def load(self, addr: int) -> int:
        addr &= _MASK
        written = self._written.get(addr)
        return word(self.read, addr) if written is None else written

    def push(self, value: int) -> None:
        self.registers["rsp"] -= 8
        self._written[self.registers["rsp"]] = value

    def pop(self) -> int:
        value = self.load(self.registers["rsp"])
        self.registers["rsp"] += 8
        return value

    def execute(self) -> bool:
        """Execute an instruction; False if it is not one of those below."""
        code = self.read(self.registers["rip"], _LONGEST)
        for pattern, effect in _INSTRUCTIONS:
            if match := pattern.match(code):
                self.registers["rip"] += len(match[0])
                effect(self, match)
                return True
        return False

    # -- instructions --------------------------------------------------------

    def nothing(self, _: "re.Match[bytes]") -> None:
        """Something that is not seen from outside, or not in user space's registers."""

    def push_field(self, match: "re.Match[bytes]") -> None:
        offset = _signed(match[1]) if match[1] else 0
        self.push(self.load(self.registers["rdi"] + offset))

    def push_rax(self, _: "re.Match[bytes]") -> None:
        self.push(self.registers["rax"])

    def pop_register(self, match: "re.Match[bytes]") -> None:
        value = self.pop()  # which moves rsp before it may be set
        self.registers[_POPPED[match[0]]] = value

    def jump(self, match: "re.Match[bytes]") -> None:
        self.registers["rip"] += _signed(match[1] or match[2])

    def iretq(self, _: "re.Match[bytes]") -> None:
        hardware = {name: self.pop() for name in HARDWARE}
        self.registers |= hardware

    def sysretq(self, _: "re.Match[bytes]") -> None:
        rcx, r11 = self.registers["rcx"], self.registers["r11"]
        self.registers |= {"rip": rcx, "eflags": r11}
        self.registers |= {"cs": _USER_CS, "ss": _USER_SS}


_POPPED = {b"\x58": "rax", b"\x5c": "rsp", b"\x5f": "rdi"}
_LONGEST = 16
# As arch/x86/include/asm/nops.h has them, one byte to eight
_NOPS = rb"\x66?\x90|\x0f\x1f(?:\x00|\x40.|\x80....)|\x66?\x0f\x1f(?:\x44..|\x84.....)"
# SWITCH_TO_USER_CR3_STACK (arch/x86/entry/calling.h): rdi and rax are popped behind it,
# and both ways that its jae may go lead there
_TO_USER_TABLES = (
    rb"\x0f[\x20\x22]\xdf"  # mov %cr3,%rdi; mov %rdi,%cr3
    rb"|\x48\x89[\xf8\xc7]"  # mov %rdi,%rax; mov %rax,%rdi
    rb"|\x48\x81[\xe7\xcf]...."  # and, or $...,%rdi
    rb"|\x65\x48\x0f[\xa3\xb3]\x3c\x25...."  # bt, btr %rdi,%gs:...
    rb"|\x48\x0f\xba\xef\x3f"  # bts $63,%rdi
)
# testb $4,0x20(%rsp); jne: the way for a stack in an LDT leads to the same registers
_NO_LDT_STACK = rb"\xf6\x44\x24\x20\x04\x75."
_INSTRUCTIONS = [
    (re.compile(pattern, re.DOTALL), effect)
    for pattern, effect in (
        # swapgs, verw, and the guest's return hypercall, which does as IRET
        (rb"\x0f\x01\xf8|\x0f\x00\x2d....|\xe6\xe1", _Ahead.nothing),
        (_NOPS, _Ahead.nothing),
        (_TO_USER_TABLES, _Ahead.nothing),
        (_NO_LDT_STACK, _Ahead.nothing),
        (rb"\xff\x37|\xff\x77(.)", _Ahead.push_field),  # push N(%rdi)
        (rb"\x50", _Ahead.push_rax),
        (rb"[\x58\x5c\x5f]", _Ahead.pop_register),
        (rb"[\xeb\x73](.)|\xe9(....)", _Ahead.jump),
        (rb"\x48\xcf", _Ahead.iretq),
        (rb"\x48\x0f\x07", _Ahead.sysretq),
    )
]


def after_return(register: Registers, read: Read) -> dict[str, int] | None:
    """The user's registers when the few instructions that are left have been executed.

    None where something else is left: no way out.
    """
    ahead = _Ahead(register, read)
    for _ in range(_MOST):
        if not ahead.execute():
            return None
        if ahead.registers["cs"] == _USER_CS:
            return ahead.registers
    return None
