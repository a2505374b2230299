# SPDX-License-Identifier: GPL-2.0-or-later
"""What the nanokernel remembers of a partition: deliveries and violations, bounded."""

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

LENGTH = 4096


class Delivered(NamedTuple):
    """One interrupt, exception or software interrupt.

    Attributes:
        time: Virtual time in ticks.
        vector: 0 to 255.
        rip: Where it came in; virtual address.
        cpl: Privilege level there.
        handler: Virtual address that was entered.
        error_code: 0 where the vector has none.
        sequence: Number of the extended frame that was built; 0: a plain one.
    """

    time: int
    vector: int
    rip: int
    cpl: int
    handler: int
    error_code: int
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Violation:
    """An access to what the partition does not own.

    Attributes:
        time: Virtual time in ticks.
        space: "memory" or "port".
        addr: Physical address or port number.
        size: Bytes.
        value: What was written; None: a read.
        rip: Virtual address of the instruction; for memory it may be one before it in
            the same straight run of code, as far as the translator has noted.
    """

    time: int
    space: str
    addr: int
    size: int
    value: int | None
    rip: int


class Log:
    """Ring logs of one partition and counts of all that went through them."""

    def __init__(self) -> None:
        self.deliveries: deque[Delivered] = deque(maxlen=LENGTH)
        self.violations: deque[Violation] = deque(maxlen=LENGTH)
        self.delivered = 0
        self.violated = 0

    def delivery(self, record: Delivered) -> None:
        """Append a delivery."""
        self.delivered += 1
        self.deliveries.append(record)

    def violation(self, record: Violation) -> None:
        """Append a violation."""
        self.violated += 1
        self.violations.append(record)
