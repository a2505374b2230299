# SPDX-License-Identifier: GPL-2.0-or-later
"""A .debug_frame is completed; what it says already is kept."""

from pathlib import Path
from struct import pack

import pytest

from nanokernel_vm.errors import BuildError, LoadError
from nanokernel_vm.linux.debug_frame import DebugFrame, Row
from nanokernel_vm.linux.elf import ElfImage, Section
from nanokernel_vm.linux.entry_frames import orc_debug_frame_file
from nanokernel_vm.linux.orc import Kind, Reg, decode_rule
from tests.unit.linux.images import TEXT, MakeImage, function, text
from tests.unit.linux.tables import HOLE, Frames, call, entry, orc_sections

C_CODE, SWITCHING, ENTRY = TEXT, TEXT + 0x20, TEXT + 0x40
FUNCTIONS = [
    function("c_code", C_CODE, 0x1C),
    function("common_interrupt", SWITCHING, 0x20),
    function("asm_common_interrupt", ENTRY, 0x20),
]
ORC = [
    (C_CODE, call(8)),
    (C_CODE + 0x1C, HOLE),
    (SWITCHING, call(8)),
    (SWITCHING + 8, entry(Kind.CALL, (Reg.SP_INDIRECT, 8))),
    (ENTRY, entry(Kind.REGS, (Reg.SP, 0))),
    (ENTRY + 0x20, HOLE),
    (ENTRY + 0x30, HOLE),
]


def compiled() -> bytes:
    """What a compiler says: more than ORC, but nothing of stack switches."""
    frames = DebugFrame()
    rule = decode_rule(call(0x80))
    rows: list[Row] = [(C_CODE, rule), (C_CODE + 0x1C, None)]
    rows += [(SWITCHING, rule), (ENTRY, None)]
    frames.add_rows(rows, [C_CODE, SWITCHING])
    return frames.data


def kernel(make_image: MakeImage, frame: bytes) -> ElfImage:
    return make_image(
        text(b"\x90" * 0x100),
        *orc_sections(ORC),
        Section(".debug_info", size=0),
        Section(".debug_abbrev", size=0),
        Section(".debug_frame", size=len(frame), data=frame, align=8),
        symbols=FUNCTIONS,
    )


@pytest.fixture
def completed(make_image: MakeImage, tmp_path: Path) -> Frames:
    out = tmp_path / "vmlinux.debug"
    orc_debug_frame_file(Path(kernel(make_image, compiled()).name), out)
    return Frames(out)


def test_the_compilers_word_stands(completed: Frames) -> None:
    assert completed.at(C_CODE)["cfa"] == "rsp+128"


def test_entry_code_is_added(completed: Frames) -> None:
    assert completed.at(ENTRY)["rip"] == "c-40"
    assert completed.signal(ENTRY)


def test_functions_that_switch_stacks_are_replaced(completed: Frames) -> None:
    assert completed.at(SWITCHING)["cfa"] == "rsp+8"
    assert completed.at(SWITCHING + 8)["cfa"].startswith("expr")
    assert completed.ranges().count((0, 0)) == 1


def test_user_space_ends_the_backtrace(completed: Frames) -> None:
    assert completed.at(0x40_0000)["rip"] == "u"


def test_everything_else_is_as_it_was(make_image: MakeImage, tmp_path: Path) -> None:
    image = kernel(make_image, compiled())
    orc_debug_frame_file(Path(image.name), tmp_path / "out")
    copy = ElfImage.open(tmp_path / "out")
    assert copy.symbols() == image.symbols()
    for before, after in zip(image.sections, copy.sections, strict=True):
        assert before.name == after.name
        if before.name != ".debug_frame":
            assert bytes(before.data) == bytes(after.data)


def test_a_damaged_section_is_refused(make_image: MakeImage, tmp_path: Path) -> None:
    image = kernel(make_image, compiled() + pack("<I", 400))
    with pytest.raises(LoadError, match=r"has a damaged \.debug_frame"):
        orc_debug_frame_file(Path(image.name), tmp_path / "out")


def test_a_stripped_kernel_is_refused(make_image: MakeImage, tmp_path: Path) -> None:
    frame = compiled()
    sections = Section(".debug_frame", size=len(frame), data=frame)
    image = make_image(text(b"\x90"), *orc_sections(ORC), sections)
    with pytest.raises(LoadError, match="or no symbols"):
        orc_debug_frame_file(Path(image.name), tmp_path / "out")


def test_a_place_that_cannot_be_written_is_named(
    make_image: MakeImage, tmp_path: Path
) -> None:
    image = kernel(make_image, compiled())
    with pytest.raises(BuildError, match="nowhere/out cannot be written"):
        orc_debug_frame_file(Path(image.name), tmp_path / "nowhere/out")
