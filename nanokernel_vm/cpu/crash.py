# SPDX-License-Identifier: GPL-2.0-or-later
"""How an engine died: of a defect of the emulator, at one instruction of a guest."""

import signal
from dataclasses import dataclass

from nanokernel_vm.cpu import _interpose
from nanokernel_vm.cpu.paging import AddressSpace
from nanokernel_vm.cpu.state import CS, HF_CS64, State
from nanokernel_vm.memory import Window

_LONGEST = 15  # bytes of an instruction


@dataclass(frozen=True, slots=True)
class Crash:
    """What ended an engine.

    Attributes:
        cause: A signal's name, abort() or exit().
        translating: Whether the instruction was being translated, not executed.
        rip: Linear address of the instruction.
        code: What stands there, as much as an instruction may have.
        address: What address of this process a signal is about; None without one.
        place: Where in this process, for who looks for the defect.
    """

    cause: str
    translating: bool
    rip: int
    code: bytes
    address: int | None
    place: str

    def __str__(self) -> str:
        doing = "translating" if self.translating else "executing"
        text = (
            f"the emulator died of {self.cause} {doing} {self.code.hex(' ') or 'code'} "
            f"at {self.rip:#x}, in {self.place}"
        )
        if self.address is None:
            return text
        return (
            f"{text}, address {self.address:#x}; its memory may be damaged: save what "
            "you need, then restart nk"
        )


def examine(
    death: tuple[int, bool, int, int, str], state: State, window: Window
) -> Crash:
    """Tell of ``Core.death()`` in terms of the guest that ``state`` is of."""
    cause, translating, at, address, place = death
    base = 0 if state.hflags & HF_CS64 else state.segs[CS].base
    rip = at if translating else base + state.rip
    names = {_interpose.ABORTED: "abort()", _interpose.EXITED: f"exit({address})"}
    return Crash(
        names.get(cause) or signal.Signals(cause).name,
        translating,
        rip,
        _code(AddressSpace(window, state.cr[0], state.cr[3], state.cr[4]), window, rip),
        address if cause > 0 else None,
        place,
    )


def _code(space: AddressSpace, window: Window, va: int) -> bytes:
    """An instruction's bytes, up to the first that is not mapped."""
    code = b""
    while len(code) < _LONGEST:
        page = space.page(va + len(code))
        if page is None:
            break
        code += window.read(page.pa, min(page.left, _LONGEST - len(code)))
    return code
