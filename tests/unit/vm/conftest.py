# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine of two tiny guests, described and loaded as any other."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from nanokernel_vm.machine import Machine
from tests.guests import pair

Build = Callable[..., Machine]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Make a machine of two programs: host below, with a PC's clock, and guest."""
    return partial(pair, tmp_path)
