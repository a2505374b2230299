# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables as the scripts find them in memory are those of the kernel's file."""

from struct import pack

import pytest
from nk import orc

from nanokernel_vm import build
from nanokernel_vm.linux import orc as reference
from nanokernel_vm.linux.elf import ElfImage

SAMPLE = 5000


class Memory:
    """Some bytes at an address, and how often they were asked for."""

    def __init__(self, base: int, data: bytes) -> None:
        self.base, self.data, self.reads = base, data, 0

    def __call__(self, addr: int, length: int) -> bytes:
        self.reads += 1
        return self.data[addr - self.base : addr - self.base + length].ljust(length)


def table(rows: list[tuple[int, bytes]], code: bytes = b"") -> tuple[orc.Table, Memory]:
    """Code at 0x1000 and tables behind it at 0x10_0000."""
    base, places = 0x1000, 0x10_0000
    entries = places + 4 * len(rows)
    data = code.ljust(places - base, b"\0")
    for index, (addr, _) in enumerate(rows):
        data += pack("<i", addr - (places + 4 * index))
    memory = Memory(base, data + b"".join(entry for _, entry in rows))
    return orc.Table(memory, places, entries, len(rows)), memory


def entry(kind: int, sp_reg: int, offset: int, end: bool = False) -> bytes:
    return pack("<hhH", offset, 0, sp_reg | kind << 8 | end << 10)


def test_it_is_the_table_of_the_file() -> None:
    image = ElfImage.open(build.ensure("debian-cloud"))
    ips, entries = image.section(".orc_unwind_ip"), image.section(".orc_unwind")
    base = min(ips.addr, entries.addr) & -4096
    ram = bytearray(max(ips.end, entries.end) + 4096 - base)
    for section in (ips, entries):
        ram[section.addr - base : section.end - base] = section.data
    bounds = (ips.addr, ips.end, entries.addr, entries.end)
    symbols = dict(zip(orc.BOUNDS, bounds, strict=True))
    found = orc.kernel_table(Memory(base, bytes(ram)), symbols)
    rows = reference.read_table(image)
    same = 0
    for addr, rule in rows[:: len(rows) // SAMPLE]:
        ours = found.find(addr)
        assert ours is not None
        same += ours == (
            *(rule.kind, rule.sp_reg, rule.sp_offset),
            *(rule.bp_reg, rule.bp_offset, rule.end),
        )
    assert same >= SAMPLE - 2  # the file's reader corrects some of entry code


def test_a_rule_holds_up_to_the_next() -> None:
    found, _ = table([(0x1000, entry(0, orc.SP, 8)), (0x1010, entry(0, orc.SP, 16))])
    assert found.find(0xFFF) is None
    offsets = [rule.sp_offset for a in (0x1000, 0x100F, 0x1010, 0x9000)
               if (rule := found.find(a))]  # fmt: skip
    assert offsets == [8, 8, 16, 16]


def test_what_was_read_once_is_not_read_again() -> None:
    rows = [(0x1000 + 16 * i, entry(0, orc.SP, 8)) for i in range(20000)]
    found, memory = table(rows)
    found.find(0x1000 + 16 * 7777)
    first = memory.reads
    assert first < 20
    found.find(0x1000 + 16 * 7777 + 5)
    assert memory.reads == first


def test_tables_of_another_kernel_are_refused() -> None:
    symbols = dict(zip(orc.BOUNDS, (0, 40, 100, 180), strict=True))
    with pytest.raises(ValueError, match=r"no ORC tables of Linux 6\.1 at 0x0, 0x64"):
        orc.kernel_table(lambda _, n: bytes(n), symbols)


def test_the_gap_of_the_exception_stubs_is_filled() -> None:
    rows = [
        (0x1000, entry(orc.REGS_PARTIAL, orc.SP, 8)),
        (0x1008, entry(orc.REGS, orc.SP, 0)),
    ]
    found, memory = table(rows, code=bytes(5) + bytes.fromhex("48 89 c4"))
    rules = [orc.rule_at(found, memory, pc) for pc in (0x1004, 0x1005, 0x1008)]
    assert [(r.kind, r.sp_reg) for r in rules if r] == [
        (orc.REGS_PARTIAL, orc.SP), (orc.REGS, orc.RAX), (orc.REGS, orc.SP),
    ]  # fmt: skip
