# SPDX-License-Identifier: GPL-2.0-or-later
"""BTF made by hand, as Documentation/bpf/btf.rst lays it out."""

from struct import pack

from nanokernel_vm.linux.btf import Kind

SIGNED, BOOL = 1 << 24, 4 << 24
Rows = list[tuple[int, ...]]


class Types:
    """Types in the making; every method returns the new type's number."""

    def __init__(self) -> None:
        self.strings = bytearray(b"\0")
        self.types = bytearray()
        self.count = 0

    def string(self, text: str) -> int:
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text) - 1

    def add(
        self, kind: int, name: str, value: int, rows: Rows | None = None, flag: int = 0
    ) -> int:
        rows = rows or []
        info = flag << 31 | kind << 24 | len(rows)
        self.types += pack("<III", self.string(name), info, value)
        for row in rows:
            self.types += b"".join(pack("<I", word % (1 << 32)) for word in row)
        self.count += 1
        return self.count

    def number(self, name: str, size: int, flags: int = 0) -> int:
        number = self.add(Kind.INT, name, size)
        self.types += pack("<I", flags | size * 8)
        return number

    def array(self, element: int, index: int, count: int) -> int:
        number = self.add(Kind.ARRAY, "", 0)
        self.types += pack("<III", element, index, count)
        return number

    def pointer(self, to: int) -> int:
        return self.add(Kind.PTR, "", to)

    def struct(
        self, name: str, size: int, *members: tuple[str, int, int], bits: bool = False
    ) -> int:
        """Members are (name, type, bit offset), with ``bits`` | bit size << 24."""
        rows: Rows = [(self.string(m), type_, offset) for m, type_, offset in members]
        return self.add(Kind.STRUCT, name, size, rows, bits)

    def enum(self, name: str, *values: tuple[str, int], signed: bool = False) -> int:
        rows: Rows = [(self.string(text), value) for text, value in values]
        return self.add(Kind.ENUM, name, 4, rows, signed)

    def enum64(self, name: str, *values: tuple[str, int], signed: bool = False) -> int:
        rows: Rows = [(self.string(text), value, value >> 32) for text, value in values]
        return self.add(Kind.ENUM64, name, 8, rows, signed)

    def prototype(self, returns: int, *parameters: tuple[str, int]) -> int:
        rows: Rows = [(self.string(text), type_) for text, type_ in parameters]
        return self.add(Kind.FUNC_PROTO, "", returns, rows)

    def function(self, name: str, prototype: int) -> int:
        return self.add(Kind.FUNC, name, prototype)

    def variable(self, name: str, type_: int) -> int:
        number = self.add(Kind.VAR, name, type_)
        self.types += pack("<I", 1)
        return number

    def data(self) -> bytes:
        """The contents of .BTF."""
        sizes = 0, len(self.types), len(self.types), len(self.strings)
        return pack("<HBBIIIII", 0xEB9F, 1, 0, 24, *sizes) + self.types + self.strings
