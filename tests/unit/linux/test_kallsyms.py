# SPDX-License-Identifier: GPL-2.0-or-later
"""kallsyms tables made here as scripts/kallsyms.c makes them are decoded again."""

from itertools import accumulate
from struct import pack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.elf import ElfImage
from nanokernel_vm.linux.kallsyms import KernelSymbol, decode
from tests.unit.linux.images import TEXT, MakeImage, data, text

PAIRS = ["sys_", "__", "init", "read"]  # tokens 1, 2, ... stand for these
BIG = "x" * 300  # its length takes two bytes


def aligned(contents: bytes) -> bytes:
    return contents + bytes(-len(contents) % 8)


class Tables:
    """The tables, each of which a test can spoil before they are joined."""

    def __init__(self, symbols: list[KernelSymbol], seqs: bool = False) -> None:
        texts = [chr(code) for code in range(256)]
        texts[0] = "zz"
        texts[1 : 1 + len(PAIRS)] = PAIRS
        pieces = [text.encode("latin-1") + b"\0" for text in texts]
        starts = [0, *accumulate(map(len, pieces))][:256]
        self.tokens = b"".join(pieces)
        self.index = pack("<256H", *starts)
        encoded = [self.encode(symbol) for symbol in symbols]
        places = [0, *accumulate(map(len, encoded))]
        self.names = b"".join(encoded)
        self.markers = pack(f"<{len(places[:-1:256])}I", *places[:-1:256])
        self.count = pack("<I", len(symbols))
        self.base = pack("<Q", TEXT)
        per_cpu = any(symbol.addr < TEXT for symbol in symbols)
        self.offsets = b"".join(self.offset(symbol, per_cpu) for symbol in symbols)
        self.seqs = bytes(range(1, 4)) * len(symbols) if seqs else b""

    @staticmethod
    def encode(symbol: KernelSymbol) -> bytes:
        text = symbol.type + symbol.name
        for number, pair in enumerate(PAIRS, 1):
            text = text.replace(pair, chr(number))
        length = len(text)
        size = (length,) if length < 0x80 else (length & 0x7F | 0x80, length >> 7)
        return bytes(size) + text.encode("latin-1")

    @staticmethod
    def offset(symbol: KernelSymbol, per_cpu: bool) -> bytes:
        distance = symbol.addr - TEXT
        if per_cpu:
            return pack("<i", symbol.addr if distance < 0 else -1 - distance)
        return pack("<I", distance)

    def join(self) -> bytes:
        parts = self.offsets, self.base, self.count, self.names, self.markers
        rest = self.seqs, self.tokens, self.index
        return b"".join(map(aligned, (b"rodata", *parts, *rest, b"more")))


def symbols(count: int) -> list[KernelSymbol]:
    return [KernelSymbol(TEXT, "T", "_text")] + [
        KernelSymbol(TEXT + 3 * i, "tTdDbBrR"[i % 8], f"__sys_read{i}.part.{i % 7}")
        for i in range(1, count)
    ]


def image_of(make_image: MakeImage, tables: bytes) -> ElfImage:
    return make_image(text(b"\xcc" * 64), data(".rodata", tables))


@pytest.mark.parametrize("seqs", [False, True], ids=["6.1", "6.1.y with seqs"])
@pytest.mark.parametrize("count", [257, 512, 513, 1500])
def test_what_was_encoded_is_decoded(
    make_image: MakeImage, count: int, seqs: bool
) -> None:
    expected = symbols(count)
    assert decode(image_of(make_image, Tables(expected, seqs).join())) == expected


def test_per_cpu_offsets_stand_for_themselves(make_image: MakeImage) -> None:
    expected = [KernelSymbol(0, "A", "fixed_percpu_data"), *symbols(600)]
    assert decode(image_of(make_image, Tables(expected).join())) == expected


def test_a_big_name_has_a_length_of_two_bytes(make_image: MakeImage) -> None:
    expected = [*symbols(300), KernelSymbol(TEXT + 0x1000, "t", BIG)]
    assert decode(image_of(make_image, Tables(expected).join())) == expected


name = st.text("abc_09.$sysinitread", min_size=1, max_size=200)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(name, min_size=260, max_size=600), seqs=st.booleans())
def test_any_names_come_back(
    make_image: MakeImage, names: list[str], seqs: bool
) -> None:
    expected = [KernelSymbol(TEXT, "T", "_text")] + [
        KernelSymbol(TEXT + i, "t", text) for i, text in enumerate(names)
    ]
    assert decode(image_of(make_image, Tables(expected, seqs).join())) == expected


def spoiled(field: str, value: bytes) -> bytes:
    tables = Tables(symbols(600))
    setattr(tables, field, value)
    return tables.join()


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (b"", "found no kallsyms tables"),
        (spoiled("index", bytes(512)), "found no kallsyms tables"),
        (spoiled("markers", b""), "no markers"),
        (spoiled("markers", pack("<3I", 0, 4000, 8001)), "not at its marker"),
        (spoiled("count", pack("<I", 5)), "no count before its names"),
        (spoiled("offsets", b""), "more than there is room for"),
        (spoiled("base", pack("<Q", TEXT + 16)), "_text decoded is not .text"),
        (spoiled("offsets", pack("<600i", *range(600, 0, -1))), "not in order"),
    ],
)
def test_false_tables_are_refused(
    make_image: MakeImage, tables: bytes, message: str
) -> None:
    with pytest.raises(LoadError, match=message):
        decode(image_of(make_image, tables))
