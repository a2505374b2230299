# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs inside gdb: steps through entry code, and never loses sight of who was entered.

What is true is not asked of any unwinder: it is the rip, rsp and rbp that were current
before the entry, and at the end they must be current again.  In between, every
backtrace must end with them and with what lies beyond.
"""

import json
import struct
import sys
from collections.abc import Iterator

import gdb

from tests.live.in_gdb.walk import Level, alone, levels, number

STEPS = 1000  # in entry code, from an entry to its end
PT_REGS = 21
RBP, RIP, RSP = 4, 16, 19  # words of struct pt_regs
USER_END = 1 << 47


def words(addr: int, count: int) -> tuple[int, ...]:
    memory = gdb.selected_inferior().read_memory(addr, 8 * count)
    return struct.unpack(f"<{count}Q", bytes(memory))


class _Starts(gdb.Function):
    """Whether a function starts at an address."""

    def __init__(self) -> None:
        super().__init__("starts")

    def invoke(self, *args: gdb.Value) -> bool:
        symbol = gdb.execute(f"info symbol {int(args[0])}", to_string=True)
        return " + " not in symbol and "No symbol" not in symbol


def run_to(addr: int, condition: str = "") -> None:
    """Run to a place in the code, at which others may come by."""
    place = gdb.Breakpoint(f"*{addr:#x}", internal=True)
    place.silent, place.condition = True, condition or None
    gdb.execute("continue", to_string=True)
    place.delete()


class Passage:
    """One way through an entry and back.

    Args:
        label: The entry.
        condition: What must hold there, for gdb to evaluate; empty: nothing.
    """

    def __init__(self, label: str, condition: str) -> None:
        self.label = label
        self.code = range(number("&__entry_text_start"), number("&__entry_text_end"))
        self.wrong: list[str] = []
        self.checks = 0
        run_to(number(f"&{label}"), condition)
        before = levels()
        self.entered = self._entered()
        self.beyond = before[1:]
        self._expect(self.beyond[:1] == [self.entered], before)

    def _entered(self) -> Level:
        """Where the processor came from, by the rules of the instruction set."""
        rsp, rbp = number("$rsp"), number("$rbp")
        if rsp < USER_END:  # SYSCALL changes neither
            return number("$rcx"), rsp, rbp
        for place in (rsp, rsp + 8):  # an error code lies below, or a vector, or none
            rip, cs, _, old_rsp, ss = words(place, 5)
            if (cs, ss) in ((0x33, 0x2B), (0x10, 0x18), (0x10, 0)):
                return rip, old_rsp, rbp
        raise AssertionError(f"no frame at {self.label}")

    def follow(self) -> None:
        """Step to the end, but run through C functions."""
        for _ in range(STEPS):
            if self._ended():
                return
            if number("$rip") in self.code:
                gdb.execute("stepi", to_string=True)
            else:
                self._run_through()
            if not self._ended():
                self.check()
        self.wrong.append(f"{self.label} does not end")

    def _ended(self) -> bool:
        rip, rsp = number("$rip"), number("$rsp")
        if rip < USER_END:
            self._expect((rip, rsp) == self.entered[:2], [(rip, rsp, None)])
        return rip < USER_END or (rip, rsp) == self.entered[:2]

    def _run_through(self) -> None:
        """A C function is entered with pt_regs, which it may change: exec, signals."""
        pt_regs, rsp = number("$rdi"), number("$rsp")
        run_to(words(rsp, 1)[0], f"$rsp == {rsp + 8}")
        saved = words(pt_regs, PT_REGS)
        now = saved[RIP], saved[RSP], saved[RBP]
        if self.entered[0] < USER_END:
            self.entered, self.beyond = now, [now]
        elif now[1:] == self.entered[1:]:  # past a faulting instruction or a WARN
            self.entered, self.beyond[0] = now, now

    def check(self) -> None:
        """The backtrace ends with what was entered."""
        found = levels()
        inner = len(found) - len(self.beyond)
        self._expect(inner >= 1 and found[inner:] == self.beyond, found)

    def _expect(self, truth: bool, found: list[Level]) -> None:
        self.checks += 1
        if not truth:
            where = gdb.execute("info symbol $pc", to_string=True).strip()
            self.wrong.append(f"{where}: {_text(found)}, not {_text(self.beyond)}")


def _text(found: list[Level]) -> str:
    return " ".join(f"{rip:#x}/{rsp:#x}" for rip, rsp, _ in found[:4])


def entry(label: str) -> str:
    """Where a guest of the nanokernel is entered in place of ``label``, if it is."""
    registered = f"nanokernel_{label}"
    try:
        number(f"&{registered}")
    except gdb.error:
        return label
    return registered


def passages(labels: list[str]) -> Iterator[dict[str, object]]:
    for label in labels:
        name, _, condition = label.partition(" if ")
        passage = Passage(entry(name), condition)
        passage.follow()
        yield {
            "label": passage.label,
            "user": passage.entered[0] < USER_END,
            "checks": passage.checks,
            "wrong": passage.wrong,
        }


def main() -> None:
    pid, out, *labels = sys.argv
    alone(int(pid))
    _Starts()
    with open(out, "w") as file:
        for row in passages(labels):
            print(json.dumps(row), file=file, flush=True)


if __name__ == "__main__":
    main()
