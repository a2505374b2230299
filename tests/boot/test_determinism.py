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
END = 400 * TICKS_PER_MS  # the guest answers at its shell, the host is in mid-boot
TYPED = {340 * TICKS_PER_MS: ("guest", b"cat /proc/interrupts\n")}
PATIENCE = 120  # seconds


def _machine() -> Machine:
    machine = Machine(load(PAIR), warp=True)
    prepare(machine, TYPED)
    return machine


@cache
def _undisturbed() -> dict[str, object]:
    machine = _machine()
    run_plainly(machine, END)
    return fingerprint(machine)


def test_the_run_to_compare_with_is_worth_it() -> None:
    run = _undisturbed()
    assert b"guest ready" in bytes(str(run["guest console"]), "ascii")
    assert "CPU0" in str(run["guest console"])  # what was typed has been carried out


@pytest.mark.parametrize("seed", [1, 2])
def test_a_debugger_disturbs_nothing(seed: int) -> None:
    machine = _machine()
    perturber = Perturber(machine, END, seed, pace=2 * TICKS_PER_MS // 5)
    perturber.run()
    print(f"seed {seed}: {dict(perturber.done)}")
    assert perturber.done["stops"] > 100
    assert perturber.done["steps"] > 1000
    assert fingerprint(machine) == _undisturbed()


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
