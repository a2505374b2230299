# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever is typed behind ``monitor`` is answered with text."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanokernel_vm.debug.monitor import COMMANDS, Monitor
from tests.guests import pair

# Numbers at every edge that a reader of numbers, C or Python may have.
EDGES = [0, 7, 15, 31, 32, 47, 63, 64, 65, 127, 1000]
NUMBERS = [sign * (1 << n) + d for n in EDGES for sign in (1, -1) for d in (-1, 0, 1)]
OTHERS = ("-p", "-j", "-a", "-", "--", "host", "guest", "nobody", "nan", "1e5")
ODD = ("1_0", "\u0661\u0662", "\xb2", "0b2", "0o9", "\0", "\udcff", "9" * 5000)
WORDS = st.sampled_from(
    [*map(str, NUMBERS), *map(hex, NUMBERS), "0x" + "f" * 5000, *OTHERS, *ODD]
)
LINES = st.lists(WORDS, max_size=4).map(" ".join)


@pytest.fixture(scope="module")
def monitor() -> Monitor:
    with TemporaryDirectory() as folder:
        machine = pair(Path(folder), "main: sti\nhlt", "main: sti\nhlt")
    return Monitor(machine)


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from([*COMMANDS, ""]), LINES, st.booleans())
def test_every_line_is_answered(
    monitor: Monitor, name: str, words: str, read_only: bool
) -> None:
    partition = monitor._session.machine.partitions[0]
    line = f"{name} {words}"
    text = monitor.run(partition, line, read_only=read_only)
    assert text.endswith("\n")
    assert len(text) < 0x20000
    if "-j" in line.split() and name:
        json.loads(text)
