# SPDX-License-Identifier: GPL-2.0-or-later
"""BTF is parsed, and asked for names and sizes."""

import pytest

from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.btf import Btf, Kind, Type
from tests.unit.linux.btf_types import SIGNED, Types


def test_types_are_numbered_from_one_and_void_is_zero() -> None:
    types = Types()
    number = types.number("int", 4, SIGNED)
    pointer = types.pointer(number)
    btf = Btf(types.data())
    assert btf.types[0].kind is Kind.VOID
    assert btf.name(btf.types[number].name) == "int"
    assert btf.types[pointer] == Type(Kind.PTR, 0, False, number)


def test_rows_follow_their_type() -> None:
    types = Types()
    number = types.number("int", 4, SIGNED)
    struct = types.struct("pair", 8, ("a", number, 0), ("b", number, 32))
    after = types.number("char", 1)
    btf = Btf(types.data())
    members = [(btf.name(n), t, o) for n, t, o in btf.types[struct].rows]
    assert members == [("a", number, 0), ("b", number, 32)]
    assert btf.name(btf.types[after].name) == "char"


def test_found_by_kind_and_name() -> None:
    types = Types()
    number = types.number("pair", 4)
    struct = types.struct("pair", 8)
    types.struct("pair", 16)
    btf = Btf(types.data())
    assert btf.find(Kind.INT, "pair") == number
    assert btf.find(Kind.STRUCT, "pair") == struct  # the first one
    assert btf.find(Kind.UNION, "pair") is None


def test_sizes_go_through_typedefs_and_arrays() -> None:
    types = Types()
    number = types.number("int", 4)
    typedef = types.add(Kind.TYPEDEF, "number_t", number)
    constant = types.add(Kind.CONST, "", typedef)
    array = types.array(constant, number, 10)
    pointer = types.pointer(array)
    btf = Btf(types.data())
    assert [btf.size(n) for n in (0, constant, array, pointer)] == [0, 4, 40, 8]
    assert btf.strip(constant).kind is Kind.INT


def test_enumerators_are_found_by_whole_names() -> None:
    types = Types()
    types.enum("states", ("NR_STATES_MAX", 9), ("NR_STATES", 3))
    btf = Btf(types.data())
    assert btf.enumerator("NR_STATES") == 3
    assert btf.enumerator("STATES") is None
    assert btf.enumerator("states") is None


def test_functions_and_data_sections() -> None:
    types = Types()
    number = types.number("int", 4)
    function = types.function("panic", types.prototype(0))
    variable = types.variable("counter", number)
    types.add(Kind.DATASEC, ".data..percpu", 4, [(variable, 16, 4)])
    btf = Btf(types.data())
    assert [number for number, _ in btf.functions()] == [function]
    assert list(btf.data_sections()) == [(".data..percpu", ((variable, 16, 4),))]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated"),
        (bytes(24), "no BTF: magic 0x0"),
        (Types().data()[:20], "truncated"),
    ],
)
def test_other_data_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        Btf(data)


def test_an_unknown_kind_is_refused() -> None:
    types = Types()
    types.add(31, "later", 0)
    with pytest.raises(LoadError, match="type 1 is of unknown kind 31"):
        Btf(types.data())


def test_types_cut_off_are_refused() -> None:
    types = Types()
    types.number("int", 4)
    del types.types[-6:]
    with pytest.raises(LoadError, match="truncated or damaged"):
        Btf(types.data())
