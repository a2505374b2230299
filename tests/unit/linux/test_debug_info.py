# SPDX-License-Identifier: GPL-2.0-or-later
"""What pyelftools reads of DWARF that was made of BTF."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE
from elftools.dwarf.dwarfinfo import DWARFInfo
from elftools.elf.elffile import ELFFile

from nanokernel_vm.linux.btf import Btf, Kind
from nanokernel_vm.linux.debug_info import (
    Function,
    Variable,
    describe_functions,
    describe_types,
)
from nanokernel_vm.linux.dwarf import Dwarf
from tests.unit.linux.btf_types import BOOL, SIGNED, Types
from tests.unit.linux.images import TEXT, MakeImage, text


class Read:
    """The entries of all units."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.info: DWARFInfo = ELFFile(self._file).get_dwarf_info()
        self.units: list[CompileUnit] = list(self.info.iter_CUs())

    def close(self) -> None:
        self._file.close()

    def find(self, tag: str, name: str | None = None) -> DIE:
        return next(
            die
            for unit in self.units
            for die in unit.get_top_DIE().iter_children()
            if die.tag == f"DW_TAG_{tag}" and attribute(die, "name") == name
        )

    def type_of(self, die: DIE) -> str:
        """Spell a type as C would, innermost first."""
        if "DW_AT_type" not in die.attributes:
            return "void"
        type_ = die.get_DIE_from_attribute("DW_AT_type")
        name = attribute(type_, "name")
        if name:
            return str(name)
        tag = str(type_.tag).removeprefix("DW_TAG_").removesuffix("_type")
        return f"{self.type_of(type_)} {tag}"


def attribute(die: DIE, name: str) -> Any:
    found = die.attributes.get(f"DW_AT_{name}")
    if found is None:
        return None
    return found.value.decode() if isinstance(found.value, bytes) else found.value


def children(die: DIE) -> list[tuple[Any, ...]]:
    return [
        (attribute(child, "name"), attribute(child, "data_member_location"))
        for child in die.iter_children()
    ]


@pytest.fixture
def types() -> Types:
    return Types()


@pytest.fixture
def dwarf_of(make_image: MakeImage) -> Iterator[Any]:
    made: list[Read] = []

    def make(
        types: Types,
        functions: tuple[Function, ...] = (),
        variables: tuple[Variable, ...] = (),
    ) -> Read:
        btf = Btf(types.data())
        dwarf = Dwarf(btf.strings, "producer")
        describe_types(dwarf, btf, variables)
        describe_functions(dwarf, btf, functions)
        image = make_image(text(bytes(0x100)), *dwarf.sections())
        made.append(Read(Path(image.name)))
        return made[-1]

    yield make
    for dwarf in made:
        dwarf.close()


def test_functions_are_in_units_of_their_own(types: Types, dwarf_of: Any) -> None:
    func = types.function("f", types.prototype(0))
    functions = tuple(Function(func, TEXT + i, 1, True, 0) for i in range(130))
    dwarf = dwarf_of(types, functions)
    tops = [unit.get_top_DIE() for unit in dwarf.units]
    assert {attribute(top, "name") for top in tops} == {"vmlinux"}
    assert {attribute(top, "producer") for top in tops} == {"producer"}
    extents = [(attribute(top, "low_pc"), attribute(top, "high_pc")) for top in tops]
    assert extents == [(None, None), (TEXT, 128), (TEXT + 128, 2)]
    aranges = dwarf.info.get_aranges()
    assert aranges.cu_offset_at_addr(TEXT + 127) == dwarf.units[1].cu_offset
    assert aranges.cu_offset_at_addr(TEXT + 128) == dwarf.units[2].cu_offset


@pytest.mark.parametrize(
    ("name", "size", "flags", "encoding"),
    [
        ("int", 4, SIGNED, 5),
        ("long unsigned int", 8, 0, 7),
        ("char", 1, SIGNED, 6),
        ("unsigned char", 1, 0, 8),
        ("_Bool", 1, BOOL, 2),
    ],
)
def test_numbers(
    types: Types, dwarf_of: Any, name: str, size: int, flags: int, encoding: int
) -> None:
    types.number(name, size, flags)
    die = dwarf_of(types).find("base_type", name)
    assert (attribute(die, "byte_size"), attribute(die, "encoding")) == (size, encoding)


def test_floating_point(types: Types, dwarf_of: Any) -> None:
    types.add(Kind.FLOAT, "double", 8)
    assert attribute(dwarf_of(types).find("base_type", "double"), "encoding") == 4


def test_members_and_references_to_types_behind(types: Types, dwarf_of: Any) -> None:
    types.struct("list_head", 16, ("next", 2, 0), ("prev", 2, 64))
    types.pointer(1)
    dwarf = dwarf_of(types)
    die = dwarf.find("structure_type", "list_head")
    assert attribute(die, "byte_size") == 16
    assert children(die) == [("next", 0), ("prev", 8)]
    assert {dwarf.type_of(child) for child in die.iter_children()} == {
        "list_head pointer"
    }


def test_bit_fields_and_members_without_a_name(types: Types, dwarf_of: Any) -> None:
    number = types.number("int", 4)
    union = types.add(Kind.UNION, "", 4)
    bits = ("flags", number, 3 << 24 | 37)
    types.struct("packed", 12, ("", union, 0), bits, ("rest", number, 64), bits=True)
    unnamed, field, rest = (
        dwarf_of(types).find("structure_type", "packed").iter_children()
    )
    assert attribute(unnamed, "name") is None
    assert attribute(unnamed, "data_member_location") == 0
    assert attribute(field, "bit_size") == 3
    assert attribute(field, "data_bit_offset") == 37
    assert attribute(field, "data_member_location") is None
    assert attribute(rest, "data_member_location") == 8


def test_arrays(types: Types, dwarf_of: Any) -> None:
    number = types.number("int", 4)
    types.add(Kind.TYPEDEF, "seven", types.array(number, number, 7))
    types.add(Kind.TYPEDEF, "open", types.array(number, number, 0))
    dwarf = dwarf_of(types)
    for name, count in (("seven", 7), ("open", None)):
        array = dwarf.find("typedef", name).get_DIE_from_attribute("DW_AT_type")
        (subrange,) = array.iter_children()
        assert attribute(subrange, "count") == count
        assert dwarf.type_of(array) == "int"


@pytest.mark.parametrize(
    ("signed", "values"),
    [(True, (0, -1, -(2**31), 2**31 - 1)), (False, (0, 1, 2**31, 2**32 - 1))],
)
def test_enumerators(
    types: Types, dwarf_of: Any, signed: bool, values: tuple[int, ...]
) -> None:
    types.enum(
        "e", *((f"E{i}", value) for i, value in enumerate(values)), signed=signed
    )
    die = dwarf_of(types).find("enumeration_type", "e")
    found = tuple(attribute(child, "const_value") for child in die.iter_children())
    assert found == values


@pytest.mark.parametrize(
    ("signed", "values"),
    [(True, (-1, -(2**63), 2**63 - 1)), (False, (2**32, 2**63, 2**64 - 1))],
)
def test_enumerators_of_64_bits(
    types: Types, dwarf_of: Any, signed: bool, values: tuple[int, ...]
) -> None:
    named = ((f"E{i}", value) for i, value in enumerate(values))
    types.enum64("e", *named, signed=signed)
    die = dwarf_of(types).find("enumeration_type", "e")
    found = tuple(attribute(child, "const_value") for child in die.iter_children())
    assert found == values


def test_qualifiers_declarations_and_tags(types: Types, dwarf_of: Any) -> None:
    forward = types.add(Kind.FWD, "device", 0)
    union = types.add(Kind.FWD, "either", 0, flag=1)
    tag = types.add(Kind.TYPE_TAG, "user", forward)
    constant = types.add(Kind.CONST, "", tag)
    types.add(Kind.TYPEDEF, "t", types.pointer(types.add(Kind.VOLATILE, "", constant)))
    dwarf = dwarf_of(types)
    assert attribute(dwarf.find("structure_type", "device"), "declaration")
    assert attribute(dwarf.find("union_type", "either"), "declaration")
    spelled = dwarf.type_of(dwarf.find("typedef", "t"))
    assert spelled == "device const volatile pointer"  # the tag is seen through
    assert union


def test_pointers_to_functions(types: Types, dwarf_of: Any) -> None:
    number = types.number("int", 4)
    prototype = types.prototype(0, ("", number), ("", 0))
    types.add(Kind.TYPEDEF, "handler_t", types.pointer(prototype))
    dwarf = dwarf_of(types)
    pointer = dwarf.find("typedef", "handler_t").get_DIE_from_attribute("DW_AT_type")
    die = pointer.get_DIE_from_attribute("DW_AT_type")
    assert die.tag == "DW_TAG_subroutine_type"
    assert dwarf.type_of(die) == "void"
    argument, ellipsis = die.iter_children()
    assert dwarf.type_of(argument) == "int"
    assert ellipsis.tag == "DW_TAG_unspecified_parameters"


def test_a_function_has_its_arguments_while_it_is_entered(
    types: Types, dwarf_of: Any
) -> None:
    number = types.number("int", 4)
    huge = types.number("__int128", 16)
    prototype = types.prototype(number, ("fmt", number), ("x", huge), ("", 0))
    func = types.function("panic", prototype)
    dwarf = dwarf_of(types, (Function(func, TEXT + 16, 64, True, 5),))
    die = dwarf.find("subprogram", "panic")
    assert attribute(die, "low_pc") == TEXT + 16
    assert attribute(die, "high_pc") == 64
    assert attribute(die, "external")
    assert dwarf.type_of(die) == "int"
    placed, unplaced, ellipsis = die.iter_children()
    assert attribute(placed, "name") == "fmt"
    lists = dwarf.info.location_lists()
    (place,) = lists.get_location_list_at_offset(attribute(placed, "location"), placed)
    # still there when the instruction behind the entry's is about to be executed
    assert (place.begin_offset, place.end_offset) == (TEXT + 16, TEXT + 22)
    assert place.loc_expr == [0x55]  # DW_OP_reg5, rdi
    assert attribute(unplaced, "location") is None
    assert ellipsis.tag == "DW_TAG_unspecified_parameters"


def test_a_variable(types: Types, dwarf_of: Any) -> None:
    number = types.number("int", 4)
    dwarf = dwarf_of(types, variables=(Variable("jiffies", 0x1234, number),))
    die = dwarf.find("variable", "jiffies")
    assert dwarf.type_of(die) == "int"
    assert bytes(attribute(die, "location")) == b"\x03" + (0x1234).to_bytes(8, "little")
