# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs at their shells: one for all that only look or type, one to be copied."""

import pytest

from tests.boot.shells_of_pair import Shells
from tests.failures.copies import Booted


@pytest.fixture(scope="session")
def shells() -> Shells:
    """Boot it."""
    return Shells()


@pytest.fixture(scope="session")
def booted() -> Booted:
    """Boot another, with a module at hand that fails as it is told; to be copied."""
    return Booted()
