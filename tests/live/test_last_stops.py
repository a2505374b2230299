# SPDX-License-Identifier: GPL-2.0-or-later
"""Where kernels die, on whatever stack: gdb's backtraces are drgn's, and whole."""

import json
from pathlib import Path

import pytest

from tests.failures import host
from tests.live.busy import BusyMachine
from tests.live.mi import GDBS

USER_END = 1 << 47
DEATHS = [
    (1, "host", "insmod /nk_fail.ko how=stack", "exc_double_fault", "fail_stack"),
    (2, "guest", "echo c >/proc/sysrq-trigger", "panic", "sysrq_handle_crash"),
]


@pytest.fixture(scope="module")
def doomed(program: str, tmp_path_factory: pytest.TempPathFactory) -> BusyMachine:
    """One for each gdb; both kernels are let die."""
    return BusyMachine(host.description(tmp_path_factory.mktemp("doomed")))


@pytest.mark.parametrize(
    ("pid", "name", "command", "function", "culprit"), DEATHS, ids=["stack", "panic"]
)
def test_the_last_backtrace_is_whole(
    doomed: BusyMachine,
    program: str,
    pid: int,
    name: str,
    command: str,
    function: str,
    culprit: str,
    tmp_path: Path,
) -> None:
    out = tmp_path / "stop"
    doomed.work(name, command)
    printed = doomed.debug(GDBS[program], "place.py", (pid, out, function))
    assert out.exists(), printed
    stop = json.loads(out.read_text())
    drgns = [row for row in stop["drgns"][0]["frames"] if row["offset"] is not None]
    names = [row["name"] for row in drgns]
    assert names[0] == function
    assert culprit in names
    ours = [(rip, rsp) for rip, rsp, _ in stop["ours"]]
    assert ours[: len(drgns)] == [(row["pc"], row["sp"]) for row in drgns]
    assert [rip < USER_END for rip, _ in ours[len(drgns) :]] == [True]
