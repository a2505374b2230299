# SPDX-License-Identifier: GPL-2.0-or-later
"""BTF as DWARF: every type, and functions and variables that have one of them.

BTF knows the prototype of every C function but no places; those come from the symbol
table, and from the psABI: at its first instruction a function's arguments are where
the caller put them.  Further in, nothing is known of them, and nothing is said.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from nanokernel_vm.linux.btf import Btf, Kind, Type
from nanokernel_vm.linux.dwarf import At, Die, Form, Tag, Unit
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


def describe(
    unit: Unit, btf: Btf, functions: Iterable[Function], variables: Iterable[Variable]
) -> None:
    """Add all types of ``btf``, then the functions and variables, to ``unit``."""
    for number, type_ in enumerate(btf.types):
        _add_type(unit, btf, number, type_)
    for function in functions:
        _add_function(unit, btf, function)
    for variable in variables:
        place = bytes((9, _OP_ADDR)) + variable.addr.to_bytes(8, "little")
        name = unit.string(variable.name)
        unit.add(_VARIABLE, name, variable.external, type=variable.type, data=place)


def _add_type(unit: Unit, btf: Btf, number: int, type_: Type) -> None:
    kind, name, _, value, rows = type_
    match kind:
        case Kind.PTR:
            unit.add_type(number, _POINTER, 8, type=value)
        case Kind.TYPEDEF:
            unit.add_type(number, _TYPEDEF, name, type=value)
        case Kind.CONST | Kind.VOLATILE | Kind.RESTRICT:
            unit.add_type(number, _QUALIFIED[kind], type=value)
        case Kind.TYPE_TAG:
            unit.add_alias(number, value)
        case Kind.INT | Kind.FLOAT:
            unit.add_type(number, _BASE, name, value, _encoding(btf, type_))
        case Kind.ARRAY:
            _add_array(unit, number, *rows[0])
        case Kind.STRUCT | Kind.UNION:
            _open(unit, number, type_)
            _add_members(unit, btf, type_)
        case Kind.ENUM | Kind.ENUM64:
            _open(unit, number, type_)
            _add_enumerators(unit, type_)
        case Kind.FWD:
            unit.add_type(number, _FORWARD[type_.flag], name)
        case Kind.FUNC_PROTO:
            unit.add_type(number, _PROTOTYPE, type=value)
            _add_arguments(unit, type_)


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


def _add_array(unit: Unit, number: int, element: int, index: int, count: int) -> None:
    unit.add_type(number, _ARRAY, type=element)
    if count:
        unit.add(_COUNT, count, type=index)
    else:  # BTF has one word for [0] and []; the kernel mostly means the latter
        unit.add(_NO_COUNT, type=index)
    unit.end_children()


def _open(unit: Unit, number: int, type_: Type) -> None:
    if type_.name:
        unit.add_type(number, _NAMED[type_.kind], type_.name, type_.value)
    else:
        unit.add_type(number, _UNNAMED[type_.kind], type_.value)


def _add_members(unit: Unit, btf: Btf, type_: Type) -> None:
    for name, member, offset in type_.rows:
        bits = offset >> 24 if type_.flag else 0
        if bits:
            unit.add(_BIT_FIELD, name, bits, offset & 0xFFFFFF, type=member)
        elif name:
            unit.add(_MEMBER, name, offset // 8, type=member)
        else:
            unit.add(_UNNAMED_MEMBER, offset // 8, type=member)
    unit.end_children()


def _add_enumerators(unit: Unit, type_: Type) -> None:
    bits = 64 if type_.kind is Kind.ENUM64 else 32
    for name, low, *high in type_.rows:
        value = (low | sum(high) << 32) % (1 << bits)
        if not type_.flag:
            unit.add(_UNSIGNED_ENUMERATOR, name, data=uleb(value))
        else:
            value -= value >> (bits - 1) << bits
            unit.add(_ENUMERATOR, name, data=sleb(value))
    unit.end_children()


def _add_arguments(unit: Unit, prototype: Type) -> None:
    for _, argument in prototype.rows:
        unit.add(_ARGUMENT if argument else _ELLIPSIS, type=argument)
    unit.end_children()


def _add_function(unit: Unit, btf: Btf, function: Function) -> None:
    func = btf.types[function.type]
    prototype = btf.types[func.value]
    unit.add(
        _SUBPROGRAM, func.name, function.addr, function.size, function.external,
        type=prototype.value,
    )  # fmt: skip
    for (name, argument), place in zip(
        prototype.rows, locations(btf, prototype), strict=True
    ):
        if not argument:
            unit.add(_ELLIPSIS)
        elif place is None:
            unit.add(_PARAMETER, name, type=argument)
        else:
            # One more than the instructions that leave it alone: it is still there
            # when the next one is about to be executed.
            where = unit.location_list(function.addr, function.entry + 1, place)
            unit.add(_PLACED_PARAMETER, name, where, type=argument)
    unit.end_children()
