# SPDX-License-Identifier: GPL-2.0-or-later
"""ORC tables are read, and the entry code's are corrected."""

import pytest

from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.orc import Kind, Reg, Rule, read_table
from tests.unit.linux.images import TEXT, MakeImage, data, text
from tests.unit.linux.tables import END, HOLE, call, entry, orc_sections

Table = list[tuple[int, Rule]]


def read(make_image: MakeImage, rows: list[tuple[int, bytes]], code: bytes) -> Table:
    rows = [(TEXT + offset, raw) for offset, raw in rows]
    table = read_table(make_image(text(code), *orc_sections(rows)))
    return [(addr - TEXT, rule) for addr, rule in table]


def short(table: Table) -> list[tuple[int, str, str, int]]:
    return [
        (addr, rule.kind.name, rule.sp_reg.name, rule.sp_offset) for addr, rule in table
    ]


def test_fields_are_decoded(make_image: MakeImage) -> None:
    raw = entry(Kind.REGS, (Reg.SP_INDIRECT, -24), (Reg.PREV_SP, -16))
    (_, rule), (_, last) = read(make_image, [(0, raw), (8, END)], b"\x90" * 16)
    assert (rule.kind, rule.sp_reg, rule.sp_offset) == (Kind.REGS, Reg.SP_INDIRECT, -24)
    assert (rule.bp_reg, rule.bp_offset, rule.end) == (Reg.PREV_SP, -16, False)
    assert last.end
    assert last.unknown
    assert not last.padding


def test_the_last_of_two_entries_for_an_address_counts(make_image: MakeImage) -> None:
    rows = [(0, call(8)), (4, HOLE), (4, call(16)), (8, HOLE)]
    table = read(make_image, rows, b"\x90" * 16)
    assert short(table) == [
        (0, "CALL", "SP", 8),
        (4, "CALL", "SP", 16),
        (8, "CALL", "UNDEFINED", 0),
    ]


PARTIAL = entry(Kind.REGS_PARTIAL, (Reg.SP, 8))
REGS = entry(Kind.REGS, (Reg.SP, 0))
# call error_entry; mov %rax,%rsp; nop
STUB = bytes.fromhex("e8 00 00 00 00  48 89 c4  90")


def test_pt_regs_is_complete_before_the_stack_is_changed(make_image: MakeImage) -> None:
    table = read(make_image, [(0, PARTIAL), (8, REGS), (9, HOLE)], STUB)
    assert short(table)[:3] == [
        (0, "REGS_PARTIAL", "SP", 8),
        (5, "REGS", "SP", 0),
        (8, "REGS", "SP", 0),
    ]


def test_another_instruction_changes_nothing(make_image: MakeImage) -> None:
    code = STUB.replace(b"\x48\x89\xc4", b"\x48\x89\xc3")
    table = read(make_image, [(0, PARTIAL), (8, REGS), (9, HOLE)], code)
    assert [addr for addr, _ in table] == [0, 8, 9]


def test_error_entry_is_a_frame_of_the_exception(make_image: MakeImage) -> None:
    pushed = entry(Kind.REGS_PARTIAL, (Reg.SP, 24))
    rows = [(0, call(8)), (1, call(16)), (11, pushed), (20, HOLE)]
    assert short(read(make_image, rows, b"\x90" * 32))[:3] == [
        (0, "REGS_PARTIAL", "SP", 16),
        (1, "REGS_PARTIAL", "SP", 24),
        (11, "REGS_PARTIAL", "SP", 24),
    ]


def test_a_function_that_ends_where_a_stub_begins_is_left_alone(
    make_image: MakeImage,
) -> None:
    rows = [(0, call(16)), (4, call(8)), (8, PARTIAL), (12, HOLE)]
    kinds = [rule.kind for _, rule in read(make_image, rows, b"\x90" * 32)]
    assert kinds == [Kind.CALL, Kind.CALL, Kind.REGS_PARTIAL, Kind.CALL]


@pytest.mark.parametrize("raw", [b"\0\0\0\0\x0a\0", b"\0\0\0\0\0\3"])
def test_unknown_values_are_refused(make_image: MakeImage, raw: bytes) -> None:
    with pytest.raises(LoadError, match="no ORC entry"):
        read(make_image, [(0, raw)], b"\x90")


def test_sections_that_disagree_are_refused(make_image: MakeImage) -> None:
    ips, entries = orc_sections([(TEXT, HOLE), (TEXT + 8, HOLE)])
    short_entries = data(".orc_unwind", bytes(entries.data)[:6], entries.addr)
    with pytest.raises(LoadError, match="differ in length"):
        read_table(make_image(text(b"\x90"), ips, short_entries))


def test_a_newer_format_is_refused(make_image: MakeImage) -> None:
    header = data(".orc_header", bytes(20), TEXT + 0x200_0000)
    with pytest.raises(LoadError, match="newer than"):
        read_table(make_image(text(b"\x90"), *orc_sections([(TEXT, HOLE)]), header))


def test_a_kernel_without_orc_is_refused(make_image: MakeImage) -> None:
    with pytest.raises(LoadError, match="has no ORC tables"):
        read_table(make_image(text(b"\x90")))


HIGH = 0xFFFF_FFFF_FFF0_0000


@pytest.mark.parametrize(
    "addrs", [(HIGH + 16, HIGH), (HIGH, 1 << 64), (HIGH, (1 << 64) + 0x70)]
)
def test_a_table_that_is_not_in_order_is_refused(
    make_image: MakeImage, addrs: tuple[int, ...]
) -> None:
    """Where the order ends, who walks beside it would never come to the end."""
    sections = orc_sections([(addr, call(8)) for addr in addrs], HIGH)
    with pytest.raises(LoadError, match="not in order"):
        read_table(make_image(text(b"\x90"), *sections))
