# SPDX-License-Identifier: GPL-2.0-or-later
"""What a partition is, as plain data, and its fingerprint.

Two runs are the same run if these agree: memory, the whole processor with what no
client is shown, devices, the nanokernel's tables, and what the partition waits for.
Logs are left out, and so is what only a debugger owns: nothing to come depends on them.
"""

import hashlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import Enum

from nanokernel_vm.board import Board


@dataclass(frozen=True, slots=True)
class Digest:
    """SHA-256 of each part of a partition's state, in hex."""

    ram: str
    cpu: str
    life: str
    devices: str
    nanokernel: str

    def rows(self) -> dict[str, str]:
        """By name."""
        return asdict(self)

    @property
    def whole(self) -> str:
        """SHA-256 of all parts."""
        return _sha256("\n".join(self.rows().values()))


def state(board: Board) -> dict[str, object]:
    """All of a partition's state but its memory, as plain data by part."""
    partition, guest = board.partition, board.guest
    return {
        "cpu": partition.engine.plain(),
        "life": partition.plain(),
        "devices": {name: chip.state() for name, chip in board.devices.items()},
        "nanokernel": guest.state() if guest is not None else {},
    }


def digest(board: Board) -> Digest:
    """Fingerprint a partition, which does not run meanwhile."""
    parts = {name: _sha256(canonical(part)) for name, part in state(board).items()}
    return Digest(ram=board.partition.window.digest(), **parts)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def canonical(value: object) -> str:
    """Write plain data so that equal values, and no others, have equal texts.

    Raises:
        TypeError: It holds something that is no plain data, which nobody could restore.
    """
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if value is None or isinstance(value, int | float | str | bytes):
        return repr(value)
    if isinstance(value, bytearray):
        return repr(bytes(value))
    if is_dataclass(value) and not isinstance(value, type):
        named = {f.name: getattr(value, f.name) for f in fields(value)}
        return type(value).__name__ + canonical(named)
    if isinstance(value, Mapping):
        pairs = ((canonical(k), canonical(v)) for k, v in value.items())
        return "{" + ",".join(f"{k}:{v}" for k, v in sorted(pairs)) + "}"
    if isinstance(value, Set):
        return "<" + ",".join(sorted(canonical(item) for item in value)) + ">"
    if isinstance(value, Iterable):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    raise TypeError(f"{value!r} is no plain data")
