# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m nanokernel_vm.reference``: write docs/machine.md.

An example is read by ``config`` from tables that take down what
they are asked for: so types, limits and defaults are those in force.  What may be left
out is found by leaving it out.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from nanokernel_vm import config
from nanokernel_vm.build import ARTIFACTS, PROJECT
from nanokernel_vm.devices.chip import Chip
from nanokernel_vm.devices.chips import CHIPS
from nanokernel_vm.errors import ConfigError
from nanokernel_vm.table import Table, number_text

DOCUMENT = PROJECT / "docs/machine.md"
SOURCE = Path("machine.toml")
_Choice = TypeVar("_Choice", bound=StrEnum)

# Enough that every table is asked for every key.
_UART = {"chip": "uart", "port": 0x3F8, "irq": 4}
EXAMPLE: Mapping[str, Any] = {
    "machine": {},
    "partition": {
        "NAME": {
            "pid": 1,
            "base": 0,
            "size": config.ALIGNMENT,
            "device": [_UART],
            **dict.fromkeys(("kernel", "symbols", "initrd"), "@guest"),
        }
    },
}
_DEVICE = "partition.NAME.device #1"
# Tables: name, where it lies in the example, and its keys
TABLES: Mapping[str, tuple[Sequence[str | int], Mapping[str, str]]] = {
    "machine": (["machine"], config.MACHINE_KEYS),
    "partition.NAME": (["partition", "NAME"], config.PARTITION_KEYS),
    _DEVICE: (["partition", "NAME", "device", 0], config.DEVICE_KEYS),
}

CHIP_TEXTS = {
    "pic": "two 8259A interrupt controllers and their edge/level register; none where "
    "handlers are registered",
    "pit": "8254 timer; its third counter is behind `portb`",
    "portb": "system control port B: the gate of `pit`, which it needs",
    "cmos": "MC146818 clock and memory",
    "uart": "16550A; COM1 is port 0x3f8 and irq 4, COM2 is port 0x2f8 and irq 3",
    "i8042": "data port, and status port with the reset command; no keyboard "
    "controller",
    "pci": "configuration ports and the reset control register; no PCI bus",
    "post": "power-on self-test codes",
    "reset": "system control port A: the fast reset",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What ``config`` asks of one key.

    Attributes:
        kind: Its type, in words.
        default: What stands for it if it is missing; None: nothing does.
        limits: Of an integer, both included.
    """

    kind: str
    default: object
    limits: tuple[int, int] | None = None


Notes = dict[tuple[str, str], Asked]


class Noting(Table):
    """A table that takes down in ``notes`` what it is asked for."""

    def __init__(self, name: str, values: Mapping[str, Any], notes: Notes) -> None:
        super().__init__(SOURCE.name, name, values)
        self._notes = notes

    def inner(self, name: str, values: Mapping[str, Any]) -> Table:
        """Return one that takes down at the same place."""
        return Noting(name, values, self._notes)

    def value(self, key: str, kind: type, noun: str, default: Any = None) -> Any:
        """Take down any key, as its noun says."""
        self._note(key, Asked(noun, default))
        return super().value(key, kind, noun, default)

    def integer(self, key: str, default: int | None, low: int, high: int) -> int:
        """Take down an integer's limits."""
        kind = f"integer, {number_text(low)} to {number_text(high)}"
        self._note(key, Asked(kind, default, (low, high)))
        return super().integer(key, default, low, high)

    def choice(self, key: str, default: _Choice) -> _Choice:
        """Take down what there is to choose from."""
        words = " or ".join(f'`"{word}"`' for word in type(default))
        self._note(key, Asked(words, default.value))
        return super().choice(key, default)

    def _note(self, key: str, asked: Asked) -> None:
        """Keep the first note, which is that of the narrowest question."""
        self._notes.setdefault((self.name, key), asked)


def asked() -> Notes:
    """What is asked of each key, by its table's name and its own."""
    notes: Notes = {}
    config.read(Noting("", EXAMPLE, notes), SOURCE)
    return notes


def with_key(path: Sequence[str | int], key: str, value: object) -> dict[str, Any]:
    """The example with one key changed or, by None, left out."""
    root = deepcopy(dict(EXAMPLE))
    table: Any = root
    for step in path:
        table = table[step]
    table.pop(key, None)
    if value is not None:
        table[key] = value
    return root


def accepts(description: Mapping[str, Any]) -> bool:
    """Whether ``config`` takes it."""
    try:
        config.read(Table(SOURCE.name, "", description), SOURCE)
    except ConfigError:
        return False
    return True


def _default(value: object) -> str:
    match value:
        case None:
            return "none"
        case datetime():
            return f"`{value.isoformat().replace('+00:00', 'Z')}`"
        case int():
            return f"`{number_text(value)}`"
        case str():
            return f'`"{value}"`'
    return "none"


def _keys() -> Iterator[str]:
    found = asked()
    for name, (path, keys) in TABLES.items():
        yield from (f"## {_heading(name)}", "")
        yield from ("| key | | default | |", "|---|---|---|---|")
        for key, text in keys.items():
            row = found[name, key]
            optional = accepts(with_key(path, key, None))
            default = _default(row.default) if optional else "**needed**"
            yield f"| `{key}` | {row.kind} | {default} | {text} |"
        yield ""


def _heading(name: str) -> str:
    of_list, _, numbered = name.partition(" #")
    return f"`[[{of_list}]]`" if numbered else f"`[{name}]`"


def _ports(chip: Chip) -> str:
    def one(ports: range) -> str:
        last = f"-{ports[-1]:#x}" if len(ports) > 1 else ""
        return f"{ports[0]:#x}{last}"

    if chip.movable:
        return f"{sum(map(len, chip.ports))} from `port` on"
    return ", ".join(map(one, chip.ports))


def _line(chip: Chip) -> str:
    if chip.movable:
        return "`irq`"
    return "" if chip.irq is None else str(chip.irq)


def document() -> str:
    """Return the whole text."""
    chips = (
        f"| `{name}` | {_ports(chip)} | {_line(chip)} | {CHIP_TEXTS[name]} |"
        for name, chip in CHIPS.items()
    )
    lines = (
        "<!-- Made by python -m nanokernel_vm.reference; do not edit. -->",
        "# The machine's description",
        "",
        "Every key of a machine file.  `nk info FILE` shows what one comes to; what",
        "is wrong is refused before anything starts, with key and what would do.",
        "Examples: `examples/two-linuxes.toml`, `examples/host-only.toml`.",
        "",
        *_keys(),
        "## Chips",
        "",
        "| `chip` | ports | line | |",
        "|---|---|---|---|",
        *chips,
        "",
        "## Artifacts",
        "",
        "Built and cached by `nk build`: "
        + ", ".join(f"`@{name}`" for name in ARTIFACTS)
        + ".",
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
