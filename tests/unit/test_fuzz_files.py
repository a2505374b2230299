# SPDX-License-Identifier: GPL-2.0-or-later
"""A short campaign of mutated files for each loader; ``tests/fuzz`` runs long ones."""

import random
from pathlib import Path

import pytest

from tests.fuzz.files import LOADERS, check, mutate

ROUNDS = 300


@pytest.mark.parametrize("name", LOADERS)
def test_a_seed_loads(name: str, tmp_path: Path) -> None:
    assert check(name, LOADERS[name].seed(tmp_path), tmp_path)


@pytest.mark.parametrize("name", LOADERS)
def test_a_mutated_file_is_taken_or_refused_in_words(name: str, tmp_path: Path) -> None:
    seed = LOADERS[name].seed(tmp_path)
    rng = random.Random(name)
    taken = [check(name, mutate(seed, rng), tmp_path) for _ in range(ROUNDS)]
    assert 0 < sum(taken) < ROUNDS  # it takes some, and not all


def test_a_mutation_is_the_seeds_own() -> None:
    content = bytes(range(256)) * 8
    first = [mutate(content, random.Random(n)) for n in range(100)]
    assert first == [mutate(content, random.Random(n)) for n in range(100)]
    assert len(set(first)) > 90
