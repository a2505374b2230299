# SPDX-License-Identifier: GPL-2.0-or-later
"""Cores, made here byte by byte."""

from pathlib import Path
from struct import pack

import pytest
from drgn import FaultError

from nanokernel_vm.linux.awareness import find_vmcoreinfo
from nanokernel_vm.triage.core import Core, CoreError
from tests.failures.elfcore import PT_LOAD, PT_NOTE, elf, prstatus


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "vmcore"


def test_memory_is_found_by_physical_address(file: Path) -> None:
    low, high = bytes(range(256)) * 16, b"\x5a" * 4096
    file.write_bytes(elf((PT_LOAD, 0x3000, high), (PT_LOAD, 0x1000, low)))
    core = Core(file)
    assert (core.base, core.end, core.size) == (0x1000, 0x4000, 0x3000)
    assert core.word(0x1008) == 0x0F0E0D0C0B0A0908
    assert core.read(0x1FFE, 2) == b"\xfe\xff"
    assert core.read(0x3000, 4096) == high


def test_a_hole_is_no_memory(file: Path) -> None:
    file.write_bytes(elf((PT_LOAD, 0, bytes(4096)), (PT_LOAD, 0x2000, bytes(4096))))
    core = Core(file)
    assert core.word(0x1000) == 0
    for address, length in ((0x1000, 1), (0xFFF, 2), (0x1FFF, 2), (0x2FFF, 2)):
        with pytest.raises(FaultError):
            core.read(address, length)


def test_a_read_may_go_over_a_seam(file: Path) -> None:
    file.write_bytes(elf((PT_LOAD, 0, b"a" * 4096), (PT_LOAD, 4096, b"b" * 4096)))
    assert Core(file).read(4095, 2) == b"ab"


def test_memory_that_is_there_twice(file: Path) -> None:
    """As the kernel's text in /proc/vmcore: by itself, and within all memory."""
    ram, text = bytes(range(256)) * 16, bytes(range(256)) * 4
    file.write_bytes(elf((PT_LOAD, 0x1000, ram), (PT_LOAD, 0x1400, text)))
    core = Core(file)
    assert core.read(0x1000, 4096) == ram
    assert core.read(0x1FF8, 8) == ram[-8:]
    assert core.word(0x1FF8) != 0
    assert core.end == 0x2000


def test_the_first_cpus_registers(file: Path) -> None:
    other = pack("<III8s", 5, 4, 6, b"QEMU\0") + b"1234"
    notes = other + prstatus(rip=7, rsp=8, r15=9, eflags=2) + prstatus(rip=1)
    file.write_bytes(elf((PT_NOTE, 0, notes), (PT_LOAD, 0, bytes(8))))
    registers = Core(file).registers
    assert {n: registers[n] for n in ("rip", "rsp", "r15", "eflags")} == {
        "rip": 7, "rsp": 8, "r15": 9, "eflags": 2,
    }  # fmt: skip


def test_a_core_without_registers(file: Path) -> None:
    file.write_bytes(elf((PT_LOAD, 0, bytes(8))))
    assert Core(file).registers == {}


def test_a_core_that_was_cut_off_has_what_is_left(file: Path) -> None:
    file.write_bytes(elf((PT_LOAD, 0, b"a" * 4096))[:-96])
    core = Core(file)
    assert core.end == 4000
    with pytest.raises(FaultError):
        core.read(3999, 2)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"KDUMP   " + bytes(99), "makedumpfile -E"),
        (b"#!/bin/sh", "is not an ELF core"),
        (b"\x7fELF" + bytes(99), "no core of x86-64"),
        (b"\x7fELF\2\1\1" + bytes(20), "is damaged"),
        (elf((PT_LOAD, 0, b"x"), kind=2), "no core of x86-64"),
        (elf((PT_NOTE, 0, b"")), "holds no memory"),
    ],
)  # fmt: skip
def test_what_is_no_core(file: Path, content: bytes, complaint: str) -> None:
    file.write_bytes(content)
    with pytest.raises(CoreError, match=complaint):
        Core(file)


WILD = (1 << 62, (1 << 64) - 1, 1 << 52)


@pytest.mark.parametrize("address", WILD)
def test_what_has_no_physical_address_is_left_out(file: Path, address: int) -> None:
    file.write_bytes(elf((PT_LOAD, address, b"a" * 4096), (PT_LOAD, 0, b"b" * 4096)))
    core = Core(file)
    assert list(core.pieces()) == [range(4096)]
    assert find_vmcoreinfo(core) is None


def test_a_note_in_memory_that_is_far_away_is_found(file: Path) -> None:
    """Between it and the rest are as many pages as nobody can go through."""
    text = b"OSRELEASE=6.1.0\n"
    note = pack("<III12s", 11, len(text), 0, b"VMCOREINFO") + text
    far = (1 << 52) - 4096
    file.write_bytes(elf((PT_LOAD, 0, bytes(4096)), (PT_LOAD, far, note)))
    assert find_vmcoreinfo(Core(file)) == text.rstrip(b"\0")
    file.write_bytes(elf((PT_LOAD, 0, bytes(4096)), (PT_LOAD, far, note[:-4])))
    assert find_vmcoreinfo(Core(file)) is None


@pytest.mark.parametrize("offset", [*WILD, 1000])
def test_headers_that_are_elsewhere(file: Path, offset: int) -> None:
    content = bytearray(elf((PT_LOAD, 0, b"x")))
    content[32:40] = pack("<Q", offset)
    file.write_bytes(content)
    with pytest.raises(CoreError, match="damaged"):
        Core(file)


def test_segments_that_are_of_one_place(file: Path) -> None:
    """Of each other in memory, not in the file: a bomb."""
    content = bytearray(elf(*[(PT_LOAD, n << 32, b"x" * 4096) for n in range(100)]))
    for number in range(100):
        at = 64 + 56 * number
        content[at + 8 : at + 16] = pack("<Q", 64)
        content[at + 32 : at + 40] = pack("<Q", len(content) - 64)
    file.write_bytes(content)
    with pytest.raises(CoreError, match="hold more than the file"):
        Core(file)


def test_more_segments_than_the_header_can_count(file: Path) -> None:
    """PN_XNUM, as QEMU writes."""
    content = bytearray(elf((PT_LOAD, 0x1000, b"x" * 8)))
    content[40:48] = pack("<Q", len(content))  # e_shoff
    content[56:58] = pack("<H", 0xFFFF)  # e_phnum
    file.write_bytes(content + pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 1, 0, 0))
    assert list(Core(file).pieces()) == [range(0x1000, 0x1008)]


def test_notes_that_are_cut_off(file: Path) -> None:
    for length in range(0, 200, 7):
        notes = prstatus(rip=7)[:length]
        file.write_bytes(elf((PT_LOAD, 0, bytes(8)), (PT_NOTE, 0, notes)))
        assert Core(file).registers.get("rip", 0) == 0
