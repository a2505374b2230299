# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing DWARF: .debug_info and what it points into (DWARF 5).

Every kind of entry has fixed-size attributes, so that each is one ``struct`` and one
abbreviation.  The reference to a type is always its last attribute, holds a number
until all is finished, and is left out for void.
"""

from enum import IntEnum
from struct import Struct, pack, pack_into, unpack_from

from nanokernel_vm.linux.elf import Section, SectionFlag
from nanokernel_vm.linux.leb128 import uleb


class Tag(IntEnum):
    """DW_TAG_*."""

    ARRAY_TYPE = 0x01
    ENUMERATION_TYPE = 0x04
    FORMAL_PARAMETER = 0x05
    MEMBER = 0x0D
    POINTER_TYPE = 0x0F
    COMPILE_UNIT = 0x11
    STRUCTURE_TYPE = 0x13
    SUBROUTINE_TYPE = 0x15
    TYPEDEF = 0x16
    UNION_TYPE = 0x17
    UNSPECIFIED_PARAMETERS = 0x18
    SUBRANGE_TYPE = 0x21
    BASE_TYPE = 0x24
    CONST_TYPE = 0x26
    ENUMERATOR = 0x28
    SUBPROGRAM = 0x2E
    VARIABLE = 0x34
    VOLATILE_TYPE = 0x35
    RESTRICT_TYPE = 0x37


class At(IntEnum):
    """DW_AT_*."""

    LOCATION = 0x02
    NAME = 0x03
    BYTE_SIZE = 0x0B
    LOW_PC = 0x11
    HIGH_PC = 0x12
    LANGUAGE = 0x13
    CONST_VALUE = 0x1C
    PRODUCER = 0x25
    PROTOTYPED = 0x27
    COUNT = 0x37
    DATA_MEMBER_LOCATION = 0x38
    DECLARATION = 0x3C
    ENCODING = 0x3E
    EXTERNAL = 0x3F
    BIT_SIZE = 0x0D
    TYPE = 0x49
    DATA_BIT_OFFSET = 0x6B


class Form(IntEnum):
    """DW_FORM_*."""

    ADDR = 0x01
    DATA2 = 0x05
    DATA4 = 0x06
    DATA1 = 0x0B
    FLAG = 0x0C
    SDATA = 0x0D
    STRP = 0x0E
    UDATA = 0x0F
    REF_ADDR = 0x10
    SEC_OFFSET = 0x17
    EXPRLOC = 0x18
    FLAG_PRESENT = 0x19


# Forms without a format have no fixed size; whoever adds the entry appends their data.
_FORMATS = {
    Form.ADDR: "Q", Form.DATA1: "B", Form.DATA2: "H", Form.DATA4: "I", Form.FLAG: "B",
    Form.STRP: "I", Form.SEC_OFFSET: "I",
}  # fmt: skip

_UT_COMPILE, _VERSION = 1, 5
_LLE_START_LENGTH, _END_OF_LIST = 8, 0
_UNIT_HEADER = Struct("<IHBBI")
_LIST_HEADER = Struct("<IHBBI")
_ARANGES = Struct("<IHIBB4xQQQQ")  # one range and the end


class Die:
    """A kind of debugging information entry.

    Args:
        children: Whether entries of it own those added behind, up to ``end_children``.
        typed: Whether it ends in a DW_AT_type.
    """

    def __init__(
        self,
        tag: Tag,
        *attributes: tuple[At, Form],
        children: bool = False,
        typed: bool = False,
    ) -> None:
        """Declare it."""
        self.tag, self.attributes, self.children = tag, attributes, children
        self.typed = typed
        formats = "".join(_FORMATS.get(form, "") for _, form in attributes)
        self.layout = Struct("<B" + formats)

    def abbreviation(self, code: int, typed: bool) -> bytes:
        """Encode it for .debug_abbrev."""
        typing = ((At.TYPE, Form.REF_ADDR),) if typed else ()
        pairs = (*self.attributes, *typing)
        return (
            bytes((code, self.tag, self.children))
            + b"".join(bytes(pair) for pair in pairs)
            + b"\0\0"
        )


class Dwarf:
    """The .debug_* sections in the making: units one after the other.

    Args:
        strings: What becomes .debug_str; names are offsets into it.
        producer: Who makes all this.
    """

    def __init__(self, strings: bytearray, producer: str) -> None:
        """Begin with nothing."""
        self.strings = strings
        self._producer = self.string(producer)
        self._abbreviations = bytearray()
        self._codes: dict[tuple[Die, bool], int] = {}
        self._references: list[int] = []
        self._offsets: dict[int, int] = {}
        self._aliases: dict[int, int] = {}
        self._lists = bytearray(_LIST_HEADER.size)
        self._aranges = bytearray()
        self._info = bytearray()
        self._unit = 0

    def open_unit(self, name: str, code: range | None = None) -> None:
        """Begin a unit; ``code`` are the addresses of its functions, if it has any."""
        self._unit = len(self._info)
        self._info += _UNIT_HEADER.pack(0, _VERSION, _UT_COMPILE, 8, 0)
        attributes = self._producer, self.string(name), _LANG_C11
        if code is None:
            self.add(_UNIT, *attributes)
            return
        self.add(_CODE_UNIT, *attributes, code.start, len(code))
        extent = code.start, len(code), 0, 0
        self._aranges += _ARANGES.pack(_ARANGES.size - 4, 2, self._unit, 8, 0, *extent)

    def close_unit(self) -> None:
        """End the unit."""
        self.end_children()
        length = len(self._info) - self._unit - 4
        pack_into("<I", self._info, self._unit, length)

    def string(self, text: str) -> int:
        """Append a string and return its offset."""
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text.encode()) - 1

    def add(self, die: Die, *values: int, type: int = 0, data: bytes = b"") -> None:
        """Append an entry.

        Args:
            values: Of its attributes that have a size, in order.
            type: The number of its type; 0 is void.
            data: Its last attribute, if that has no fixed size.
        """
        typed = bool(die.typed and type)
        code = self._codes.get((die, typed)) or self._code(die, typed)
        self._info += die.layout.pack(code, *values) + data
        if typed:
            self._references.append(len(self._info))
            self._info += pack("<I", type)

    def add_type(
        self, number: int, die: Die, *values: int, type: int = 0, data: bytes = b""
    ) -> None:
        """Append the entry that is type ``number`` from now on."""
        self._offsets[number] = len(self._info)
        self.add(die, *values, type=type, data=data)

    def add_alias(self, number: int, other: int) -> None:
        """Let type ``number`` be the same entry as type ``other``."""
        self._aliases[number] = other

    def end_children(self) -> None:
        """Close the entry that was opened last."""
        self._info.append(0)

    def location_list(self, start: int, length: int, expression: bytes) -> int:
        """Add a list with one range and return what DW_AT_location refers to it by."""
        offset = len(self._lists)
        self._lists += pack("<BQ", _LLE_START_LENGTH, start) + uleb(length)
        self._lists += uleb(len(expression)) + expression + bytes((_END_OF_LIST,))
        return offset

    def sections(self) -> list[Section]:
        """Return all sections, after the last unit."""
        for place in self._references:
            (number,) = unpack_from("<I", self._info, place)
            while number in self._aliases:
                number = self._aliases[number]
            pack_into("<I", self._info, place, self._offsets[number])
        lists_size = len(self._lists) - 4
        _LIST_HEADER.pack_into(self._lists, 0, lists_size, _VERSION, 8, 0, 0)
        return [
            _section(".debug_info", self._info),
            _section(".debug_abbrev", self._abbreviations + b"\0"),
            _section(".debug_str", self.strings, _MERGED),
            _section(".debug_loclists", self._lists),
            _section(".debug_aranges", self._aranges),
        ]

    def _code(self, die: Die, typed: bool) -> int:
        code = self._codes[die, typed] = len(self._codes) + 1
        self._abbreviations += die.abbreviation(code, typed)
        return code


_MERGED = SectionFlag.MERGE | SectionFlag.STRINGS
_LANG_C11 = 0x1D
_DESCRIPTION = (
    (At.PRODUCER, Form.STRP),
    (At.NAME, Form.STRP),
    (At.LANGUAGE, Form.DATA1),
)
_UNIT = Die(Tag.COMPILE_UNIT, *_DESCRIPTION, children=True)
_CODE_UNIT = Die(
    Tag.COMPILE_UNIT,
    *(*_DESCRIPTION, (At.LOW_PC, Form.ADDR), (At.HIGH_PC, Form.DATA4)),
    children=True,
)


def _section(name: str, data: bytes | bytearray, flags: int = 0) -> Section:
    entsize = 1 if flags else 0
    return Section(name, flags=flags, size=len(data), data=bytes(data), entsize=entsize)
