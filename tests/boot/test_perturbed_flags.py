# SPDX-License-Identifier: GPL-2.0-or-later
"""A debugger in the middle of code whose flags would tell where blocks end."""

import random
from itertools import product
from pathlib import Path

import pytest

from nanokernel_vm.machine import Machine
from tests.boot.perturb import GRID, Perturber, fingerprint, prepare, run_plainly
from tests.guests import pair
from tests.unit.vm.test_cuts import BIT_TESTS, OTHERS, SETTERS, program

END = 5 * GRID


def endless(seed: int) -> str:
    """Cases without end, every flag of which is kept in memory."""
    cases = random.Random(seed).sample(
        list(product(SETTERS, [*BIT_TESTS, *OTHERS])), 400
    )
    start, _, rest = program(cases).partition("    die\n")
    return f"{start}    jmp main\n{rest}"


def machine(folder: Path) -> Machine:
    machine = pair(folder, endless(1), endless(2))
    prepare(machine, {})
    return machine


@pytest.mark.parametrize("seed", range(3))
def test_bit_tests_do_not_show_a_debugger(tmp_path: Path, seed: int) -> None:
    plain, perturbed = machine(tmp_path), machine(tmp_path)
    run_plainly(plain, END)
    perturber = Perturber(perturbed, END, seed, 200_000)
    perturber.run()
    assert perturber.done["steps"] > 100
    assert perturber.done["hits"] > 10
    assert fingerprint(perturbed) == fingerprint(plain)
