# SPDX-License-Identifier: GPL-2.0-or-later
"""What every device under test hangs on: a clock set by hand, a line that remembers."""

import pytest


class ManualClock:
    def __init__(self) -> None:
        self.ticks = 0

    def now(self) -> int:
        return self.ticks


class Line:
    """Records the changes of a level."""

    def __init__(self) -> None:
        self.level = False
        self.rises = 0

    def __call__(self, level: bool) -> None:
        self.rises += level and not self.level
        self.level = level


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def line() -> Line:
    return Line()
