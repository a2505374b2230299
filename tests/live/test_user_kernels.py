# SPDX-License-Identifier: GPL-2.0-or-later
"""gdb on kernels that users have, booted as they lie in /boot with Linux's defaults."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import kernels
from tests.live.busy import BusyMachine
from tests.live.mi import GDBS, Gdb
from tests.live.process import NkRun
from tests.live.test_backtraces import compare


@pytest.fixture(scope="module", params=kernels.NAMES)
def machine_file(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    image = kernels.vmlinuz(str(request.param))
    return kernels.description(tmp_path_factory.mktemp("machine"), image)


@pytest.fixture(scope="module")
def hard_at_work(machine_file: Path) -> BusyMachine:
    return BusyMachine(machine_file)


@pytest.fixture(scope="module")
def booted(machine_file: Path) -> Iterator[NkRun]:
    with NkRun(machine=machine_file) as run:
        run.wait_for_shells()
        yield run


def test_backtraces_are_drgns(
    hard_at_work: BusyMachine, program: str, tmp_path: Path
) -> None:
    compare(hard_at_work, program, 1, tmp_path / "levels")
