# SPDX-License-Identifier: GPL-2.0-or-later
"""From a frame to its caller, rule by rule."""

from struct import pack

import pytest
from nk import orc
from nk.callers import PT_REGS, caller
from nk.orc import Rule

STACK = 0xFFFF_C900_0000_0000


def memory(words: list[int]) -> orc.Read:
    data = pack(f"<{len(words)}Q", *words)
    return lambda addr, n: data[addr - STACK : addr - STACK + n]


def rule(kind: int, base: int, offset: int, bp: tuple[int, int] = (0, 0)) -> Rule:
    return Rule(kind, base, offset, *bp, False)


REGISTERS = {"rsp": STACK, "rbp": STACK + 8, "cs": 16, "ss": 24, "rax": STACK + 16}


@pytest.mark.parametrize(
    ("how", "cfa"),
    [
        (rule(orc.CALL, orc.SP, 16), 16),
        (rule(orc.CALL, orc.BP, 16), 24),
        (rule(orc.CALL, orc.SP_INDIRECT, 8), 48),
        (rule(orc.CALL, orc.BP_INDIRECT, -8), 40),
    ],
)
def test_a_call(how: Rule, cfa: int) -> None:
    read = memory([STACK + 40, 111, 222, 333, 444, 555])
    found = caller(how, REGISTERS.__getitem__, read)
    assert found is not None
    assert found.identity == found.saved["rsp"] == STACK + cfa
    assert found.saved["rip"] == int.from_bytes(read(STACK + cfa - 8, 8), "little")
    assert not found.interrupted
    assert (found.saved["cs"], found.saved["ss"]) == (16, 24)


@pytest.mark.parametrize(
    ("bp", "value"),
    [
        ((orc.UNDEFINED, 0), STACK + 8),
        ((orc.PREV_SP, -16), 111),
        ((orc.BP, 8), 222),
    ],
)
def test_rbp(bp: tuple[int, int], value: int) -> None:
    how = rule(orc.CALL, orc.SP, 24, bp)
    found = caller(how, REGISTERS.__getitem__, memory([0, 111, 222]))
    assert found is not None
    assert found.saved["rbp"] == value


def test_all_registers_of_what_was_interrupted() -> None:
    words = list(range(100, 100 + len(PT_REGS)))
    found = caller(rule(orc.REGS, orc.SP, 0), REGISTERS.__getitem__, memory(words))
    assert found is not None
    expected = dict(zip(PT_REGS, words, strict=True))
    del expected["orig_rax"]
    assert found.saved == expected
    assert found.interrupted
    assert found.identity == STACK + 168


def test_what_is_not_saved_yet_is_live_where_it_is_known() -> None:
    how = rule(orc.REGS_PARTIAL, orc.SP, 8)
    found = caller(how, REGISTERS.__getitem__, memory([0, 1, 2, 3, 4, 5]))
    assert found is not None
    assert found.saved == {
        "rip": 1, "cs": 2, "eflags": 3, "rsp": 4, "ss": 5,
        "rbp": STACK + 8, "rax": STACK + 16,
    }  # fmt: skip


def test_the_identity_is_the_same_all_through_an_entry() -> None:
    partly = rule(orc.REGS_PARTIAL, orc.SP, 128)
    found = [
        caller(how, REGISTERS.__getitem__, memory([0] * 21))
        for how in (partly, rule(orc.REGS, orc.SP, 0))
    ]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].identity == found[1].identity


def test_nobody_called() -> None:
    assert (
        caller(rule(orc.CALL, orc.UNDEFINED, 0), REGISTERS.__getitem__, memory([]))
        is None
    )
