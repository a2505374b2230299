# SPDX-License-Identifier: GPL-2.0-or-later
"""Call frame information as the scripts read and write it, and as pyelftools does."""

from pathlib import Path

import pytest
from elftools.dwarf.callframe import FDE
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from nk.described import described
from nk.ending import USER_SPACE, ending_file

from nanokernel_vm.build import ensure


@pytest.fixture
def ending(tmp_path: Path) -> Path:
    path = tmp_path / "user-space"
    path.write_bytes(ending_file())
    return path


def test_user_space_ends(ending: Path) -> None:
    with ending.open("rb") as file:
        dwarf = ELFFile(file).get_dwarf_info()
        (fde,) = (e for e in dwarf.CFI_entries() if isinstance(e, FDE))
        assert fde["initial_location"] == USER_SPACE.start
        assert fde["address_range"] == len(USER_SPACE)
        (row,) = fde.get_decoded().table
        assert row[16].type == "UNDEFINED"


def test_a_file_describes_what_its_entries_say(ending: Path) -> None:
    found = described(str(ending))
    inside = (USER_SPACE.start, 0x40_0000, USER_SPACE.stop - 1)
    assert all(pc in found for pc in inside)
    assert USER_SPACE.start - 1 not in found
    assert USER_SPACE.stop not in found


def test_a_kernel_describes_its_functions_but_not_its_entries() -> None:
    path = ensure("guest")
    found = described(str(path))
    with path.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        places = {s.name: s["st_value"] for s in table.iter_symbols()}
    assert places["do_syscall_64"] in found
    assert places["asm_exc_page_fault"] not in found


@pytest.mark.parametrize("content", [None, b"", b"MZ", bytes(64)])
def test_a_file_that_is_none_describes_nothing(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    assert 0x40_0000 not in described(str(path))
    assert 0x40_0000 not in described(None)
