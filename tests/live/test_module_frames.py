# SPDX-License-Identifier: GPL-2.0-or-later
"""Backtraces through a module of which gdb has no symbols."""

import json
from pathlib import Path

from tests.live.busy import BusyMachine
from tests.live.mi import GDBS

HOST = 1


def test_a_module_is_unwound_by_its_own_tables(
    busy: BusyMachine, program: str, tmp_path: Path
) -> None:
    out = tmp_path / "stop"
    busy.work("host", "insmod /nk_fail.ko how=nothing")  # which it refuses to do
    printed = busy.debug(GDBS[program], "module.py", (HOST, out, "strcmp"))
    assert out.exists(), printed
    stop = json.loads(out.read_text())
    drgns = [row for row in stop["drgns"][0]["frames"] if row["offset"] is not None]
    names = [row["name"] for row in drgns]
    assert names[:3] == ["strcmp", "nk_fail_init", "do_one_initcall"]
    ours = [(rip, rsp) for rip, rsp, _ in stop["ours"]]
    assert ours[: len(drgns)] == [(row["pc"], row["sp"]) for row in drgns]
    assert len(ours) == len(drgns) + 1  # and the user's
