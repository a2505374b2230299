# SPDX-License-Identifier: GPL-2.0-or-later
"""What pyelftools reads of a .debug_frame made of ORC rows."""

import subprocess
from pathlib import Path

import pytest

from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.debug_frame import USER_SPACE, DebugFrame, Row
from nanokernel_vm.linux.elf import Section
from nanokernel_vm.linux.orc import Kind, Reg, decode_rule
from tests.unit.linux.images import MakeImage, text
from tests.unit.linux.tables import END, HOLE, Frames, call, entry

# struct pt_regs, arch/x86/include/asm/ptrace.h, up to orig_rax
GENERAL = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8"),
    *("rax", "rcx", "rdx", "rsi", "rdi"),
)
PUSHED = {"rip": "c-40", "cs": "c-32", "rflags": "c-24", "rsp": "c-16", "ss": "c-8"}


def written(frames: DebugFrame, make_image: MakeImage) -> Frames:
    section = Section(".debug_frame", size=len(frames.data), data=frames.data, align=8)
    # pyelftools wants .debug_info beside it.
    info = Section(".debug_info", size=0), Section(".debug_abbrev", size=0)
    return Frames(Path(make_image(text(b"\x90"), *info, section).name))


def frames_of(
    make_image: MakeImage,
    rows: list[tuple[int, bytes]],
    functions: tuple[int, ...] = (0x1000,),
) -> Frames:
    frames = DebugFrame()
    decoded: list[Row] = [(addr, decode_rule(raw)) for addr, raw in rows]
    frames.add_rows(decoded, functions)
    return written(frames, make_image)


def test_a_called_function(make_image: MakeImage) -> None:
    rows = [(0x1000, call(8)), (0x1002, call(16)), (0x1003, call(24, bp=24))]
    rows += [(0x1043, call(8)), (0x1050, HOLE), (0x1060, HOLE)]
    frames = frames_of(make_image, rows)
    assert frames.ranges() == [(0x1000, 0x1050)]
    assert not frames.signal(0x1000)
    first = frames.at(0x1001)
    assert (first["cfa"], first["rip"], first["rbp"]) == ("rsp+8", "c-8", "s")
    assert frames.at(0x1002)["cfa"] == "rsp+16"
    pushed = frames.at(0x1042)
    assert (pushed["cfa"], pushed["rbp"], pushed["rip"]) == ("rsp+24", "c-24", "c-8")
    assert frames.at(0x1043) == first


def test_registers_that_orc_does_not_follow_are_lost(make_image: MakeImage) -> None:
    frames = frames_of(make_image, [(0x1000, call(8)), (0x1010, HOLE)])
    row = frames.at(0x1000)
    assert {row[name] for name in GENERAL if name != "rbp"} == {"u"}
    assert "rsp" not in row  # the CFA


def test_pt_regs_restore_everything(make_image: MakeImage) -> None:
    rows = [(0x1000, entry(Kind.REGS, (Reg.SP, 0))), (0x1010, HOLE)]
    frames = frames_of(make_image, rows)
    assert frames.signal(0x1000)
    row = frames.at(0x1000)
    assert row["cfa"] == "rsp+168"
    assert {name: row[name] for name in PUSHED} == PUSHED
    assert [row[name] for name in GENERAL] == [f"c{8 * i - 168}" for i in range(15)]


def test_what_the_cpu_pushed(make_image: MakeImage) -> None:
    rows = [(0x1000, entry(Kind.REGS_PARTIAL, (Reg.SP, 8))), (0x1010, HOLE)]
    row = frames_of(make_image, rows).at(0x1000)
    assert row["cfa"] == "rsp+48"
    assert {name: row[name] for name in PUSHED} == PUSHED
    assert {row[name] for name in GENERAL} == {"s"}


def test_kinds_of_row_do_not_leave_traces(make_image: MakeImage) -> None:
    regs = entry(Kind.REGS, (Reg.SP, 0))
    rows = [(0x1000, call(8)), (0x1008, regs), (0x1010, call(8)), (0x1018, HOLE)]
    frames = frames_of(make_image, rows)
    assert frames.ranges() == [(0x1000, 0x1018)]
    assert frames.at(0x1010) == frames.at(0x1000)


def test_stacks_found_in_memory(make_image: MakeImage) -> None:
    indirect = entry(Kind.CALL, (Reg.SP_INDIRECT, 8), (Reg.PREV_SP, -16))
    realigned = entry(Kind.CALL, (Reg.BP_INDIRECT, -8), (Reg.BP, 0))
    rows = [(0x1000, indirect), (0x1008, realigned), (0x1010, HOLE)]
    frames = frames_of(make_image, rows)
    # breg7 0; deref; consts 8; plus
    assert frames.at(0x1000)["cfa"] == "expr 7700061108" + "22"
    assert frames.at(0x1000)["rbp"] == "c-16"
    # breg6 -8; deref; consts 0; plus
    assert frames.at(0x1008)["cfa"] == "expr 7678061100" + "22"
    assert frames.at(0x1008)["rbp"] == "expr 7600"


@pytest.mark.parametrize(
    ("register", "name"),
    [(Reg.BP, "rbp"), (Reg.R10, "r10"), (Reg.R13, "r13"), (Reg.DI, "rdi")],
)
def test_stacks_found_by_a_register(
    make_image: MakeImage, register: Reg, name: str
) -> None:
    rows = [(0x1000, entry(Kind.CALL, (register, 16))), (0x1010, HOLE)]
    assert frames_of(make_image, rows).at(0x1000)["cfa"] == f"{name}+16"


def test_a_negative_offset(make_image: MakeImage) -> None:
    """pt_regs half popped: what was popped is still in memory."""
    rows = [(0x1000, entry(Kind.REGS, (Reg.SP, -16))), (0x1010, HOLE)]
    row = frames_of(make_image, rows).at(0x1000)
    assert (row["cfa"], row["r15"]) == ("rsp+152", "c-168")


def test_a_frame_below_the_stack_pointer(make_image: MakeImage) -> None:
    """repeat_nmi copies from there; pyelftools does not scale this offset."""
    raw = entry(Kind.REGS_PARTIAL, (Reg.SP, -80))
    frames = DebugFrame()
    frames.add_rows([(0x1000, decode_rule(raw)), (0x1010, None)], [0x1000])
    path = written(frames, make_image).path
    command = ["readelf", "--debug-dump=frames-interp", str(path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "0000000000001000 rsp-40 " in shown


def test_one_description_per_function(make_image: MakeImage) -> None:
    rows = [(0x1000, call(8)), (0x1040, HOLE)]
    frames = frames_of(make_image, rows, (0x1000, 0x1010, 0x1020))
    assert frames.ranges() == [(0x1000, 0x1010), (0x1010, 0x1020), (0x1020, 0x1040)]


def test_distant_rows(make_image: MakeImage) -> None:
    addrs = [0x1000, 0x103F, 0x1080, 0x1200, 0x20000]
    rows = [(addr, call(8 * i)) for i, addr in enumerate(addrs, 1)] + [(0x30000, HOLE)]
    frames = frames_of(make_image, rows)
    assert [frames.at(addr)["cfa"] for addr in addrs] == [
        f"rsp+{8 * i}" for i in range(1, 6)
    ]


def test_an_entry_without_a_caller_ends_the_backtrace(make_image: MakeImage) -> None:
    regs = entry(Kind.REGS, (Reg.SP, 0))
    rows = [(0x1000, END), (0x1008, regs), (0x1010, END), (0x1018, HOLE)]
    frames = frames_of(make_image, rows)
    assert frames.ranges() == [(0x1000, 0x1010), (0x1010, 0x1018)]
    assert frames.at(0x1000)["rip"] == frames.at(0x1010)["rip"] == "u"
    assert frames.at(0x1008)["rip"] == "c-40"
    assert not frames.signal(0x1010)  # its name is shown


def test_a_call_that_never_returns_may_end_an_entry(make_image: MakeImage) -> None:
    """Its return address is looked up exactly, and is the padding's."""
    rows = [(0x1000, entry(Kind.REGS, (Reg.SP, 0))), (0x100B, HOLE), (0x1010, HOLE)]
    assert frames_of(make_image, rows).at(0x100B)["rip"] == "c-40"


def test_code_without_orc_ends_the_backtrace_and_padding_is_none(
    make_image: MakeImage,
) -> None:
    rows = [(0x1000, HOLE), (0x1100, call(8)), (0x1108, HOLE), (0x1110, HOLE)]
    frames = frames_of(make_image, rows, (0x1000, 0x1100))
    assert frames.ranges() == [(0x1000, 0x1100), (0x1100, 0x1108)]
    assert frames.at(0x1000)["rip"] == "u"


def test_rows_that_are_not_ours_are_left_out(make_image: MakeImage) -> None:
    frames = DebugFrame()
    rule = decode_rule(call(8))
    rows: list[Row] = [(0x1000, rule), (0x1010, None), (0x1020, rule), (0x1030, None)]
    frames.add_rows(rows, [0x1000])
    ranges = written(frames, make_image).ranges()
    assert ranges == [(0x1000, 0x1010), (0x1020, 0x1030)]


def test_user_space_ends_the_backtrace(make_image: MakeImage) -> None:
    frames = DebugFrame()
    frames.add_end(USER_SPACE)
    read = written(frames, make_image)
    assert read.at(0x401000)["rip"] == read.at(0x7FFF_FFFF_EFFF)["rip"] == "u"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (entry(Kind.CALL, (Reg.PREV_SP, 8)), "finds the stack by PREV_SP"),
        (entry(Kind.CALL, (Reg.SP, 8), (Reg.DI, 8)), "finds rbp by DI"),
    ],
)
def test_rules_without_a_meaning_are_refused(
    make_image: MakeImage, raw: bytes, message: str
) -> None:
    with pytest.raises(LoadError, match=message):
        frames_of(make_image, [(0x1000, raw), (0x1010, HOLE)])
