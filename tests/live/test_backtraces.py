# SPDX-License-Identifier: GPL-2.0-or-later
"""gdb's backtraces with our scripts are drgn's, wherever busy kernels are stopped.

``make soak`` stops them 2,000 times each, ``make test`` NK_STOPS times.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from nanokernel_vm.linux.elf import ElfImage
from nanokernel_vm.partition import Partition
from tests.live.busy import NAMES, BusyMachine, Level
from tests.live.mi import GDBS

STOPS = int(os.environ.get("NK_STOPS", "100"))
AGREE = 0.995
USER_END = 1 << 47
_RET = b"\xc3"
_NOP = b"\x90"
_MOV_RAX_RSP = bytes.fromhex("48 89 c4")


class Stop(NamedTuple):
    """One stop as two see it."""

    ours: list[Level]
    drgns: list[Level]
    code: ElfImage

    def __str__(self) -> str:
        ours, drgns = (
            " ".join(f"{rip:#x}/{rsp:#x}/{rbp or 0:#x}" for rip, rsp, rbp in levels)
            for levels in (self.ours, self.drgns)
        )
        return f"ours: {ours}\ndrgn: {drgns}"


def _same(ours: list[Level], drgns: list[Level]) -> bool:
    return len(ours) == len(drgns) and all(
        a[:2] == b[:2] and (None in (a[2], b[2]) or a[2] == b[2])
        for a, b in zip(ours, drgns, strict=True)
    )


def _stub_between(stop: Stop) -> bool:
    """error_entry is part of the exception for us, called by its stub for drgn."""
    rest = stop.drgns[:1] + stop.drgns[2:]
    return len(stop.drgns) > 1 and _same(stop.ours, rest)


def _gdbs_own(stop: Stop) -> bool:
    """At a ``ret`` gdb asks no table (amd64_epilogue_frame_unwind): error_entry's."""
    rest = stop.ours[:1] + stop.ours[2:]
    return stop.code.read(stop.ours[0][0], 1) == _RET and _same(rest, stop.drgns)


def _edge_of_the_kernel(stop: Stop) -> bool:
    """Next to user space ORC knows of no caller; we do."""
    user = stop.ours[1:]
    return len(stop.drgns) == 1 and len(user) == 1 and user[0][0] < USER_END


def _gap_in_orc(stop: Stop) -> bool:
    """At ``mov %rax,%rsp``, ORC takes what is not yet there for the caller."""
    return stop.code.read(stop.ours[0][0], 3) == _MOV_RAX_RSP


def _one_of_alternatives(stop: Stop) -> bool:
    """Where the kernel patches itself, ORC has one variant's stack for all of them.

    The return stack buffer is filled by calls in __switch_to_asm; all get lost there.
    """
    return stop.code.read(stop.ours[0][0], 1) == _NOP


EXPLANATIONS: list[Callable[[Stop], bool]] = [
    _stub_between,
    _gdbs_own,
    _edge_of_the_kernel,
    _gap_in_orc,
    _one_of_alternatives,
]


@pytest.mark.parametrize("pid", NAMES, ids=NAMES.values())
def test_backtraces_are_drgns(
    busy: BusyMachine, program: str, pid: int, tmp_path: Path
) -> None:
    compare(busy, program, pid, tmp_path / "levels")


def compare(busy: BusyMachine, program: str, pid: int, out: Path) -> None:
    """Stop a kernel at random, and see that gdb's backtraces are drgn's."""
    clocks: list[int] = []
    drgns: list[list[Level]] = []

    def look(partition: Partition) -> None:
        clocks.append(partition.clock)
        drgns.append(busy.truth(partition))

    printed = busy.debug(GDBS[program], "stops.py", (pid, STOPS, out), stops=look)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    ours = [[(rip, rsp, rbp) for rip, rsp, rbp in row] for row in rows]
    assert len(ours) == len(drgns) == STOPS, printed
    assert len(set(clocks)) == STOPS
    code = ElfImage.open(busy.symbols[NAMES[pid]])
    others = [
        Stop(a, b, code) for a, b in zip(ours, drgns, strict=True) if not _same(a, b)
    ]
    unexplained = [
        stop for stop in others if not any(why(stop) for why in EXPLANATIONS)
    ]
    assert not unexplained, "\n".join(map(str, unexplained[:3]))
    in_kernel = sum(row[0][0] >= USER_END for row in drgns)
    assert in_kernel > STOPS / 2
    assert max(map(len, drgns)) > 10
    edges = sum(map(_edge_of_the_kernel, others))
    agree, differ = STOPS - len(others), len(others) - edges
    print(f"{NAMES[pid]}, {program}: {STOPS} stops, {in_kernel} in the kernel:")
    print(f"{agree} agree, {edges} where ORC ends, {differ} otherwise explained")
    # Where ORC knows of nobody, there is nothing that could agree.  A sample may have
    # some of the others by chance.
    assert differ <= (1 - AGREE) * STOPS + 3
