# SPDX-License-Identifier: GPL-2.0-or-later
"""BTF, the kernel's own type information (Documentation/bpf/btf.rst, v6.1).

A header, then types numbered from 1 (0 is void), then strings.  A type is three words,
then as many rows as its kind and count say.  What the rows mean is told at ``Type``.
"""

from collections.abc import Iterator
from enum import IntEnum
from itertools import chain
from struct import Struct, error
from typing import NamedTuple

from nanokernel_vm.errors import LoadError

_HEADER = Struct("<HBBIIIII")
_TYPE = Struct("<III")
_MAGIC = 0xEB9F


class Kind(IntEnum):
    """BTF_KIND_*."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


class Type(NamedTuple):
    """One type; names are offsets into the strings, 0 for none.

    Attributes:
        flag: STRUCT, UNION: member offsets hold bit-field sizes.  FWD: it is a union.
            ENUM, ENUM64: signed.
        value: INT, STRUCT, UNION, ENUM, ENUM64, FLOAT, DATASEC: size in bytes; FUNC:
            its FUNC_PROTO; FUNC_PROTO: the return type; others: the type meant.
        rows: INT (encoding and bits,); ARRAY (element, index type, count);
            STRUCT, UNION (name, type, bit offset); ENUM (name, value);
            ENUM64 (name, low half, high half); FUNC_PROTO (name, type);
            DATASEC (VAR, offset, size); VAR (linkage,); DECL_TAG (member,).
    """

    kind: Kind
    name: int
    flag: bool
    value: int
    rows: tuple[tuple[int, ...], ...] = ()


_ROWS = {
    Kind.INT: Struct("<I"),
    Kind.ARRAY: Struct("<III"),
    Kind.STRUCT: Struct("<III"),
    Kind.UNION: Struct("<III"),
    Kind.ENUM: Struct("<Ii"),
    Kind.FUNC_PROTO: Struct("<II"),
    Kind.VAR: Struct("<I"),
    Kind.DATASEC: Struct("<III"),
    Kind.DECL_TAG: Struct("<I"),
    Kind.ENUM64: Struct("<III"),
}
_ONE_ROW = (Kind.INT, Kind.ARRAY, Kind.VAR, Kind.DECL_TAG)
_QUALIFIERS = (
    *(Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG),
)
VOID = Type(Kind.VOID, 0, False, 0)


class Btf:
    """The types of one kernel, by number; new ones can be added behind them."""

    def __init__(self, data: bytes | memoryview) -> None:
        """Parse the contents of a .BTF section.

        Raises:
            LoadError: It is no BTF, cut off, or has a kind unknown to v6.1.
        """
        try:
            magic, version, _, length, types, types_size, strings, size = (
                _HEADER.unpack_from(data)
            )
            if (magic, version) != (_MAGIC, 1):
                raise LoadError(f"no BTF: magic {magic:#x}, version {version}")
            self.strings = bytearray(data[length + strings :][:size])
            self.types = [VOID, *_types(data[length + types :][:types_size])]
        except (error, ValueError) as exc:
            raise LoadError(f"BTF is truncated or damaged: {exc}") from exc
        self._by_name: dict[tuple[Kind, str], int] = {}

    def name(self, offset: int) -> str:
        """Return the string at ``offset``."""
        return self.strings[offset : self.strings.index(0, offset)].decode("latin-1")

    def add_string(self, text: str) -> int:
        """Append a string and return its offset."""
        self.strings += text.encode("latin-1") + b"\0"
        return len(self.strings) - len(text) - 1

    def add(self, type_: Type) -> int:
        """Append a type and return its number."""
        self.types.append(type_)
        return len(self.types) - 1

    def find(self, kind: Kind, name: str) -> int | None:
        """Return the number of the first type of this kind and name."""
        if not self._by_name:
            for number, type_ in enumerate(self.types):
                if type_.name and type_.kind not in (Kind.FUNC, Kind.VAR):
                    key = (type_.kind, self.name(type_.name))
                    self._by_name.setdefault(key, number)
        return self._by_name.get((kind, name))

    def enumerator(self, name: str) -> int | None:
        """Return the value of the first enumerator of this name (of 32 bits)."""
        offset = self.strings.find(b"\0%b\0" % name.encode()) + 1
        rows = (t.rows for t in self.types if t.kind is Kind.ENUM)
        values = (row[1] for row in chain.from_iterable(rows) if row[0] == offset)
        return next(values, None) if offset else None

    def functions(self) -> Iterator[tuple[int, Type]]:
        """Yield all FUNCs with their numbers."""
        for number, type_ in enumerate(self.types):
            if type_.kind is Kind.FUNC:
                yield number, type_

    def data_sections(self) -> Iterator[tuple[str, tuple[tuple[int, ...], ...]]]:
        """Yield the name and the rows (VAR, offset, size) of all DATASECs."""
        for type_ in self.types:
            if type_.kind is Kind.DATASEC:
                yield self.name(type_.name), type_.rows

    def strip(self, number: int) -> Type:
        """Return the type behind typedefs and qualifiers."""
        type_ = self.types[number]
        for _ in self.types:
            if type_.kind not in _QUALIFIERS:
                return type_
            type_ = self.types[type_.value]
        raise LoadError(f"BTF type {number} stands for itself")

    def size(self, number: int) -> int:
        """Return the size in bytes, 0 for what has none."""
        type_ = self.strip(number)
        match type_.kind:
            case Kind.PTR:
                return 8
            case Kind.ARRAY:
                element, _, count = type_.rows[0]
                return self.size(element) * count
            case Kind.FUNC | Kind.FUNC_PROTO | Kind.FWD | Kind.VOID:
                return 0
            case _:
                return type_.value


def _types(data: bytes | memoryview) -> list[Type]:
    types: list[Type] = []
    at, kinds = 0, list(Kind)
    while at < len(data):
        name, info, value = _TYPE.unpack_from(data, at)
        at += _TYPE.size
        number = info >> 24 & 0x1F
        if not 0 < number < len(kinds):
            raise LoadError(f"BTF type {len(types) + 1} is of unknown kind {number}")
        kind = kinds[number]
        rows: tuple[tuple[int, ...], ...] = ()
        if row := _ROWS.get(kind):
            end = at + row.size * (1 if kind in _ONE_ROW else info & 0xFFFF)
            rows = tuple(row.iter_unpack(data[at:end]))
            at = end
        types.append(Type(kind, name, bool(info >> 31), value, rows))
    return types
