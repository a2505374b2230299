# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's log."""

from dataclasses import dataclass

from drgn import Program
from drgn.helpers.linux.printk import get_printk_records

from nanokernel_vm.linux.awareness.kernel import Awareness, NoLinuxError, understood


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the log.

    Attributes:
        time: Nanoseconds of the kernel's clock.
        level: 0 (emergency) to 7 (debug).
    """

    time: int
    level: int
    text: str

    def __str__(self) -> str:
        seconds, microseconds = divmod(self.time // 1000, 1_000_000)
        return f"[{seconds:5}.{microseconds:06}] {self.text}"


@understood
def dmesg(kernel: Awareness) -> list[Record]:
    """Return the lines of the log, oldest first."""
    _check_ring(kernel.program)
    return [
        Record(record.timestamp, record.level, line)
        for record in get_printk_records(kernel.program)
        for line in record.text.decode(errors="replace").splitlines()
    ]


def _check_ring(program: Program) -> None:
    """Refuse a ring whose tail never meets its head; drgn would walk it for ever."""
    if "prb" not in program or not program["prb"].type_.type.has_member("desc_ring"):
        return  # before Linux 5.10
    ring = program["prb"].desc_ring
    tail, head = ring.tail_id.counter.value_(), ring.head_id.counter.value_()
    ids = (1 << 62) - 1  # kernel/printk/printk_ringbuffer.h: DESC_ID_MASK
    if (head - tail) & ids >= 1 << ring.count_bits.value_():
        raise NoLinuxError(f"the log's ring makes no sense: ids {tail:#x} to {head:#x}")
