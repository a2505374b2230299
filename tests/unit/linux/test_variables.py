# SPDX-License-Identifier: GPL-2.0-or-later
"""C types are found in BTF by their spelling."""

import pytest

from nanokernel_vm.linux.btf import Btf, Kind
from nanokernel_vm.linux.variables import find_type
from tests.unit.linux.btf_types import SIGNED, Types


@pytest.fixture
def btf() -> Btf:
    types = Types()
    number = types.number("int", 4, SIGNED)
    types.number("long unsigned int", 8)
    types.number("char", 1, SIGNED)
    types.add(Kind.TYPEDEF, "u32", number)
    types.struct("task_struct", 64)
    types.enum("counts", ("NR_THINGS", 7))
    return Btf(types.data())


def shape(btf: Btf, number: int) -> list[str]:
    """Kinds and counts from the outside in, then the name."""
    type_ = btf.types[number]
    match type_.kind:
        case Kind.VOID:
            return ["void"]
        case Kind.ARRAY:
            return [f"[{type_.rows[0][2]}]", *shape(btf, type_.rows[0][0])]
        case Kind.PTR | Kind.CONST | Kind.VOLATILE:
            return [type_.kind.name, *shape(btf, type_.value)]
        case _:
            return [btf.name(type_.name)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int", ["int"]),
        ("u32", ["u32"]),
        ("unsigned long", ["long unsigned int"]),
        ("struct task_struct", ["task_struct"]),
        ("struct task_struct **", ["PTR", "PTR", "task_struct"]),
        ("void *", ["PTR", "void"]),
        ("volatile unsigned long", ["VOLATILE", "long unsigned int"]),
        ("const char []", ["[24]", "CONST", "char"]),
        ("int []", ["[6]", "int"]),
        ("int [4]", ["[4]", "int"]),
        ("char * [NR_THINGS]", ["[7]", "PTR", "char"]),
    ],
)
def test_types(btf: Btf, text: str, expected: list[str]) -> None:
    number = find_type(btf, text, 24)
    assert number is not None
    assert shape(btf, number) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("struct gone", "union task_struct", "gone_t", "const gone_t", "gone_t *"),
        *("int [NR_GONE]", "struct gone []"),
    ],
)
def test_types_that_this_kernel_does_not_have(btf: Btf, text: str) -> None:
    assert find_type(btf, text, 24) is None
