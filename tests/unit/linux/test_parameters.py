# SPDX-License-Identifier: GPL-2.0-or-later
"""Where arguments are, by the examples of the psABI's rules."""

import pytest

from nanokernel_vm.linux.btf import Btf
from nanokernel_vm.linux.parameters import locations
from tests.unit.linux.btf_types import Types

# DW_OP_reg of rdi, rsi, rdx, rcx, r8, r9
RDI, RSI, RDX, RCX, R8, R9 = "55", "54", "51", "52", "58", "59"
STACK, STACK8, STACK24 = "9c2300", "9c2308", "9c2318"


@pytest.mark.parametrize(
    ("arguments", "places"),
    [
        ("", []),
        ("p", [RDI]),
        ("pib", [RDI, RSI, RDX]),
        ("iiiiiiii", [RDI, RSI, RDX, RCX, R8, R9, STACK, STACK8]),
        ("sp", [RDI, RSI]),  # a struct of 8 bytes is an integer
        ("dp", ["559308549308", RDX]),  # one of 16 takes two registers
        ("iiiiidi", [RDI, RSI, RDX, RCX, R8, STACK, R9]),  # or, at the end, none
        ("gi", [STACK, RDI]),  # one of 24 lies on the stack
        ("iiiiiigi", [RDI, RSI, RDX, RCX, R8, R9, STACK, STACK24]),
        ("p.", [RDI, None]),  # ...
        ("pqp", [RDI, None, None]),  # __int128: not told, nor what follows
    ],
)
def test_places(arguments: str, places: list[str | None]) -> None:
    types = Types()
    number = types.number("int", 4)
    kinds = {
        "i": number,
        "b": types.number("_Bool", 1),
        "p": types.pointer(0),
        "q": types.number("__int128", 16),
        "s": types.struct("pte_t", 8, ("pte", number, 0)),
        "d": types.struct("sockptr_t", 16, ("kernel", number, 0)),
        "g": types.struct("big", 24, ("words", number, 0)),
        ".": 0,
    }
    prototype = types.prototype(0, *(("x", kinds[letter]) for letter in arguments))
    btf = Btf(types.data())
    found = locations(btf, btf.types[prototype])
    assert [place and place.hex() for place in found] == places
