# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/machine.md is what the reader of machine files asks for, and nothing else."""

from collections.abc import Sequence

import pytest

from nanokernel_vm.config import ALIGNMENT
from nanokernel_vm.devices.chips import CHIPS
from nanokernel_vm.reference import (
    CHIP_TEXTS,
    DOCUMENT,
    TABLES,
    accepts,
    asked,
    document,
    with_key,
)

ASKED = asked()
KEYS = [(name, path, key) for name, (path, keys) in TABLES.items() for key in keys]
# What is whole numbers of something within its limits, and what else limits it
STEP = {"base": ALIGNMENT, "size": ALIGNMENT}
BELOW = {"base": ALIGNMENT}  # there must be room for a window above it


def test_the_document_is_current() -> None:
    assert DOCUMENT.read_text() == document(), "run python -m nanokernel_vm.reference"


def test_what_is_asked_for_is_what_is_listed() -> None:
    listed = {(name, key) for name, _, key in KEYS}
    tables = {("", "machine"), ("", "partition"), ("partition", "NAME")}
    assert set(ASKED) - tables == listed
    assert list(CHIP_TEXTS) == list(CHIPS)


@pytest.mark.parametrize(
    ("path", "key", "limits"),
    [(p, k, ASKED[n, k].limits) for n, p, k in KEYS if ASKED[n, k].limits],
)
def test_limits_are_where_they_are_said_to_be(
    path: Sequence[str | int], key: str, limits: tuple[int, int]
) -> None:
    low, high = limits
    step = STEP.get(key, 1)
    for value in (low, high - BELOW.get(key, 0)):
        assert accepts(with_key(path, key, value))
    for value in (low - step, high + step):
        assert not accepts(with_key(path, key, value))


@pytest.mark.parametrize(
    ("path", "key", "default"),
    [
        (p, k, ASKED[n, k].default)
        for n, p, k in KEYS
        if ASKED[n, k].default is not None
    ],
)
def test_a_default_may_be_written_out(
    path: Sequence[str | int], key: str, default: object
) -> None:
    assert accepts(with_key(path, key, default))
    assert accepts(with_key(path, key, None))


def test_other_keys_are_refused() -> None:
    for path, _ in TABLES.values():
        assert not accepts(with_key(path, "other", 1))
