# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel whose text is no longer mapped: each fault's handler cannot be fetched."""

import re

from tests.live.mi import GDBS, Gdb
from tests.live.process import NkRun, build

_TEXT = 0xFFFF_FFFF_8100_0000
_DIRECT_MAP = 0xFFFF_8880_0000_0000  # nokaslr: Documentation/x86/x86_64/mm.rst, 6.1
_ENTRIES = 10  # of 2 MiB each


def test_gdb_and_the_neighbour_are_answered_and_nk_ends(program: str) -> None:
    """The stock host faults for ever; leaving the block is the last assertion."""
    build()
    with NkRun() as run:
        run.wait_for_shells()
        gdb = Gdb(GDBS[program])
        try:
            _unmap_text(gdb, run)
            run.host.type("ls /proc; cat /proc/interrupts; dmesg\n")
            assert run.guest.answers()
            gdb.attach(run.address)
            gdb.inferior(1)
            before = _deliveries(gdb)
            gdb.start("continue")
            gdb.interrupt()
            assert _deliveries(gdb) > before
            assert "vector 0x0e  error 0x10" in gdb("monitor irqlog host 1")
            gdb("disconnect")
        finally:
            gdb.close()
        assert run.guest.answers()


def _unmap_text(gdb: Gdb, run: NkRun) -> None:
    gdb.attach(run.address)
    gdb.inferior(1)
    walk = gdb(f"monitor translate {_TEXT:#x}")
    found = re.search(r"PMD at (0x[0-9a-f]+)", walk)
    assert found, walk
    for n in range(_ENTRIES):
        at = _DIRECT_MAP + int(found[1], 16) + 8 * n
        gdb(f"set *(unsigned long *) {at:#x} = 0")
    gdb("disconnect")


def _deliveries(gdb: Gdb) -> int:
    first = gdb("monitor irqlog host 1").splitlines()[0]
    return int(first.split()[1])
