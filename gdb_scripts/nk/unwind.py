# SPDX-License-Identifier: GPL-2.0-or-later
"""Backtraces through the kernel's entry code, by its ORC tables.

What the symbol file's call frame information knows stays with gdb: it knows all
registers, and the symbol files that ``nk`` makes know most of the entry code, too.
This unwinder adds what no table holds or gdb would not believe:

* the caller of SYSCALL's first instructions, and of the last ones before user space;
* stacks that lie the wrong way round: gdb takes an outer frame at a lower address for
  a corrupt stack, unless the frames' identities say otherwise;
* code without call frame information: modules, and kernels straight from the compiler
  or from a distribution.

One thing is beyond it: when IRET itself faults, fixup_bad_iret (v6.1, arch/x86/kernel/
traps.c) overwrites the pt_regs that ORC goes by; until sync_regs returns nobody knows.
"""

from struct import pack
from types import SimpleNamespace
from typing import NamedTuple

import gdb
from gdb.unwinder import Unwinder, register_unwinder

from nk import orc
from nk.abi import HARDWARE_SIZE
from nk.callers import GENERAL, Caller, caller
from nk.callers import known as known_of
from nk.kernel import Kernel, kernel
from nk.orc import Rule

_MASK = (1 << 64) - 1
_USER_END = 1 << 47
_SIZES = {"eflags": 4, "cs": 4, "ss": 4}


class _State(NamedTuple):
    """What a frame's registers do not tell.

    Attributes:
        interrupted: The pc is the next instruction, not one behind a call.
        believed: gdb thinks so, too: it does of what a signal trampoline interrupted,
            and no unwinder in Python can call its frame one.
        turns: How often the stacks inside it have gone to a lower one.
        entered_at: Address of the words that the processor saved, ip first, if it
            was interrupted.
    """

    interrupted: bool
    believed: bool
    turns: int
    entered_at: int | None = None


_INNERMOST = _State(True, True, 0)


class KernelUnwinder(Unwinder):
    """Asked by gdb for every frame, innermost first, before it asks its tables."""

    def __init__(self) -> None:
        super().__init__("nanokernel")
        self._states: dict[tuple[int, int, int], _State] = {}

    def forget(self, _: object = None) -> None:
        """Registers or memory have changed."""
        self._states.clear()

    def entered_at(self, frame: gdb.Frame) -> int | None:
        """Address of what the processor saved of a frame; None: it was not interrupted.

        The address is that of ip.
        """
        rip, rsp = (int(frame.read_register(name)) & _MASK for name in ("rip", "rsp"))
        state = self._states.get((gdb.selected_inferior().num, rip, rsp))
        return state.entered_at if state else None

    def __call__(self, pending_frame: gdb.PendingFrame) -> gdb.UnwindInfo | None:
        """Unwind a frame, or leave it to gdb."""
        inferior = gdb.selected_inferior()
        known = kernel(inferior.progspace)
        frame = _Frame(pending_frame, inferior)
        if known is None or frame.pc < _USER_END:
            return None
        try:
            return self._unwind(known, inferior.num, frame)
        except (gdb.MemoryError, LookupError, ValueError):
            return None  # gdb will find the same, and say so

    def _unwind(
        self, known: Kernel, number: int, frame: "_Frame"
    ) -> gdb.UnwindInfo | None:
        place = (number, frame.pc, frame.register("rsp"))
        state = self._states.get(place, _INNERMOST)
        address = frame.pc - (not state.interrupted)
        gdbs_address = frame.pc - (not state.believed)
        rule = known.rule(frame.read, address)
        outer = _outer(known, rule, frame) if rule else None
        if rule is None or outer is None:
            return None
        turns = state.turns + (outer.identity < frame.register("rsp"))
        beyond = turns + (outer.identity > outer.saved["rsp"] > _USER_END)
        left = (
            gdbs_address in known.described
            and rule == known.rule(frame.read, gdbs_address)
            and _left_to_gdb(known, rule, address, turns)
            # gdb takes a stub's return address for the next instruction.
            and (rule.kind == orc.CALL or rule == known.rule(frame.read, frame.pc))
        )
        trampoline = left and rule.kind != orc.CALL
        if trampoline:
            beyond = 0  # around a signal trampoline's frame gdb compares nothing
        where = (number, outer.saved["rip"], outer.saved["rsp"])
        words = None if rule.kind == orc.CALL else outer.identity - HARDWARE_SIZE
        self._states[where] = _State(outer.interrupted, trampoline, beyond, words)
        return None if left else frame.info(outer, turns)


def _outer(known: Kernel, rule: Rule, frame: "_Frame") -> Caller | None:
    if rule.sp_reg != orc.UNDEFINED:
        outer = caller(rule, frame.register, frame.read)
        if outer and frame.pc in known.entry_code:
            # It changes no register before it has saved it.
            outer = outer._replace(
                saved=known_of(frame.register, GENERAL) | outer.saved
            )
        return outer
    if not rule.end:
        return None
    saved = known.user_at_edge(frame.pc, frame.register, frame.read)
    return Caller(frame.register("rsp"), saved, True) if saved else None


def _left_to_gdb(known: Kernel, rule: Rule, address: int, turns: int) -> bool:
    """Whether gdb's tables, where they describe a place, are right and believed.

    nk's own describe the first instructions of error_entry, which is called, as a part
    of what called it.
    """
    if rule.sp_reg in (orc.UNDEFINED, orc.SP_INDIRECT):
        return False
    return rule.kind != orc.CALL or not (turns or address in known.entry_code)


class _Frame:
    """gdb's pending frame, with registers and memory as numbers."""

    def __init__(self, pending: gdb.PendingFrame, inferior: gdb.Inferior) -> None:
        self._pending, self._inferior = pending, inferior
        self.pc = self.register("rip")

    def register(self, name: str) -> int:
        """A register's value; LookupError where nobody saved it."""
        try:
            return int(self._pending.read_register(name)) & _MASK
        except (gdb.error, ValueError) as exc:
            raise LookupError(f"{name} is not known here") from exc

    def read(self, addr: int, length: int) -> bytes:
        """Memory; raises gdb.MemoryError."""
        return bytes(self._inferior.read_memory(addr, length)) if length else b""

    def info(self, outer: Caller, turns: int) -> gdb.UnwindInfo:
        """What gdb shall take for the caller."""
        # No pc: one and the same frame all through a stub, whose address gdb may not
        # know to belong to one function.
        identity = SimpleNamespace(sp=gdb.Value(_ordered(outer.identity, turns)))
        info = self._pending.create_unwind_info(identity)
        for name, value in outer.saved.items():
            kind = self._pending.read_register(name).type
            data = pack("<Q", value & _MASK)[: _SIZES.get(name, 8)]
            info.add_saved_register(name, gdb.Value(data, kind))
        return info


def _ordered(identity: int, turns: int) -> int:
    """An identity above those of ``turns`` stacks, and in order on its own.

    No stack lies across a multiple of 16 MiB, and none in the last GiB.
    """
    if not turns:
        return identity
    return -(1 << 30) + (turns << 24) + identity % (1 << 24) & _MASK


unwinder = KernelUnwinder()


def register() -> None:
    """Begin to unwind."""
    register_unwinder(None, unwinder, replace=True)
    for event in (
        *(gdb.events.cont, gdb.events.memory_changed, gdb.events.register_changed),
        *(gdb.events.new_objfile, gdb.events.clear_objfiles),
    ):
        event.connect(unwinder.forget)
