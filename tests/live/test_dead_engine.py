# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine of one kernel dies under a program: gdb looks at it and at the other."""

import json
from pathlib import Path
from typing import Any

import pytest

from nanokernel_vm.partition import Condition
from tests.boot.programs.typed import ENTRY, commands
from tests.failures import host
from tests.live.busy import NAMES, BusyMachine
from tests.live.mi import GDBS
from tests.live.process import build

LOCK_BTS = b"\xf0\x0f\xab\xe3"  # what the engine dies of if its rule is off
SET_RBX = b"\xbb\x42\x00\x00\x00"


@pytest.fixture(scope="module", params=NAMES.values())
def wreck(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[BusyMachine, int]:
    """The pair at work, and the inferior whose engine has died."""
    build()
    name = str(request.param)
    busy = BusyMachine(host.description(tmp_path_factory.mktemp("wreck")))
    (pid,) = (pid for pid, each in NAMES.items() if each == name)
    partition = busy.machine.partitions[pid - 1]
    partition.engine.core.lenient = True
    busy.work(name, "; ".join([*commands(SET_RBX + LOCK_BTS, "/x"), "/x"]))
    while partition.alive:
        busy.machine.run(busy.machine.partitions)
    assert partition.condition is Condition.FAILED
    return busy, pid


def test_gdb_sees_the_dead_and_the_living(
    wreck: tuple[BusyMachine, int], program: str, tmp_path: Path
) -> None:
    busy, pid = wreck
    other = 3 - pid
    out = tmp_path / "found"
    printed = busy.debug(GDBS[program], "dead_engine.py", (out, pid, other))
    assert out.exists(), printed
    found = json.loads(out.read_text())
    _shows_the_death(found["before"], NAMES[pid])
    assert not found["continued"].startswith("BreakpointEvent")
    _shows_the_death(found["after"], NAMES[pid])
    assert (found["before"]["rbx"], found["after"]["rbx"]) == (0x42, 0x1234)
    busy.machine.partitions[pid - 1].engine.state.regs[3] = 0x42
    busy.machine.partitions[pid - 1].engine.put_state()
    assert found["living"] == ["BreakpointEvent in vfs_read"] * 3


def _shows_the_death(seen: dict[str, Any], name: str) -> None:
    assert seen["rip"] == ENTRY + len(SET_RBX)
    assert bytes(seen["code"]) == LOCK_BTS
    assert f"{name}/cpu0" in seen["threads"]
    assert "died of abort() translating f0 0f ab e3" in seen["threads"]
    assert "(has the CPU)" in seen["tasks"]
    assert "failed" in seen["partitions"]
