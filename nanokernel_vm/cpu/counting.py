# SPDX-License-Identifier: GPL-2.0-or-later
"""Proof that translated code can count its blocks' entries itself (native/entry.c).

Where it cannot, a hook counts them all: the same run in more time.
"""

import ctypes
import functools
from typing import cast

from unicorn import UC_ARCH_X86, UC_HOOK_BLOCK, UC_MODE_64
from unicorn import x86_const as x
from unicorn.unicorn_py3.arch.intel import UcIntel
from unicorn.unicorn_py3.unicorn import Uc, uclib

from nanokernel_vm.cpu import _interpose, _ticker
from nanokernel_vm.cpu.hook import Hook
from nanokernel_vm.cpu.proof import adopt

_PAGE = 0x1000
_START = _PAGE + 0x20  # a block at a page's begin does not count itself
_LOOP = bytes.fromhex("b905000000 ffc9 75fc f4")  # MOV ECX, 5; DEC ECX; JNZ; HLT
_DUE = (11, (1 << 64) - 1)  # ticks: within the loop, and never
_FUNCTIONS = (uclib.uc_emu_stop, uclib.uc_reg_read, uclib.uc_reg_write)


@functools.cache
def can_count() -> bool:
    """Run the same blocks both ways, with a stop on the way."""
    (asked, hooked), (fewer, counted) = _run(inlining=False), _run(inlining=True)
    return fewer < asked and counted == hooked


def _run(inlining: bool) -> tuple[int, list[object]]:
    """How often the hook was called, and what the ticker knew after each part."""
    probe = cast(UcIntel, Uc(UC_ARCH_X86, UC_MODE_64))
    probe.mem_map(_PAGE, _PAGE)
    probe.mem_write(_START, _LOOP)
    core, ticker = adopt(probe), _ticker_of(probe)
    core.inlining = inlining
    core.connect(ticker.stops, ticker.account, _ticker.ON_BLOCK, 0)
    core.report_to(ticker.pointer, *([0] * 6))
    Hook(probe._uch, UC_HOOK_BLOCK, _ticker.ON_BLOCK, ticker.pointer)
    seen: list[object] = []
    rip = _START
    for ticker.deadline in _DUE:
        if core.run(rip) == _interpose.DIED:
            core.close()
            probe._uch.value = None
            return ticker.asked, []
        rip = probe.reg_read(x.UC_X86_REG_RIP)
        ticker.settle(rip)
        known = (ticker.clock, ticker.expect, ticker.page, ticker.origin, ticker.event)
        seen += [rip, probe.reg_read(x.UC_X86_REG_RCX), known]
    return ticker.asked, seen


def _ticker_of(probe: Uc) -> _ticker.Ticker:
    stop, read, write = (ctypes.cast(f, ctypes.c_void_p).value or 0 for f in _FUNCTIONS)
    return _ticker.Ticker(probe._uch.value or 0, stop, read, write, 1)
