# SPDX-License-Identifier: GPL-2.0-or-later
"""Backtraces through a module of which gdb has no symbols."""

import json
from pathlib import Path

import pytest

from tests.live.busy import BusyMachine
from tests.live.mi import GDBS

HOST = 1
USER_END = 1 << 47


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        # strcmp compares what it is told to do: in code for the start only
        ("nothing", ("strcmp", "nk_fail_init", "do_one_initcall")),
        ("later", ("msleep", "sleep_and_warn", "process_one_work")),
    ],
)
def test_a_module_is_unwound_by_its_own_tables(
    busy: BusyMachine, program: str, how: str, expected: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "stop"
    busy.work("host", f"insmod /nk_fail.ko how={how}")  # which it refuses in the end
    printed = busy.debug(GDBS[program], "module.py", (HOST, out, expected[0]))
    assert out.exists(), printed
    stop = json.loads(out.read_text())
    drgns = [row for row in stop["drgns"][0]["frames"] if row["offset"] is not None]
    assert tuple(row["name"] for row in drgns[:3]) == expected
    ours = [(rip, rsp) for rip, rsp, _ in stop["ours"]]
    assert ours[: len(drgns)] == [(row["pc"], row["sp"]) for row in drgns]
    assert [rip >= USER_END for rip, _ in ours[len(drgns) :]] == [False] * (
        drgns[-1]["name"].startswith("entry_SYSCALL_64")
    )
