# SPDX-License-Identifier: GPL-2.0-or-later
"""Registers, memory, symbols and frames: gdb's view against the nanokernel's."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from tests.live.mi import Gdb, GdbError

DIRECT_MAP = 0xFFFF_8880_0000_0000  # of physical address 0; nokaslr
WINDOWS = {1: (0, 256 << 20), 2: (256 << 20, 128 << 20)}  # base, size
inferiors = pytest.mark.parametrize("inferior", WINDOWS)


def digest(gdb: Gdb) -> str:
    """The nanokernel's SHA-256 of the current partition's RAM."""
    return str(json.loads(gdb("monitor digest -j"))["ram"])


def physical(gdb: Gdb, address: int) -> int:
    """Where the nanokernel's page walk ends."""
    match = re.search(r"is physical (0x\w+)", gdb(f"monitor translate {address:#x}"))
    assert match
    return int(match[1], 16)


def bytes_of(dump: str) -> bytes:
    """The bytes of gdb's ``x/Nxb`` or of ``monitor xp``."""
    rows = [re.sub(r"^.*?(?::|  )", "", row) for row in dump.splitlines()]
    words = [re.findall(r"\b(?:0x)?([0-9a-f]{2})\b", row[:80]) for row in rows]
    return bytes(int(word, 16) for row in words for word in row[:16])


@inferiors
def test_registers_are_the_partitions_own(gdb: Gdb, inferior: int) -> None:
    gdb.inferior(inferior)
    row = gdb("monitor partitions").splitlines()[inferior - 1]
    assert f"rip {gdb.word('$rip'):#018x}" in row
    assert f"cpl {gdb.value('$cs & 3')} " in row
    table = gdb("info registers")
    assert f"{gdb.word('$rsp'):#x}" in table
    assert re.search(r"^eflags .*\[.*\]$", table, re.MULTILINE)


def test_cr3_is_where_the_page_walk_begins(gdb: Gdb) -> None:
    top = gdb(f"monitor translate {gdb.word('$rip'):#x}")
    match = re.match(r"\w+ +at (0x\w+):", top)
    assert match
    assert gdb.word("$cr3") & ~0xFFF == int(match[1], 16) & ~0xFFF


@inferiors
def test_a_register_can_be_set_and_put_back(gdb: Gdb, inferior: int) -> None:
    gdb.inferior(inferior)
    before = gdb.word("$r15")
    gdb("set var $r15 = 0x1234567890abcdef")
    gdb("maint flush register-cache")
    assert gdb.word("$r15") == 0x1234567890ABCDEF
    gdb(f"set var $r15 = {before}")
    assert gdb.word("$r15") == before


@inferiors
def test_memory_is_what_lies_at_the_physical_address(gdb: Gdb, inferior: int) -> None:
    gdb.inferior(inferior)
    for address in (gdb.word("$rsp"), gdb.word("$rip"), gdb.word("&init_task")):
        seen = bytes_of(gdb(f"x/64xb {address:#x}"))
        assert len(seen) == 64
        pa = physical(gdb, address)
        assert seen == bytes_of(gdb(f"monitor xp {pa:#x} 64"))


@inferiors
def test_a_variable_can_be_set_and_put_back(gdb: Gdb, inferior: int) -> None:
    gdb.inferior(inferior)
    before, ram = gdb.value("panic_timeout"), digest(gdb)
    gdb("set var panic_timeout = 4711")
    assert gdb.value("panic_timeout") == 4711
    assert digest(gdb) != ram
    gdb(f"set var panic_timeout = {before}")
    assert digest(gdb) == ram


@inferiors
def test_types_and_variables_have_names(gdb: Gdb, inferior: int) -> None:
    gdb.inferior(inferior)
    assert '"swapper' in gdb("p init_task.comm")
    assert "struct list_head tasks;" in gdb("ptype struct task_struct")
    assert "Linux version 6.1" in gdb("p linux_banner")


@inferiors
def test_idle_is_seen_down_to_the_first_instruction(gdb: Gdb, inferior: int) -> None:
    gdb.alone(inferior)
    for _ in range(20):  # most of the time it is idle, and it need not be now
        if "do_idle" in gdb.frames():
            break
        gdb.start("continue")
        gdb.interrupt()
    assert {"do_idle", "cpu_startup_entry", "start_kernel"} <= {*gdb.frames()}


def test_reading_all_memory_changes_none_of_it(gdb: Gdb, tmp_path: Path) -> None:
    before, file = digest(gdb), tmp_path / "ram"
    end = DIRECT_MAP + sum(WINDOWS[1])
    gdb(f"dump binary memory {file} {DIRECT_MAP:#x} {end:#x}")
    with file.open("rb") as stream:
        assert hashlib.file_digest(stream, "sha256").hexdigest() == before
    assert digest(gdb) == before


@inferiors
def test_the_end_of_memory_is_a_short_read_and_then_an_error(
    gdb: Gdb, inferior: int
) -> None:
    gdb.inferior(inferior)
    end = DIRECT_MAP + sum(WINDOWS[inferior])
    last = gdb.word(f"*(unsigned char *){end - 1:#x}")
    assert f'received: "{last:02x}"' in gdb(f"maint packet m{end - 1:x},10")
    error = gdb(f"maint packet m{end:x},10")
    assert re.search(r'received: "E(14|\.0x\w+ is not mapped)"', error)
    with pytest.raises(GdbError, match="Cannot access memory"):
        gdb(f"x/xb {end:#x}")


@inferiors
def test_what_is_not_mapped_cannot_be_written(gdb: Gdb, inferior: int) -> None:
    gdb.inferior(inferior)
    before = digest(gdb)
    for address in (0, 0xFFFF_FFFF_FFFF_FFF8, 0x8000_0000_0000_0000):
        with pytest.raises(GdbError, match="Cannot access memory"):
            gdb(f"set var *(long *){address:#x} = 1")
    assert digest(gdb) == before


@pytest.mark.parametrize("name", ["cr0", "cr4", "efer"])
def test_what_decides_the_mode_is_not_set_from_outside(
    gdb: Gdb, program: str, name: str
) -> None:
    gdb.alone(1)
    before = gdb("info registers")
    gdb(f"set ${name} = ${name}")
    with pytest.raises(GdbError) as caught:
        gdb(f"set ${name} = ${name} ^ 8")
    assert name in str(caught.value)
    if program == "newest":  # which says that it wants to know why
        assert "only code can load it" in str(caught.value)
    gdb("maint flush register-cache")
    assert gdb("info registers") == before
