# SPDX-License-Identifier: GPL-2.0-or-later
"""One machine for all that leave it whole; a gdb of each kind attached to it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.failures import host
from tests.live.busy import BusyMachine
from tests.live.mi import GDBS, Gdb, available
from tests.live.process import NkRun, build

PROGRAMS = Path(__file__).with_name("programs")


@pytest.fixture(scope="session")
def machine() -> Iterator[NkRun]:
    """Both kernels at their shells.  Wreck one of your own instead."""
    build()
    with NkRun() as run:
        run.wait_for_shells()
        yield run


@pytest.fixture(scope="session")
def busy(tmp_path_factory: pytest.TempPathFactory) -> BusyMachine:
    """Both kernels at work in this process, each with a program that raises all
    exceptions it can, the host with a module at hand, too.
    """
    build()
    at = tmp_path_factory.mktemp("busy")
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-O1", "-static", "-s"]
    subprocess.check_call([*command, "-o", at / "traps", PROGRAMS / "traps.c"])
    return BusyMachine(host.description(at, {"traps": (at / "traps").read_bytes()}))


@pytest.fixture(scope="module", params=GDBS)
def program(request: pytest.FixtureRequest) -> str:
    """A gdb of each kind, by name."""
    name = str(request.param)
    if not available(GDBS[name]):
        pytest.skip(f"no gdb at {GDBS[name]}")
    return name


@pytest.fixture(scope="module")
def attached(machine: NkRun, program: str) -> Iterator[Gdb]:
    """Attach a gdb once for all tests of a module."""
    debugger = Gdb(GDBS[program])
    debugger.attach(machine.address)
    yield debugger
    debugger.close()


@pytest.fixture
def gdb(attached: Gdb) -> Iterator[Gdb]:
    """Give the attached gdb as new: the host current, nothing set."""
    attached.inferior(1)
    yield attached
    if attached.running:
        attached.interrupt()
    attached("delete")
    attached("set schedule-multiple off")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all that is here."""
    for item in items:
        if "/live/" in str(item.path):
            item.add_marker(pytest.mark.gdb)
