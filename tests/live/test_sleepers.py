# SPDX-License-Identifier: GPL-2.0-or-later
"""Stacks of sleeping tasks: drgn's, and gdb's when one is switched to."""

import json
from pathlib import Path

import pytest

from tests.live.busy import NAMES, BusyMachine
from tests.live.mi import GDBS

SWITCHES = 12
USER_END = 1 << 47


@pytest.mark.parametrize("pid", NAMES, ids=NAMES.values())
def test_what_sleeps_wakes_where_it_was_seen(
    busy: BusyMachine, program: str, pid: int, tmp_path: Path
) -> None:
    out = tmp_path / "switches"
    busy.work(NAMES[pid])
    printed = busy.debug(GDBS[program], "sleepers.py", (pid, SWITCHES, out))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == SWITCHES, printed
    for row in rows:
        drgns = [(f["pc"], f["sp"]) for f in row["asleep"] if f["offset"] is not None]
        ours = [(rip, rsp) for rip, rsp, _ in row["awake"]]
        assert ours[: len(drgns)] == drgns
        assert all(rip < USER_END for rip, _ in ours[len(drgns) :])
    assert len({row["pid"] for row in rows}) > 1
