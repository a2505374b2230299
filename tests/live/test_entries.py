# SPDX-License-Identifier: GPL-2.0-or-later
"""Step by step through entry and exit code, with symbol files of both kinds."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from nanokernel_vm import build
from tests.live.busy import NAMES, BusyMachine
from tests.live.mi import GDBS

# Each is taken as it comes, from user space or, where a condition says so, the kernel.
PLAIN = ("entry_SYSCALL_64", "asm_exc_page_fault", "asm_common_interrupt")
_KERNEL = (
    "*(long *) ($rsp + 16) == 0x10"  # cs above an error code, or a vector, and rip
)
_USER = "*(long *) ($rsp + 16) == 0x33"  # nor an IRET that faults: see nk.unwind
_FAULT_IN_KERNEL = f"asm_exc_page_fault if {_KERNEL}"
_AT_A_START = f"asm_common_interrupt if {_KERNEL} && $starts(*(long *) ($rsp + 8))"
_IN_A_FAULT = 'asm_common_interrupt if $_any_caller_is("asm_exc_page_fault", 20)'
_IN_A_SOFTIRQ = (
    f"asm_common_interrupt if {_KERNEL}"
    " && (*(int *) ($gs_base + (long) &__preempt_count) & 0xff00)"
)
_WARN = "asm_exc_invalid_op if *(char *) ($rsp + 8) == 0x10"
BUSY = (
    *("asm_exc_page_fault", "asm_common_interrupt", "entry_SYSCALL_64"),
    *(_FAULT_IN_KERNEL, _IN_A_FAULT, _AT_A_START),
)
TRAPS = (
    *("asm_exc_divide_error", "asm_exc_debug", "asm_exc_int3", "asm_exc_invalid_op"),
    *(f"asm_exc_general_protection if {_USER}", "asm_exc_coprocessor_error"),
)
# What the shell does first, and where that leads.
MADE = {
    "host": {
        ":": PLAIN + BUSY,
        "/traps": (*TRAPS, "asm_int80_emulation"),
        "insmod /nk_fail.ko how=later": (_IN_A_SOFTIRQ, _WARN),
    },
    "guest": {":": (*PLAIN, *BUSY, _IN_A_SOFTIRQ), "/traps": TRAPS},
}


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, busy: BusyMachine) -> (
    dict[str, Path]
):  # fmt: skip
    """Symbol files without our call frame information: none at all, the compiler's."""
    host = tmp_path_factory.mktemp("plain") / "vmlinux"
    subprocess.run(
        ["objcopy", "--remove-section=.debug_frame", busy.symbols["host"], host],
        check=True,
    )
    return {"host": host, "guest": build.ensure("guest")}


@pytest.mark.parametrize(
    ("name", "first"), [(name, first) for name in MADE for first in MADE[name]]
)
def test_who_was_entered_is_never_lost(
    busy: BusyMachine, program: str, name: str, first: str, tmp_path: Path
) -> None:
    busy.work(name, first)
    passages(busy, program, name, MADE[name][first], tmp_path / "rows")


@pytest.mark.parametrize("name", MADE)
def test_nor_without_our_call_frame_information(
    busy: BusyMachine, plain: dict[str, Path], program: str, name: str, tmp_path: Path
) -> None:
    busy.work(name)
    passages(busy, program, name, (*PLAIN, _AT_A_START), tmp_path / "rows", plain)


def passages(
    busy: BusyMachine,
    program: str,
    name: str,
    labels: Sequence[str],
    out: Path,
    symbols: Mapping[str, Path] = {},
) -> None:
    """Step through entries in turn."""
    pid = next(pid for pid in NAMES if NAMES[pid] == name)
    printed = busy.debug(
        *(GDBS[program], "entries.py", (pid, out, *labels)), symbols=symbols
    )
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    entered = [row["label"].removeprefix("nanokernel_") for row in rows]
    assert entered == [label.partition(" if ")[0] for label in labels], printed
    for row, label in zip(rows, labels, strict=True):
        assert row["wrong"] == [], label
        assert row["checks"] > 50
        assert " if " not in label or row["user"] == (_USER in label)
