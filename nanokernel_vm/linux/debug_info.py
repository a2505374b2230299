# SPDX-License-Identifier: GPL-2.0-or-later
"""BTF as DWARF: every type, and functions and variables that have one of them.

BTF knows the prototype of every C function but no places; those come from the symbol
table, and from the psABI: at its first instruction a function's arguments are where
the caller put them.  Further in, nothing is known of them, and nothing is said.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nanokernel_vm.linux.btf import Btf, Kind, Type
from nanokernel_vm.linux.dwarf import At, Die, Dwarf, Form, Tag
from nanokernel_vm.linux.leb128 import sleb, uleb
from nanokernel_vm.linux.parameters import locations


@dataclass(frozen=True, slots=True)
class Function:
    """A function with a prototype.

    Attributes:
        type: Number of its FUNC.
        entry: Length of the first instructions, which leave arguments alone.
    """

    type: int
    addr: int
    size: int
    external: bool
    entry: int


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable with a type; ``addr`` is an offset for per-CPU variables."""

    name: str
    addr: int
    type: int
    external: bool = True


_NAME, _SIZE = (At.NAME, Form.STRP), (At.BYTE_SIZE, Form.DATA4)
_PLACE = (At.DATA_MEMBER_LOCATION, Form.DATA4)

_BASE = Die(Tag.BASE_TYPE, _NAME, (At.BYTE_SIZE, Form.DATA1), (At.ENCODING, Form.DATA1))
_POINTER = Die(Tag.POINTER_TYPE, (At.BYTE_SIZE, Form.DATA1), typed=True)
_TYPEDEF = Die(Tag.TYPEDEF, _NAME, typed=True)
_QUALIFIED = {
    Kind.CONST: Die(Tag.CONST_TYPE, typed=True),
    Kind.VOLATILE: Die(Tag.VOLATILE_TYPE, typed=True),
    Kind.RESTRICT: Die(Tag.RESTRICT_TYPE, typed=True),
}
_ARRAY = Die(Tag.ARRAY_TYPE, children=True, typed=True)
_COUNT = Die(Tag.SUBRANGE_TYPE, (At.COUNT, Form.DATA4), typed=True)
_NO_COUNT = Die(Tag.SUBRANGE_TYPE, typed=True)
_TAGS = {
    Kind.STRUCT: Tag.STRUCTURE_TYPE,
    Kind.UNION: Tag.UNION_TYPE,
    Kind.ENUM: Tag.ENUMERATION_TYPE,
    Kind.ENUM64: Tag.ENUMERATION_TYPE,
}
_NAMED = {kind: Die(tag, _NAME, _SIZE, children=True) for kind, tag in _TAGS.items()}
_UNNAMED = {kind: Die(tag, _SIZE, children=True) for kind, tag in _TAGS.items()}
_FORWARD = {
    is_union: Die(tag, _NAME, (At.DECLARATION, Form.FLAG_PRESENT))
    for is_union, tag in ((False, Tag.STRUCTURE_TYPE), (True, Tag.UNION_TYPE))
}
_MEMBER = Die(Tag.MEMBER, _NAME, _PLACE, typed=True)
_UNNAMED_MEMBER = Die(Tag.MEMBER, _PLACE, typed=True)
_BIT_FIELD = Die(
    Tag.MEMBER,
    *(_NAME, (At.BIT_SIZE, Form.DATA1), (At.DATA_BIT_OFFSET, Form.DATA4)),
    typed=True,
)
_ENUMERATOR = Die(Tag.ENUMERATOR, _NAME, (At.CONST_VALUE, Form.SDATA))
_UNSIGNED_ENUMERATOR = Die(Tag.ENUMERATOR, _NAME, (At.CONST_VALUE, Form.UDATA))
_PROTOTYPE = Die(
    Tag.SUBROUTINE_TYPE, (At.PROTOTYPED, Form.FLAG_PRESENT), children=True, typed=True
)
_ARGUMENT = Die(Tag.FORMAL_PARAMETER, typed=True)
_PARAMETER = Die(Tag.FORMAL_PARAMETER, _NAME, typed=True)
_PLACED_PARAMETER = Die(
    Tag.FORMAL_PARAMETER, _NAME, (At.LOCATION, Form.SEC_OFFSET), typed=True
)
_ELLIPSIS = Die(Tag.UNSPECIFIED_PARAMETERS)
_SUBPROGRAM = Die(
    Tag.SUBPROGRAM,
    *(_NAME, (At.LOW_PC, Form.ADDR), (At.HIGH_PC, Form.DATA4)),
    *((At.EXTERNAL, Form.FLAG), (At.PROTOTYPED, Form.FLAG_PRESENT)),
    children=True,
    typed=True,
)
_VARIABLE = Die(
    Tag.VARIABLE,
    *(_NAME, (At.EXTERNAL, Form.FLAG), (At.LOCATION, Form.EXPRLOC)),
    typed=True,
)

# DW_ATE_*
_BOOLEAN, _FLOAT, _SIGNED, _SIGNED_CHAR, _UNSIGNED, _UNSIGNED_CHAR = 2, 4, 5, 6, 7, 8
_BTF_INT_SIGNED, _BTF_INT_BOOL = 1, 4
_OP_ADDR = 3

_FILE = "vmlinux"  # stands for the source file
_UNIT_SIZE = 128


def describe_types(dwarf: Dwarf, btf: Btf, variables: Iterable[Variable]) -> None:
    """Add a unit with all types of ``btf`` and the variables."""
    dwarf.open_unit(_FILE)
    for number, type_ in enumerate(btf.types):
        _add_type(dwarf, btf, number, type_)
    for variable in variables:
        place = bytes((9, _OP_ADDR)) + variable.addr.to_bytes(8, "little")
        name = dwarf.string(variable.name)
        dwarf.add(_VARIABLE, name, variable.external, type=variable.type, data=place)
    dwarf.close_unit()


def describe_functions(dwarf: Dwarf, btf: Btf, functions: Sequence[Function]) -> None:
    """Add functions of one section, ascending, in units of a size that is read fast."""
    for i in range(0, len(functions), _UNIT_SIZE):
        unit = functions[i : i + _UNIT_SIZE]
        dwarf.open_unit(_FILE, range(unit[0].addr, unit[-1].addr + unit[-1].size))
        for function in unit:
            _add_function(dwarf, btf, function)
        dwarf.close_unit()


def _add_type(dwarf: Dwarf, btf: Btf, number: int, type_: Type) -> None:
    kind, name, _, value, rows = type_
    match kind:
        case Kind.PTR:
            dwarf.add_type(number, _POINTER, 8, type=value)
        case Kind.TYPEDEF:
            dwarf.add_type(number, _TYPEDEF, name, type=value)
        case Kind.CONST | Kind.VOLATILE | Kind.RESTRICT:
            dwarf.add_type(number, _QUALIFIED[kind], type=value)
        case Kind.TYPE_TAG:
            dwarf.add_alias(number, value)
        case Kind.INT | Kind.FLOAT:
            dwarf.add_type(number, _BASE, name, value, _encoding(btf, type_))
        case Kind.ARRAY:
            _add_array(dwarf, number, *rows[0])
        case Kind.STRUCT | Kind.UNION:
            _open(dwarf, number, type_)
            _add_members(dwarf, btf, type_)
        case Kind.ENUM | Kind.ENUM64:
            _open(dwarf, number, type_)
            _add_enumerators(dwarf, type_)
        case Kind.FWD:
            dwarf.add_type(number, _FORWARD[type_.flag], name)
        case Kind.FUNC_PROTO:
            dwarf.add_type(number, _PROTOTYPE, type=value)
            _add_arguments(dwarf, type_)


def _encoding(btf: Btf, type_: Type) -> int:
    if type_.kind is Kind.FLOAT:
        return _FLOAT
    flags = type_.rows[0][0] >> 24
    if flags & _BTF_INT_BOOL:
        return _BOOLEAN
    # pahole marks no int as a char; only its name tells.
    if type_.value == 1 and "char" in btf.name(type_.name):
        return _SIGNED_CHAR if flags & _BTF_INT_SIGNED else _UNSIGNED_CHAR
    return _SIGNED if flags & _BTF_INT_SIGNED else _UNSIGNED


def _add_array(dwarf: Dwarf, number: int, element: int, index: int, count: int) -> None:
    dwarf.add_type(number, _ARRAY, type=element)
    if count:
        dwarf.add(_COUNT, count, type=index)
    else:  # BTF has one word for [0] and []; the kernel mostly means the latter
        dwarf.add(_NO_COUNT, type=index)
    dwarf.end_children()


def _open(dwarf: Dwarf, number: int, type_: Type) -> None:
    if type_.name:
        dwarf.add_type(number, _NAMED[type_.kind], type_.name, type_.value)
    else:
        dwarf.add_type(number, _UNNAMED[type_.kind], type_.value)


def _add_members(dwarf: Dwarf, btf: Btf, type_: Type) -> None:
    for name, member, offset in type_.rows:
        bits = offset >> 24 if type_.flag else 0
        if bits:
            dwarf.add(_BIT_FIELD, name, bits, offset & 0xFFFFFF, type=member)
        elif name:
            dwarf.add(_MEMBER, name, offset // 8, type=member)
        else:
            dwarf.add(_UNNAMED_MEMBER, offset // 8, type=member)
    dwarf.end_children()


def _add_enumerators(dwarf: Dwarf, type_: Type) -> None:
    bits = 64 if type_.kind is Kind.ENUM64 else 32
    for name, low, *high in type_.rows:
        value = (low | sum(high) << 32) % (1 << bits)
        if not type_.flag:
            dwarf.add(_UNSIGNED_ENUMERATOR, name, data=uleb(value))
        else:
            value -= value >> (bits - 1) << bits
            dwarf.add(_ENUMERATOR, name, data=sleb(value))
    dwarf.end_children()


def _add_arguments(dwarf: Dwarf, prototype: Type) -> None:
    for _, argument in prototype.rows:
        dwarf.add(_ARGUMENT if argument else _ELLIPSIS, type=argument)
    dwarf.end_children()


def _add_function(dwarf: Dwarf, btf: Btf, function: Function) -> None:
    func = btf.types[function.type]
    prototype = btf.types[func.value]
    dwarf.add(
        _SUBPROGRAM, func.name, function.addr, function.size, function.external,
        type=prototype.value,
    )  # fmt: skip
    for (name, argument), place in zip(
        prototype.rows, locations(btf, prototype), strict=True
    ):
        if not argument:
            dwarf.add(_ELLIPSIS)
        elif place is None:
            dwarf.add(_PARAMETER, name, type=argument)
        else:
            # One more than the instructions that leave it alone: it is still there
            # when the next one is about to be executed.
            where = dwarf.location_list(function.addr, function.entry + 1, place)
            dwarf.add(_PLACED_PARAMETER, name, where, type=argument)
    dwarf.end_children()
