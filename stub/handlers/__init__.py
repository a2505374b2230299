# SPDX-License-Identifier: GPL-2.0-or-later
"""The packets that are served: one module per section of the gdb manual."""

from types import ModuleType

from stub.dispatch import PacketTable, Row
from stub.handlers import (
    breakpoints,
    files,
    memory,
    monitor,
    registers,
    resume,
    search,
    session,
    threads,
    xfer,
)


def rows(*modules: ModuleType) -> list[Row]:
    """Return all rows that ``modules`` declare."""
    return [row for m in modules for row in vars(m).values() if isinstance(row, Row)]


PACKETS = PacketTable(
    rows(
        session,
        threads,
        registers,
        memory,
        search,
        resume,
        breakpoints,
        xfer,
        files,
        monitor,
    )
)
