# SPDX-License-Identifier: GPL-2.0-or-later
"""One pair at its shells for all that only look or type."""

import pytest

from tests.boot.shells_of_pair import Shells


@pytest.fixture(scope="session")
def shells() -> Shells:
    """Boot it."""
    return Shells()
