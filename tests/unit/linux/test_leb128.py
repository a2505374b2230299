# SPDX-License-Identifier: GPL-2.0-or-later
"""LEB128 by DWARF's own examples and by what pyelftools reads back."""

import io

import pytest
from elftools.common.construct_utils import SLEB128, ULEB128
from hypothesis import given
from hypothesis import strategies as st

from nanokernel_vm.linux.leb128 import sleb, uleb


# DWARF 5, figures C.1 and C.2.
@pytest.mark.parametrize(
    ("value", "encoded"), [(2, "02"), (127, "7f"), (128, "8001"), (12857, "b964")]
)
def test_unsigned_examples(value: int, encoded: str) -> None:
    assert uleb(value).hex() == encoded


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (2, "02"),
        (-2, "7e"),
        (127, "ff00"),
        (-127, "817f"),
        (128, "8001"),
        (-128, "807f"),
    ],
)
def test_signed_examples(value: int, encoded: str) -> None:
    assert sleb(value).hex() == encoded


@given(st.integers(0, 2**64 - 1))
def test_unsigned_is_read_back(value: int) -> None:
    assert ULEB128("n").parse_stream(io.BytesIO(uleb(value))) == value


@given(st.integers(-(2**63), 2**63 - 1))
def test_signed_is_read_back(value: int) -> None:
    assert SLEB128("n").parse_stream(io.BytesIO(sleb(value))) == value
