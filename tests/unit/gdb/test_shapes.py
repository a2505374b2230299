# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pretty printers say, on made-up memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nk.shapes import (
    NODES_MAX,
    BrokenList,
    chain,
    count,
    cpu_list,
    flags,
    nodes,
    origin,
    owner,
    rwsem,
    spinlock,
    state,
)


def ring(addresses: list[int]) -> dict[int, tuple[int, int]]:
    """A list_head at each address, linked in this order."""
    after = addresses[1:] + addresses[:1]
    before = addresses[-1:] + addresses[:-1]
    return {a: (n, p) for a, n, p in zip(addresses, after, before, strict=True)}


@given(st.lists(st.integers(1, 1 << 48), min_size=1, max_size=50, unique=True))
def test_a_list_yields_all_but_its_head(addresses: list[int]) -> None:
    memory = ring(addresses)
    assert list(nodes(addresses[0], memory.__getitem__)) == addresses[1:]


def test_a_list_that_does_not_link_back_is_broken() -> None:
    memory = ring([16, 32, 48, 64])
    memory[48] = (64, 0xDEAD)
    found = nodes(16, memory.__getitem__)
    assert next(found) == 32
    with pytest.raises(BrokenList, match="0x30's prev is 0xdead, not 0x20"):
        next(found)


def test_a_list_without_an_end_is_cut() -> None:
    found = sum(1 for _ in nodes(0, lambda a: (a + 16, max(a - 16, 0))))
    assert found == NODES_MAX
    assert count(found, "node") == "1000 or more nodes"
    assert sum(1 for _ in chain(1, lambda a: a + 1)) == NODES_MAX


def test_an_hlist_ends_with_null() -> None:
    assert list(chain(16, {16: 32, 32: 0}.__getitem__)) == [16, 32]
    assert count(1, "node") == "1 node"


def test_cpus_are_ranges_below_what_there_is_room_for() -> None:
    assert cpu_list([0b1101, 1]) == "0,2-3,64"
    assert cpu_list([1, 0, (1 << 64) - 1], 1) == "0"
    assert cpu_list([0]) == "none"


@given(st.sets(st.integers(0, 127)))
def test_ranges_hold_exactly_the_bits(bits: set[int]) -> None:
    text = cpu_list([sum(1 << b % 64 for b in bits if b // 64 == n) for n in (0, 1)])
    read: set[int] = set()
    for part in text.split(",") if bits else ():
        low, _, high = part.partition("-")
        read.update(range(int(low), int(high or low) + 1))
    assert read == bits


@pytest.mark.parametrize(
    ("word", "left", "letter"),
    [(0, 0, "R"), (1, 0, "S"), (2, 0, "D"), (0x402, 0, "I"), (4, 0, "T"),
     (0, 0x20, "Z"), (0x80, 0x10, "X"), (0x40, 0, "P")],
)  # fmt: skip
def test_states_are_those_of_ps(word: int, left: int, letter: str) -> None:
    assert state(word, left) == letter


def test_words_of_locks() -> None:
    assert owner(0xFFFF_8880_0012_3003) == 0xFFFF_8880_0012_3000
    assert rwsem(0) == "unlocked"
    assert rwsem(3) == "locked for writing, others wait"
    assert rwsem(0x302) == "locked by 3 readers, others wait"
    assert spinlock(0) == "unlocked"
    assert spinlock(1) == "locked"
    assert spinlock(0x101) == "locked, one waits"
    assert spinlock(0x8_0001) == "locked, queue ends at CPU 1"


def test_registers_tell_what_made_them() -> None:
    assert origin(57, 0x33) == "user, system call or error code 57"
    assert origin((1 << 64) - 1, 0x10) == "kernel, interrupt or exception"
    assert origin((1 << 64) - 49, 0x33) == "user, interrupt or exception (-49)"
    assert flags(0x246) == "PF ZF IF"
