# SPDX-License-Identifier: GPL-2.0-or-later
"""Symbols are given sizes, sections and kinds, and entries are measured."""

from pathlib import Path

import pytest

from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.elf import SymbolBinding, SymbolType
from nanokernel_vm.linux.kallsyms import KernelSymbol
from nanokernel_vm.linux.symbols import entry_length, make_symbol_file, size_symbols
from tests.unit.linux.images import DATA, TEXT, MakeImage, data, text

SECTIONS = [
    text(bytes(0x100)),
    data(".data", bytes(0x40)),
    data(".data..percpu", bytes(0x20), 0),
]


def sized(*symbols: tuple[int, str, str]) -> list[tuple[str, int, str]]:
    kernel = [KernelSymbol(*symbol) for symbol in symbols]
    return [(s.name, s.size, s.section) for s in size_symbols(kernel, SECTIONS)]


def test_a_symbol_ends_where_the_next_one_begins() -> None:
    assert sized(
        (TEXT, "T", "a"), (TEXT + 0x10, "t", "b"), (TEXT + 0x18, "t", "c")
    ) == [
        ("a", 0x10, ".text"),
        ("b", 8, ".text"),
        ("c", 0xE8, ".text"),  # the end of its section
    ]


def test_the_first_of_several_names_gets_the_size() -> None:
    assert sized(
        (TEXT, "T", "do_fork"), (TEXT, "T", "sys_fork"), (TEXT + 8, "t", "b")
    ) == [
        ("do_fork", 8, ".text"),
        ("sys_fork", 0, ".text"),
        ("b", 0xF8, ".text"),
    ]


def test_the_end_of_a_section_belongs_to_it() -> None:
    assert sized((TEXT + 0x100, "T", "_etext"), (DATA, "D", "_sdata")) == [
        ("_etext", 0, ".text"),
        ("_sdata", 0x40, ".data"),
    ]


def test_what_is_in_no_section_is_absolute() -> None:
    (symbol,) = size_symbols([KernelSymbol(0x5000, "A", "x")], SECTIONS)
    assert (symbol.section, symbol.size, symbol.type) == ("", 0, SymbolType.NOTYPE)


@pytest.mark.parametrize(
    ("addr", "letter", "kind", "binding"),
    [
        (TEXT, "T", SymbolType.FUNC, SymbolBinding.GLOBAL),
        (TEXT, "t", SymbolType.FUNC, SymbolBinding.LOCAL),
        (TEXT, "W", SymbolType.FUNC, SymbolBinding.WEAK),
        (DATA, "D", SymbolType.OBJECT, SymbolBinding.GLOBAL),
        (DATA, "b", SymbolType.OBJECT, SymbolBinding.LOCAL),
        (DATA, "V", SymbolType.OBJECT, SymbolBinding.WEAK),
        (0x10, "A", SymbolType.OBJECT, SymbolBinding.GLOBAL),  # a per-CPU variable
    ],
)
def test_kinds(
    addr: int, letter: str, kind: SymbolType, binding: SymbolBinding
) -> None:
    (symbol,) = size_symbols([KernelSymbol(addr, letter, "x")], SECTIONS)
    assert (symbol.type, symbol.binding) == (kind, binding)


@pytest.mark.parametrize(
    ("code", "length"),
    [
        ("55 48 89 e5 89 f8", 4),  # push %rbp; mov %rsp,%rbp; mov %edi,%eax
        ("e8 01 02 03 04 41 57 53 48 83 ec 08", 8),  # call __fentry__; push; push
        ("0f 1f 44 00 00 48 89 f8", 5),  # nopl; mov %rdi,%rax
        ("f3 0f 1e fa e8 01 02 03 04 c3", 9),  # endbr64; call; ret
        ("48 89 f8 55", 0),  # a push behind something else
        ("41 89 f8", 0),  # mov %edi,%r8d has a prefix that push has, too
        ("31 c0 c3", 0),
    ],
)
def test_an_entry_leaves_arguments_alone(code: str, length: int) -> None:
    section = text(b"\xcc" * 7 + bytes.fromhex(code))
    assert entry_length(section, TEXT + 7) == length


def test_a_kernel_without_kallsyms_is_refused(
    make_image: MakeImage, tmp_path: Path
) -> None:
    image = make_image(text(b"\x90"), data(".rodata", bytes(64)))
    with pytest.raises(LoadError, match="found no kallsyms tables"):
        make_symbol_file(Path(image.name), tmp_path / "out")


def test_no_kernel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bzImage").write_bytes(b"MZ" + bytes(1024))
    with pytest.raises(LoadError, match="bzImage is no 64-bit"):
        make_symbol_file(tmp_path / "bzImage", tmp_path / "out")
