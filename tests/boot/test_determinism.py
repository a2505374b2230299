# SPDX-License-Identifier: GPL-2.0-or-later
"""The same machine, the same run, whatever the host, the scheduler or gdb do."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from nanokernel_vm.clock import TICKS_PER_MS
from nanokernel_vm.config import load
from nanokernel_vm.machine import Machine
from tests.boot.perturb import Perturber, fingerprint, prepare, run_plainly

pytestmark = pytest.mark.boot

PAIR = Path(__file__).parents[2] / "examples" / "two-linuxes.toml"
PATIENCE = 600  # seconds

# At the middle the guest has answered at its shell and the host is in early boot; at
# the end the host has answered at its own.
MIDDLE, LATE, END = 460 * TICKS_PER_MS, 3100 * TICKS_PER_MS, 3520 * TICKS_PER_MS
# Accessed bits that Linux has cleared show what the TLB holds.
_REFERENCED = b"echo 1 > /proc/$$/clear_refs; grep Referenced /proc/$$/smaps\n"
TYPED = {
    240 * TICKS_PER_MS: ("guest", b"cat /proc/interrupts; " + _REFERENCED),
    3360 * TICKS_PER_MS: ("host", b"cat /proc/interrupts; " + _REFERENCED),
}


def _machine() -> Machine:
    machine = Machine(load(PAIR), warp=True)
    prepare(machine, TYPED)
    return machine


@cache
def _undisturbed(end: int) -> dict[str, object]:
    machine = _machine()
    run_plainly(machine, end)
    return fingerprint(machine)


@pytest.mark.parametrize(("name", "end"), [("guest", MIDDLE), ("host", END)])
def test_the_run_to_compare_with_is_worth_it(name: str, end: int) -> None:
    """It has interrupts, user programs, and what was typed has been carried out."""
    run = _undisturbed(end)
    printed = str(run[f"{name} console"])
    assert f"{name} ready" in printed
    assert "CPU0" in printed
    assert "Referenced: " in printed
    delivered = run[f"{name} delivered"]
    assert isinstance(delivered, int)
    assert delivered > 500


@pytest.mark.parametrize(
    ("begin", "end", "seed", "microseconds"),
    [
        (0, MIDDLE, 1, 200),
        (0, MIDDLE, 2, 200),
        (LATE, END, 3, 400),
        (0, END, 4, 20_000),
    ],
    ids=["boot", "boot again", "host's user space", "all of it"],
)
def test_a_debugger_disturbs_nothing(
    begin: int, end: int, seed: int, microseconds: int
) -> None:
    """Stops, steps, breakpoints, watchpoints, reads, quanta, flushes, Ctrl-C."""
    machine = _machine()
    run_plainly(machine, begin)
    pace = TICKS_PER_MS * microseconds // 1000
    perturber = Perturber(machine, end, seed, pace)
    perturber.run()
    print(f"seed {seed}: {dict(perturber.done)}")
    assert perturber.done["stops"] > 100
    assert perturber.done["steps"] > 100
    assert fingerprint(machine) == _undisturbed(end)


def test_a_hook_that_counts_every_block_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where translated code cannot count itself (cpu/counting.py)."""
    monkeypatch.setattr("nanokernel_vm.cpu.engine.can_count", lambda: False)
    machine = _machine()
    run_plainly(machine, MIDDLE)
    assert fingerprint(machine) == _undisturbed(MIDDLE)


def test_three_runs_end_with_the_same_digest() -> None:
    command: list[str | Path] = [
        *(Path(sys.executable).with_name("nk"), "run", PAIR, "--warp", "--no-gdb"),
        *("--until", "guest:guest# ", "--digest", "--json"),
    ]
    runs = [
        subprocess.run(
            command, capture_output=True, check=True, timeout=PATIENCE
        ).stdout
        for _ in range(3)
    ]
    assert b'"ram"' in runs[0]
    assert runs[0] == runs[1] == runs[2]
