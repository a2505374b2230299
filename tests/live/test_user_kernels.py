# SPDX-License-Identifier: GPL-2.0-or-later
"""gdb on kernels that users have, booted as they lie in /boot with Linux's defaults."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanokernel_vm.cli.gdb import ENTRY
from nanokernel_vm.symbols import symbol_file
from tests import kernels
from tests.live.busy import BusyMachine
from tests.live.mi import GDBS, Gdb
from tests.live.process import NkRun
from tests.live.test_backtraces import compare
from tests.live.test_entries import BUSY, PLAIN, passages


@pytest.fixture(scope="module", params=kernels.IN_GDB)
def machine_file(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    image = kernels.vmlinuz(str(request.param))
    symbol_file(image)  # made before anything waits for it
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


@pytest.fixture(scope="module")
def attached(booted: NkRun, program: str) -> Iterator[Gdb]:
    debugger = Gdb(GDBS[program])
    debugger(f"source {ENTRY}")
    debugger.attach(booted.address)
    yield debugger
    debugger.close()


def test_types_and_variables_have_names(gdb: Gdb) -> None:
    assert gdb("p init_task.comm").startswith('$1 = "swapper/0\\000')
    assert '"Linux version 6.1' in gdb("p linux_banner")
    assert "struct list_head tasks;" in gdb("ptype struct task_struct")


def test_a_backtrace_goes_through_an_interrupt(gdb: Gdb) -> None:
    gdb.alone(1)
    gdb("tbreak update_process_times")
    stop = gdb.resume("continue")
    assert stop.function == "update_process_times"
    (stack,) = json.loads(gdb("nk bt -j"))
    drgns = [frame["name"] for frame in stack["frames"] if frame["name"]]
    at = drgns.index("asm_common_interrupt")
    assert len(drgns) > at + 1
    # The scripts show the entries as what came in there.
    entries = ("asm_", "entry_SYSCALL_64")
    ours = [name for name in gdb.frames() if not name.startswith(("0x", "<", "?"))]
    assert ours == [name for name in drgns if not name.startswith(entries)]


def test_every_nk_command_answers(gdb: Gdb) -> None:
    for name in ("ps", "bt", "bt -a", "runq", "locks", "dmesg 5", "sysinfo", "irq",
                 "meminfo", "modules", "pte $rip", "handlers", "irqlog", "triage",
                 "partitions", "frame"):  # fmt: skip
        text = gdb(f"nk {name}")
        assert text, name
        assert "no sense" not in text, name


def test_values_are_printed_for_people(gdb: Gdb) -> None:
    assert re.fullmatch(r"0x\w+ 0 \(swapper/0\) R", gdb("output &init_task"))
    assert gdb("output init_task.sighand->siglock")
    assert gdb("output init_mm.mmap_lock")
    assert gdb("output *(struct mutex *) &clocksource_mutex") == "unlocked mutex"


def test_who_was_entered_is_never_lost(
    hard_at_work: BusyMachine, program: str, tmp_path: Path
) -> None:
    """Through the entries' own page tables and stacks, too."""
    passages(hard_at_work, program, "host", (*PLAIN, *BUSY), tmp_path / "rows")
