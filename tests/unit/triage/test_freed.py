# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a hidden free-list link stands, against SLUB's own formula."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanokernel_vm.triage.freed import link_places, poison

BASES = (0xFFFF888000000000, 0xFFFF9D1340000000, 0xFF11000000000000)
_RAM = 1 << 34


def hidden(following: int, place: int, secret: int) -> int:
    """mm/slub.c: freelist_ptr."""
    return following ^ secret ^ int.from_bytes(place.to_bytes(8, "little"), "big")


@given(
    st.sampled_from(BASES),
    st.integers(0, _RAM >> 15).map(lambda slab: slab << 15),
    st.integers(0, 4095).map(lambda word: word * 8),
    st.integers(0, 4095).map(lambda word: word * 8),
    st.integers(0, (1 << 64) - 1),
)
def test_the_place_is_found_again(
    base: int, slab: int, at: int, other: int, secret: int
) -> None:
    place, following = base + slab + at, base + slab + other
    assert place in link_places(hidden(following, place, secret) ^ secret, base)
    assert place in link_places(hidden(0, place, secret) ^ secret, base)


@given(st.integers(0, (1 << 64) - 1), st.sampled_from(BASES))
def test_every_place_explains_the_word(word: int, base: int) -> None:
    for place in link_places(word, base):
        following = hidden(word, place, 0)
        assert place % 8 == 0
        assert base <= place < base + (1 << 36)
        assert following == 0 or base <= following < base + (1 << 36)


@pytest.mark.parametrize(
    ("pointer", "word"),
    [
        (0x6B6B6B6B6B6B6B6B, "POISON_FREE"),
        (0x6B6B6B6B6B6B6BAB, "POISON_FREE"),
        (0xDEAD000000000100, "LIST_POISON"),
        (0xDEAD000000000122 + 8, "LIST_POISON"),
    ],
)
def test_poison_speaks_for_itself(pointer: int, word: str) -> None:
    assert word in poison([0, pointer])


def test_ordinary_pointers_are_no_poison() -> None:
    assert poison([0, 0x6B, 0xFFFF888004BA7150, 0x7FFFFFFFFFFF, 1 << 63]) == ""
