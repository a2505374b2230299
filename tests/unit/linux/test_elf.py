# SPDX-License-Identifier: GPL-2.0-or-later
"""Files written are what pyelftools says they are, and what is read back."""

from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section as AnySection
from elftools.elf.sections import SymbolTableSection

from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.elf import (
    ElfImage,
    Section,
    SectionType,
    Symbol,
    SymbolBinding,
    SymbolType,
)
from nanokernel_vm.linux.elf_writer import copy_with_section
from tests.unit.linux.images import DATA, TEXT, MakeImage, data, function, text

LOCAL = Symbol("here", TEXT + 1, 1, SymbolType.NOTYPE, SymbolBinding.LOCAL, ".text")
ABSOLUTE = Symbol("abs", 7, 0, SymbolType.NOTYPE, SymbolBinding.GLOBAL, "")


def sample(make_image: MakeImage) -> ElfImage:
    return make_image(
        text(b"\x90\xc3"),
        data(".rodata", b"const", DATA + 0x123),
        data(".bss", b"\0" * 9, DATA + 0x1000).without_contents(),
        Section(".debug_info", size=3, data=b"dbg"),
        symbols=[function("start", TEXT, 2), LOCAL, ABSOLUTE],
    )


def section_of(elf: ELFFile, name: str) -> AnySection:
    found = elf.get_section_by_name(name)
    assert found is not None
    return found


def test_another_reader_finds_the_sections(make_image: MakeImage) -> None:
    with Path(sample(make_image).name).open("rb") as file:
        elf = ELFFile(file)
        assert elf["e_entry"] == TEXT
        rodata = section_of(elf, ".rodata")
        assert (rodata["sh_addr"], rodata.data()) == (DATA + 0x123, b"const")
        assert section_of(elf, ".bss")["sh_type"] == "SHT_NOBITS"
        assert section_of(elf, ".debug_info").data() == b"dbg"
        symtab = section_of(elf, ".symtab")
        assert isinstance(symtab, SymbolTableSection)
        names = [s.name for s in symtab.iter_symbols()]
        assert names == ["", "here", "start", "abs"]  # locals first


def test_sections_lie_in_the_file_as_in_their_segments(make_image: MakeImage) -> None:
    with Path(sample(make_image).name).open("rb") as file:
        elf = ELFFile(file)
        section = section_of(elf, ".text")
        assert [list(elf.address_offsets(TEXT))] == [[section["sh_offset"]]]


def test_it_reads_what_it_wrote(make_image: MakeImage) -> None:
    image = sample(make_image)
    assert image.entry == TEXT
    assert bytes(image.section(".rodata").data) == b"const"
    assert image.section(".bss").type == SectionType.NOBITS
    assert image.section(".bss").size == 9
    assert set(image.symbols()[1:]) == {LOCAL, function("start", TEXT, 2), ABSOLUTE}


def test_memory_is_read_by_address(make_image: MakeImage) -> None:
    image = sample(make_image)
    assert image.read(TEXT + 1, 10) == b"\xc3"
    assert image.read(DATA + 0x124, 3) == b"ons"
    assert image.read(DATA, 4) == b""
    assert image.read(DATA + 0x1000, 4) == b""  # only the kernel knows its bss


def test_a_section_can_be_exchanged_in_a_copy(
    make_image: MakeImage, tmp_path: Path
) -> None:
    image = sample(make_image)
    copy_with_section(image, tmp_path / "copy", image.section(".debug_info"), b"longer")
    copy = ElfImage.open(tmp_path / "copy")
    assert bytes(copy.section(".debug_info").data) == b"longer"
    assert copy.read(DATA + 0x123, 5) == b"const"
    assert copy.symbols() == image.symbols()


def test_a_missing_section_is_named(make_image: MakeImage) -> None:
    with pytest.raises(LoadError, match=r"vmlinux has no section \.BTF"):
        sample(make_image).section(".BTF")


@pytest.mark.parametrize("contents", [b"", b"MZ" + bytes(200), b"\x7fELF\x01\x01\x01"])
def test_other_files_are_refused(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(contents)
    with pytest.raises(LoadError, match=r"file"):
        ElfImage.open(path)


def test_a_file_cut_off_anywhere_is_refused(make_image: MakeImage) -> None:
    contents = Path(sample(make_image).name).read_bytes()
    for length in range(len(contents)):
        with pytest.raises(LoadError):
            ElfImage(contents[:length])


def test_another_machine_is_refused(make_image: MakeImage) -> None:
    contents = bytearray(Path(sample(make_image).name).read_bytes())
    contents[18] = 183  # AArch64
    with pytest.raises(LoadError, match="machine 183"):
        ElfImage(bytes(contents))


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="cannot be read"):
        ElfImage.open(tmp_path)
