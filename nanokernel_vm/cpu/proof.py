# SPDX-License-Identifier: GPL-2.0-or-later
"""Proof that the installed Unicorn keeps its state where ``state.LAYOUT`` says.

A probe engine is given a distinct value for every field and made to fault; each field
is then looked for in the saved context.  Another library fails here, not in a boot.
"""

import ctypes
import functools
from importlib.metadata import version
from typing import NoReturn, cast

from unicorn import UC_ARCH_X86, UC_MODE_64
from unicorn import unicorn_const as k
from unicorn import x86_const as x
from unicorn.unicorn_py3.arch.intel import UcIntel
from unicorn.unicorn_py3.unicorn import Uc, UcContext, UcError

from nanokernel_vm.cpu import MISSING, _interpose
from nanokernel_vm.cpu import state as s
from nanokernel_vm.cpu._interpose import Core
from nanokernel_vm.cpu.hook import Hook
from nanokernel_vm.cpu.state import CONTEXT_SIZE, State
from nanokernel_vm.errors import EngineError

_PAGE = 0x1000
_NOWHERE = (1 << 64) - 1
_GPRS = ("RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI")
_MSRS = {
    "sysenter_cs": 0x174,
    "sysenter_esp": 0x175,
    "sysenter_eip": 0x176,
    "star": 0xC000_0081,
    "lstar": 0xC000_0082,
    "fmask": 0xC000_0084,
    "kernel_gs_base": 0xC000_0102,
}
_LONGEST = 15  # bytes of an instruction (SDM vol. 2, 2.3.11)
_EFER, _EFER_VALUE = 0xC000_0080, 0xD01  # NXE, LMA, LME, SCE
_ROUND_TO_ZERO, _ROUND_DOWN = b"\x80\x7f\0\0", b"\x7f\x07\0\0"  # MXCSR, FPCW
_NAN = bytes.fromhex("000000000000f87f")
_FLAGS = s.IOPL | s.AC | 0x246  # and IF, ZF, PF
_MODE = s.HF_PE | s.HF_MP | s.HF_CS64 | s.HF_CPL


@functools.cache
def prove() -> None:
    """Check every field, once per process.

    Raises:
        EngineError: A field is not where it should be.
    """
    if MISSING is not None:
        _refuse(f"it has no {MISSING}")
    uc = cast(UcIntel, Uc(UC_ARCH_X86, UC_MODE_64))
    _core = adopt(uc)
    context = uc.context_save()
    if context.size != CONTEXT_SIZE:
        _refuse(f"its saved state has {context.size} bytes, not {CONTEXT_SIZE}")
    state = State.from_address(ctypes.cast(context.context, ctypes.c_void_p).value or 0)
    _prove_registers(uc, context, state)
    _prove_hook(uc)
    _prove_fault(context, state)
    _prove_arithmetic(context)
    _prove_decoding()
    _prove_blocks()
    _prove_tlb()
    _prove_stores()


def _refuse(why: str) -> NoReturn:
    raise EngineError(
        f"unicorn {version('unicorn')} cannot be driven: {why}; install unicorn==2.1.4"
    )


def _prove_hook(uc: UcIntel) -> None:
    kind, function, data = k.UC_HOOK_MEM_READ, 0x1111_0000, 0x2222_0000
    found = Hook(uc._uch, kind, function, data).layout
    if found != (1, 0, function, data):
        _refuse(f"a hook's range, function and data are {found}")


def _prove_registers(uc: UcIntel, context: UcContext, state: State) -> None:
    names = (*_GPRS, *(f"R{n}" for n in range(8, 16)))
    for index, name in enumerate(names):
        uc.reg_write(getattr(x, f"UC_X86_REG_{name}"), 0x1111_0000_0000 + index)
    for index, msr in enumerate(_MSRS.values()):
        uc.msr_write(msr, 0x0100 + index)
    uc.msr_write(_EFER, _EFER_VALUE)
    tables = {"gdt": "GDTR", "idt": "IDTR", "tr": "TR", "ldt": "LDTR"}
    for index, name in enumerate(tables.values()):
        uc.reg_write(getattr(x, f"UC_X86_REG_{name}"), (0, 0x5000 + index, 0x77, 0))
    controls = {0: 0x13, 2: 0x2222, 3: 0x3000, 4: 0x20}
    for number, value in controls.items():
        uc.reg_write(getattr(x, f"UC_X86_REG_CR{number}"), value)
    uc.reg_write(x.UC_X86_REG_FS_BASE, 0x7777)
    uc.reg_write(x.UC_X86_REG_RFLAGS, _FLAGS)
    uc.context_update(context)
    found = {
        **{f"regs[{i}]": state.regs[i] - i for i in range(16)},
        **{n: getattr(state, n) - i for i, n in enumerate(_MSRS)},
        **{n: getattr(state, n).base - i for i, n in enumerate(tables)},
        **{f"cr{n}": state.cr[n] for n in controls},
        "fs.base": state.segs[4].base,
        "gdt.limit": state.gdt.limit,
        "efer": state.efer,
        "rflags": state.rflags,
        "hflags": state.hflags & _MODE,
    }
    expected = {
        **{f"regs[{i}]": 0x1111_0000_0000 for i in range(16)},
        **dict.fromkeys(_MSRS, 0x0100),
        **dict.fromkeys(tables, 0x5000),
        **{f"cr{n}": value for n, value in controls.items()},
        "fs.base": 0x7777,
        "gdt.limit": 0x77,
        "efer": _EFER_VALUE,
        "rflags": _FLAGS,
        "hflags": _MODE & ~s.HF_CPL,
    }
    for name, value in expected.items():
        if found[name] != value:
            _refuse(f"field {name} holds {found[name]:#x} where {value:#x} was put")


def _prove_fault(context: UcContext, state: State) -> None:
    """INT 0x55, then #GP(0x78) by a bad segment load, both stopped in their hook."""
    probe = Uc(UC_ARCH_X86, UC_MODE_64)
    probe.mem_map(_PAGE, _PAGE)
    probe.mem_write(_PAGE, bytes.fromhex("cd55 66b87800 8ed8".replace(" ", "")))
    probe.hook_add(k.UC_HOOK_INTR, lambda engine, _vector, _data: engine.emu_stop())
    probe.emu_start(_PAGE, 0)
    probe.context_update(context)
    if (state.rip, state.is_software) != (_PAGE + 2, 1):
        _refuse(f"INT left rip {state.rip:#x}, is_software {state.is_software}")
    state.old_exception = -1
    probe.context_restore(context)
    try:
        probe.emu_start(_PAGE + 2, 0)
    except UcError as error:
        _refuse(f"a bad segment load ended with {error}")
    probe.context_update(context)
    got = (state.error_code, state.is_software, state.old_exception, state.rip)
    if got != (0x78, 0, 13, _PAGE + 6):
        _refuse(f"#GP left error code, kind, vector, rip = {got}")


def _prove_decoding() -> None:
    """LOCK MOV, which Unicorn executes, is #UD by a rule of native/undefined.c."""
    probe = Uc(UC_ARCH_X86, UC_MODE_64)
    core = adopt(probe)
    probe.mem_map(_PAGE, _PAGE)
    probe.mem_write(_PAGE, bytes.fromhex("f089d8f4"))
    status = core.run(_PAGE)
    if status != k.UC_ERR_INSN_INVALID:
        _refuse(f"its decoder goes by another way: LOCK MOV ended with {status}")


def adopt(uc: Uc) -> Core:
    """Take charge of an engine before anything else is asked of it.

    Raises:
        EngineError: There is no room for it, or it cannot be watched over.
    """
    try:
        return Core(uc._uch.value or 0)
    except MemoryError:
        raise EngineError(
            "no room for the emulator: each partition takes 1 GiB of address space "
            "beside its memory; see ulimit -v"
        ) from None
    except RuntimeError as error:
        _refuse(f"{error}, as when it was imported before nanokernel_vm")


def _prove_arithmetic(context: UcContext) -> None:
    """What native/env.h says: SSE rounds to zero, the x87 down, and NaNs compare."""
    probe = Uc(UC_ARCH_X86, UC_MODE_64)
    probe.mem_map(_PAGE, 2 * _PAGE)
    probe.mem_write(2 * _PAGE, _ROUND_TO_ZERO + _ROUND_DOWN + _NAN)
    code = "0fae10 d96804 f30f7e4808 660f2ec9"  # ldmxcsr, fldcw, movq, ucomisd
    probe.mem_write(_PAGE, bytes.fromhex(code.replace(" ", "")))
    probe.reg_write(x.UC_X86_REG_RAX, 2 * _PAGE)
    probe.reg_write(x.UC_X86_REG_CR4, 0x600)
    probe.emu_start(_PAGE, _PAGE + 15)
    probe.context_update(context)
    address = (ctypes.cast(context.context, ctypes.c_void_p).value or 0) + s.HEADER_SIZE
    raw = ctypes.string_at(address, CONTEXT_SIZE - s.HEADER_SIZE)
    expected = (
        (_interpose.ENV_MXCSR, _ROUND_TO_ZERO),
        (_interpose.ENV_SSE_STATUS + 1, b"\3"),  # float_round_to_zero
        (_interpose.ENV_FP_STATUS + 1, b"\1"),  # float_round_down
        (_interpose.ENV_CC_SRC, b"\x45"),  # ZF, PF, CF
    )
    for offset, value in expected:
        if raw[offset : offset + len(value)] != value:
            _refuse(f"offset {offset} holds {raw[offset]:#x} where {value!r} was put")
    places = {name: offset for name, offset, _ in s.LAYOUT}
    here = places["cr"] + 4 * 8, places["sysenter_cs"]
    if here != (_interpose.ENV_CR4, _interpose.ENV_SYSENTER_CS):
        _refuse(f"native/env.h and state.py differ: {here}")


def _prove_blocks() -> None:
    """NOPs across a page's end: a block ends before it, and one with it."""
    probe, blocks = Uc(UC_ARCH_X86, UC_MODE_64), []
    probe.mem_map(_PAGE, 2 * _PAGE)
    probe.mem_write(_PAGE, b"\x90" * 2 * _PAGE)
    probe.hook_add(k.UC_HOOK_BLOCK, lambda _uc, address, *_: blocks.append(address))
    probe.hook_add(
        k.UC_HOOK_CODE, lambda engine, *_: engine.emu_stop(), None, 2 * _PAGE, 2 * _PAGE
    )
    last = 2 * _PAGE - _LONGEST + 1  # where the longest instruction leaves the page
    Core(probe._uch.value or 0).run(last - 0x10)
    if blocks != [last - 0x10, *range(last, 2 * _PAGE + 1)]:
        _refuse(f"blocks at {list(map(hex, blocks))} do not end with their page")


def _prove_tlb() -> None:
    """A load fills the TLB, where native/tlb.c finds it and nothing else."""
    probe = Uc(UC_ARCH_X86, UC_MODE_64)
    probe.mem_map(_PAGE, 2 * _PAGE)
    probe.mem_write(_PAGE, bytes.fromhex("a0 0020000000000000 f4"))  # MOV AL; HLT
    core = Core(probe._uch.value or 0)
    before = core.page(2 * _PAGE)
    core.run(_PAGE)
    found = before, core.page(2 * _PAGE), core.page(3 * _PAGE)
    if found != (_NOWHERE, 2 * _PAGE, _NOWHERE):
        _refuse(f"its TLB has {[hex(pa) for pa in found]} around a load of 0x2000")


def _prove_stores() -> None:
    """Stores to a page are fast once its code is gone, and slow with the next.

    The second page holds MOV AL, 1; RET, which the first one calls and increments.
    """
    probe, code, data = Uc(UC_ARCH_X86, UC_MODE_64), _PAGE, 2 * _PAGE
    probe.mem_map(0, 4 * _PAGE)
    call, increment = "ff14250030 0000", "fe042501200000"
    text = f"{call} {increment} {increment} f4 {call} {increment} {call} f4"
    probe.mem_write(code, bytes.fromhex(text.replace(" ", "")))
    probe.mem_write(data, bytes.fromhex("b001c3"))
    probe.mem_write(3 * _PAGE, data.to_bytes(8, "little"))
    probe.reg_write(x.UC_X86_REG_RSP, 4 * _PAGE)
    core = Core(probe._uch.value or 0)
    core.run(code)
    fast = core.fast(data)
    core.run(code + 22)
    found = fast, core.fast(data), probe.reg_read(x.UC_X86_REG_AL)
    if found != (True, False, 4):
        _refuse(f"stores to code, fast then slow, and what it does: {found}")
