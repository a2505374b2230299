# SPDX-License-Identifier: GPL-2.0-or-later
"""A processor's registers as gdb's ``g`` packet has them (stub.amd64's table).

All at once they come by one batch read into one buffer; the system registers behind
gdb's own come from the saved state.
"""

import ctypes
import struct
from collections.abc import Callable, Sequence

from unicorn import x86_const as x
from unicorn.unicorn_py3.unicorn import uclib

from nanokernel_vm.cpu.engine import Engine
from nanokernel_vm.cpu.state import State
from stub import amd64
from stub.errors import Errno, TargetError

_GPR = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")
_GPRS = (*_GPR, *(f"r{n}" for n in range(8, 16)))

#: gdb's name: Unicorn's number, for those that one read fills; the rest reads 0
_BATCH = {
    **{name: getattr(x, f"UC_X86_REG_{name.upper()}") for name in _GPRS},
    "rip": x.UC_X86_REG_RIP,
    "eflags": x.UC_X86_REG_EFLAGS,
    **{
        n: getattr(x, f"UC_X86_REG_{n.upper()}")
        for n in ["cs", "ss", "ds", "es", "fs", "gs"]
    },
    **{f"st{n}": getattr(x, f"UC_X86_REG_ST{n}") for n in range(8)},
    "fctrl": x.UC_X86_REG_FPCW,
    "fstat": x.UC_X86_REG_FPSW,
    "ftag": x.UC_X86_REG_FPTAG,
    **{f"xmm{n}": getattr(x, f"UC_X86_REG_XMM{n}") for n in range(16)},
    "mxcsr": x.UC_X86_REG_MXCSR,
    "fs_base": x.UC_X86_REG_FS_BASE,
    "gs_base": x.UC_X86_REG_GS_BASE,
    "cr8": x.UC_X86_REG_CR8,
}

_SYSTEM: dict[str, Callable[[State], int]] = {
    "k_gs_base": lambda s: s.kernel_gs_base,
    "cr0": lambda s: s.cr[0],
    "cr2": lambda s: s.cr[2],
    "cr3": lambda s: s.cr[3],
    "cr4": lambda s: s.cr[4],
    "efer": lambda s: s.efer,
    "gdtr_base": lambda s: s.gdt.base,
    "gdtr_limit": lambda s: s.gdt.limit,
    "idtr_base": lambda s: s.idt.base,
    "idtr_limit": lambda s: s.idt.limit,
    "tr_base": lambda s: s.tr.base,
    "tr_selector": lambda s: s.tr.selector,
}

_WRITABLE = frozenset(_BATCH) - frozenset(["cs", "ss", "ds", "es", "fs", "gs", "cr8"])
_SETTABLE = _WRITABLE | {"cr2", "k_gs_base", "orig_rax"}
_X87 = frozenset(f"st{n}" for n in range(8))
_MODE = "what is translated and what is in the TLB depend on it; only code can load it"
_HIDDEN = "its base and rights come from a descriptor; only code can load it"
_WHY = {
    **dict.fromkeys(("cr0", "cr3", "cr4", "efer"), _MODE),
    **dict.fromkeys(("cs", "ss", "ds", "es", "fs", "gs", "tr_selector"), _HIDDEN),
    "part": "it is the partition's number",
}
_BY_NAME = {register.name: register for register in amd64.REGISTERS}


class Registers:
    """Registers of one processor; use while it is stopped.

    Args:
        engine: The processor.
        part: The partition's number, shown as ``$part``.
    """

    def __init__(self, engine: Engine, part: int) -> None:
        self._engine = engine
        self._buffer = ctypes.create_string_buffer(amd64.SIZE)
        base = ctypes.addressof(self._buffer)
        rows = [
            (_BATCH[r.name], base + r.offset)
            for r in amd64.REGISTERS
            if r.name in _BATCH
        ]
        self._count = len(rows)
        self._ids = (ctypes.c_int * self._count)(*(row[0] for row in rows))
        self._slots = (ctypes.c_void_p * self._count)(*(row[1] for row in rows))
        self._system = [
            (
                _BY_NAME[name].offset,
                struct.Struct("<I" if _BY_NAME[name].bits == 32 else "<Q"),
                get,
            )
            for name, get in _SYSTEM.items()
        ]
        struct.pack_into("<I", self._buffer, _BY_NAME["part"].offset, part)
        # no system call to restart: gdb sets it when it moves the pc
        struct.pack_into("<q", self._buffer, _BY_NAME["orig_rax"].offset, -1)

    def read_all(self) -> bytes:
        """All registers, in the order and size of the target description."""
        engine = self._engine
        uclib.uc_reg_read_batch(engine.handle, self._ids, self._slots, self._count)
        for offset, layout, get in self._system:
            layout.pack_into(self._buffer, offset, get(engine.state))
        return self._buffer.raw

    def read(self, number: int) -> bytes:
        """One register."""
        register = _register(number)
        return self.read_all()[register.offset : register.offset + register.size]

    def write(self, number: int, data: bytes) -> None:
        """Set one register; one that cannot be set may be given its own value."""
        register = _register(number)
        if len(data) != register.size:
            raise TargetError(
                Errno.EINVAL, f"${register.name} has {register.size} bytes"
            )
        self._write([(register, data)])

    def write_all(self, data: bytes) -> None:
        """Set as many registers, in order, as ``data`` covers, or none of them."""
        pieces = ((r, data[r.offset : r.offset + r.size]) for r in amd64.REGISTERS)
        self._write([(r, piece) for r, piece in pieces if len(piece) == r.size])

    def _write(self, values: Sequence[tuple[amd64.Register, bytes]]) -> None:
        now = self.read_all()
        changes = [
            (register.name, int.from_bytes(value, "little"))
            for register, value in values
            if value != now[register.offset : register.offset + register.size]
        ]
        for name, _ in changes:
            _check(name)
        for name, value in changes:
            self._set(name, value)

    def _set(self, name: str, value: int) -> None:
        engine, state = self._engine, self._engine.state
        if name in _GPRS:
            state.regs[_GPRS.index(name)] = value
        elif name == "rip":
            state.rip = value
        elif name == "eflags":
            engine.set_register(_BATCH[name], value | 2)  # where lazy flags are, too
            state.rflags = value | 2
        elif name == "cr2":
            state.cr[2] = value
        elif name == "k_gs_base":
            state.kernel_gs_base = value
        elif name in _X87:
            engine.set_register_bytes(_BATCH[name], value.to_bytes(10, "little"))
            return
        elif name in _WRITABLE:
            engine.set_register(_BATCH[name], value)
            return
        engine.put_state()


def _check(name: str) -> None:
    """Refuse what a debugger may not set, and say why."""
    if name in _SETTABLE:
        return
    why = _WHY.get(name, "it is the processor's own; only its code can load it")
    raise TargetError(Errno.EPERM, f"${name} cannot be set: {why}")


def _register(number: int) -> amd64.Register:
    if not 0 <= number < len(amd64.REGISTERS):
        raise TargetError(Errno.EINVAL, f"there is no register {number}")
    return amd64.REGISTERS[number]
