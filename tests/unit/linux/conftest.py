# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel images, written and read as real files."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from nanokernel_vm.linux.elf import ElfImage, Section, Segment, Symbol
from nanokernel_vm.linux.elf_writer import symbol_sections, write_elf
from tests.unit.linux.images import TEXT, MakeImage


@pytest.fixture
def make_image(tmp_path: Path) -> MakeImage:
    """Write an image of the given sections, and of symbols, and read it."""

    def make(*sections: Section, symbols: Sequence[Symbol] = ()) -> ElfImage:
        every = [*sections]
        if symbols:
            every += symbol_sections(symbols, [section.name for section in sections])
        segments = [
            Segment(5, section.addr, section.addr & 0xFFFF_FFFF, section.size)
            for section in sections
            if section.loaded
        ]
        path = tmp_path / "vmlinux"
        write_elf(path, every, segments, TEXT)
        return ElfImage.open(path)

    return make
