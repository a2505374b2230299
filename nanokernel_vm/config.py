# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine's description: one TOML file to frozen values, checked before any start.

Every complaint is a ``ConfigError`` that names the file, the table and the key, and
says what would do.
"""

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import combinations
from pathlib import Path

from nanokernel_vm import files
from nanokernel_vm.abi import layout as abi
from nanokernel_vm.build import ARTIFACTS
from nanokernel_vm.devices.chip import at
from nanokernel_vm.devices.chips import CHIPS
from nanokernel_vm.errors import ConfigError
from nanokernel_vm.table import Table, shown
from stub.endpoint import parse_endpoint
from stub.errors import EndpointError

ALIGNMENT = 2 << 20  # of a window: Linux moves by large pages
PHYSICAL_LIMIT = 1 << 32  # the boot protocol's initrd and command line are 32-bit
PORTS = 0x1_0000
ISA_LINES = 16
CASCADE = 2  # the line that the second interrupt controller takes
NANOKERNEL = range(abi.PORT_HYPERCALL, abi.PORT_RETURN + 1)  # ports of its own
FILE_MAX = 1 << 20  # bytes of a description; the examples have some thousand
PATH_MAX = 4096  # include/uapi/linux/limits.h
COMMAND_LINE_MAX = 2047  # COMMAND_LINE_SIZE of x86 Linux, less the final 0

DEFAULT_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
EPOCH_YEARS = range(1970, 2100)  # from Unix's first to the last that all clocks hold
UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DEFAULT_QUANTUM_MS = 4
DEFAULT_GDB = "127.0.0.1:1234"

_FILE = "a file, looked for from the description's folder, or a built `@artifact`"
# The keys of each table, with what they are to who writes one: docs/machine.md is made
# of these and of what the functions below ask for.
MACHINE_KEYS = {
    "epoch": "when the machine is switched on, by its own clocks; with a time zone, "
    f"in the years {EPOCH_YEARS[0]} to {EPOCH_YEARS[-1]}",
    "quantum_ms": "virtual milliseconds that a partition runs in turn",
    "gdb": "where the debugger's server listens: `HOST:PORT`, `:PORT`, `unix:PATH`, "
    "`stdio`, or empty for no server",
}
PARTITION_KEYS = {
    "pid": "its number, by which gdb calls it, too; turns are in this order",
    "base": f"physical address of its window, in whole {ALIGNMENT >> 20} MiB; windows "
    "do not overlap, and end within 4 GiB",
    "size": f"bytes of its window, in whole {ALIGNMENT >> 20} MiB",
    "kernel": f"vmlinux or bzImage to start: {_FILE}",
    "symbols": f"ELF file with the kernel's symbols: {_FILE}; without it they are "
    "found or made",
    "initrd": f"initial RAM disk: {_FILE}",
    "cmdline": "the kernel's command line, in one line or several: printable ASCII, "
    f"at most {COMMAND_LINE_MAX} bytes",
    "entry": "how the kernel is entered: by the 64-bit boot protocol",
    "interrupts": "`hardware`: through its IDT, from the chips it has; `registered`: "
    "by handlers that it registers with the nanokernel ([abi.md](abi.md))",
    "on_reboot": "what a reset of its own does: `stop`, it has ended until somebody "
    "switches it on again; `restart`, it is switched on at once",
    "device": "what it owns, a list of tables; see below",
}
DEVICE_KEYS = {
    "chip": "what it is; a machine has one of each but `uart`",
    "port": "first port of a `uart`, and of no other; no two devices share a port",
    "irq": "interrupt line of a `uart`, and of no other; no two devices share a line, "
    f"and {CASCADE} is the second interrupt controller's",
}


class Entry(StrEnum):
    """How a kernel is entered."""

    LINUX64 = "linux64"  # the 64-bit boot protocol


class Interrupts(StrEnum):
    """How a partition gets its interrupts."""

    HARDWARE = "hardware"  # through its IDT
    REGISTERED = "registered"  # by the handlers it has registered with the nanokernel


class OnReboot(StrEnum):
    """What becomes of a partition that resets itself.

    To stop is the default: what led there can be looked at, and a kernel that resets
    as soon as it starts does not go round for ever.
    """

    STOP = "stop"  # it has ended, until somebody switches it on again
    RESTART = "restart"  # it is switched on again at once


@dataclass(frozen=True, slots=True)
class Artifact:
    """A built file, by the name after the ``@``: a key of ``build.ARTIFACTS``."""

    name: str

    def __str__(self) -> str:
        """Write it as the description does."""
        return f"@{self.name}"


Source = Artifact | Path


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """One device of a partition.

    Attributes:
        chip: A key of ``CHIPS``.
        ports: Its port ranges, in the order of ``CHIPS``.
        irq: Its interrupt line, 0-15; None if it has none.
    """

    chip: str
    ports: tuple[range, ...]
    irq: int | None

    @property
    def port(self) -> int:
        """Its first port."""
        return self.ports[0].start


@dataclass(frozen=True, slots=True)
class PartitionConfig:
    """One operating system's share of the machine.

    Attributes:
        name: One word; the table is ``[partition.NAME]``.
        pid: Its number, from 1.
        base: Physical address of its window.
        size: Bytes of its window.
        kernel: Image to start.
        initrd: Initial RAM disk, if any.
        cmdline: Kernel command line, words with one space between.
        entry: How the kernel is entered.
        interrupts: How they are delivered.
        devices: What it owns.
        symbols: A file with the kernel's symbols; None: they are found or made.
        on_reboot: What a reset of its own does.
    """

    name: str
    pid: int
    base: int
    size: int
    kernel: Source
    initrd: Source | None
    cmdline: str
    entry: Entry
    interrupts: Interrupts
    devices: tuple[DeviceConfig, ...]
    symbols: Source | None = None
    on_reboot: OnReboot = OnReboot.STOP

    @property
    def end(self) -> int:
        """First physical address behind its window."""
        return self.base + self.size


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """The whole machine.

    Attributes:
        partitions: In the order of their pids.
        epoch: Seconds since 1970, UTC, at which the machine is switched on.
        quantum_ms: Virtual milliseconds that a partition runs in turn.
        gdb: Where the debugger's server listens: ``HOST:PORT``, ``unix:PATH``,
            ``stdio``, or empty for no server.
    """

    partitions: tuple[PartitionConfig, ...]
    epoch: int
    quantum_ms: int
    gdb: str

    @property
    def ram_size(self) -> int:
        """Bytes of RAM, from address 0, that hold every window."""
        return max(p.end for p in self.partitions)


def load(path: Path) -> MachineConfig:
    """Read a machine's description, and see that the files it names are there.

    Raises:
        ConfigError: It cannot be read or is wrong.
    """
    try:
        text = files.contents(path, FILE_MAX).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{path}: cannot be read: {why}") from None
    machine = parse(text, path)
    for partition in machine.partitions:
        table = Table(path.name, f"partition.{partition.name}")
        for key in ("kernel", "symbols", "initrd"):
            file = getattr(partition, key)
            if isinstance(file, Path):
                _check_file(table, key, file)
    return machine


def _check_file(table: Table, key: str, file: Path) -> None:
    try:
        files.opened(file).close()
    except FileNotFoundError:
        table.fail(key, f"there is no file {file}")
    except OSError as error:
        table.fail(key, f"{file}: {error.strerror}")


def parse(text: str, source: Path) -> MachineConfig:
    """Turn a description into values; looks at no file.

    Args:
        text: TOML.
        source: Where it is from: names the file in messages, and relative paths start
            at its folder.

    Raises:
        ConfigError: It is wrong.
    """
    try:
        root = Table(source.name, "", tomllib.loads(text))
    except RecursionError:
        raise ConfigError(
            f"{source.name}: lists or tables lie in each other too deeply; "
            "no key needs more than a list of tables"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source.name}: not TOML: {error}") from None
    except ValueError:  # int() takes no more than 4,300 digits, and says not where
        raise ConfigError(f"{source.name}: {_where_digits(text)}") from None
    return read(root, source)


def read(root: Table, source: Path) -> MachineConfig:
    """Turn the root table into values; ``source`` is as in ``parse``."""
    root.only("machine", "partition")
    machine = root.table("machine", required=False)
    machine.only(*MACHINE_KEYS)
    partitions = _partitions(root.table("partition"), source)
    return MachineConfig(
        partitions=tuple(sorted(partitions, key=lambda p: p.pid)),
        epoch=_epoch(machine),
        quantum_ms=machine.integer("quantum_ms", DEFAULT_QUANTUM_MS, 1, 1000),
        gdb=_gdb(machine),
    )


def _where_digits(text: str) -> str:
    digits = max(re.finditer(r"[0-9_]+", text), key=lambda found: len(found[0]))
    line = text.count("\n", 0, digits.start()) + 1
    return f"line {line}: a number of {len(digits[0])} digits, more than any key takes"


def _epoch(table: Table) -> int:
    example = "a date and time like 2026-01-01T00:00:00Z"
    moment: datetime = table.value("epoch", datetime, example, DEFAULT_EPOCH)
    if moment.tzinfo is None:
        table.fail("epoch", f"{moment.isoformat()} has no time zone; append Z for UTC")
    # Not by astimezone: in UTC it may be in year 0 or 10000, which datetime has not.
    end = datetime(EPOCH_YEARS.stop, 1, 1, tzinfo=UTC)
    if not UNIX_EPOCH <= moment < end:
        years = f"{EPOCH_YEARS[0]} to {EPOCH_YEARS[-1]}"
        table.fail("epoch", f"{moment.isoformat()} is not within {years}")
    return (moment - UNIX_EPOCH) // timedelta(seconds=1)


def _gdb(table: Table) -> str:
    text = table.text("gdb", DEFAULT_GDB)
    try:
        if text:
            parse_endpoint(text)
    except EndpointError:
        forms = '"HOST:PORT", ":PORT", "unix:PATH", "stdio" or ""'
        table.fail("gdb", f"{shown(text)} is not {forms}")
    return text


# Partitions


def _partitions(table: Table, source: Path) -> list[PartitionConfig]:
    if not table.values:
        table.fail("", "it is empty; add a table [partition.NAME]")
    read = [_partition(table.table(name), name, source) for name in table.values]
    for first, second in combinations(read, 2):
        _check_windows(table, first, second)
    _check_devices(table, read)
    return read


def _partition(table: Table, name: str, source: Path) -> PartitionConfig:
    table.only(*PARTITION_KEYS)
    if not (name.isidentifier() and name.isascii()):
        table.fail("", f"{shown(name)} is not one word of letters, digits and _")
    partition = PartitionConfig(
        name=name,
        pid=table.integer("pid", None, 1, 9999),
        base=_aligned(table, "base", 0),
        size=_aligned(table, "size", ALIGNMENT),
        kernel=_source(table, "kernel", source),
        initrd=_source(table, "initrd", source) if "initrd" in table.values else None,
        cmdline=_command_line(table),
        entry=table.choice("entry", Entry.LINUX64),
        interrupts=table.choice("interrupts", Interrupts.HARDWARE),
        devices=tuple(_device(row) for row in table.tables("device")),
        symbols=_source(table, "symbols", source)
        if "symbols" in table.values
        else None,
        on_reboot=table.choice("on_reboot", OnReboot.STOP),
    )
    if partition.end > PHYSICAL_LIMIT:
        table.fail("size", f"the window ends at {partition.end:#x}, beyond 4 GiB")
    _check_company(table, partition)
    return partition


def _check_company(table: Table, partition: PartitionConfig) -> None:
    """See that what a chip works with is there, and what it would replace is not."""
    chips = [device.chip for device in partition.devices]
    for number, chip in enumerate(chips, 1):
        mine = Table(table.file, f"{table.name}.device #{number}")
        if chip == "portb" and "pit" not in chips:
            mine.fail("chip", 'a "portb" is the pit\'s gate; add { chip = "pit" } here')
        if chip == "pic" and partition.interrupts is Interrupts.REGISTERED:
            mine.fail(
                "chip",
                "registered handlers get their interrupts from the nanokernel; "
                'take the "pic" away',
            )


def _aligned(table: Table, key: str, low: int) -> int:
    number = table.integer(key, None, low, PHYSICAL_LIMIT)
    if number % ALIGNMENT:
        table.fail(key, f"{number:#x} is not a multiple of {ALIGNMENT:#x} (2 MiB)")
    return number


def _source(table: Table, key: str, file: Path) -> Source:
    text = table.text(key)
    if not text:
        table.fail(key, "it is empty; name a file or a built @artifact")
    if not text.isprintable() or len(text) > PATH_MAX:
        table.fail(key, f"{shown(text)} is no name of a file")
    if not text.startswith("@"):
        return file.parent / text
    if text[1:] not in ARTIFACTS:
        known = ", ".join(f"@{name}" for name in sorted(ARTIFACTS))
        table.fail(
            key, f"nothing is built by the name {shown(text)}; there are {known}"
        )
    return Artifact(text[1:])


def _command_line(table: Table) -> str:
    text = " ".join(table.text("cmdline", "").split())
    if not (text.isascii() and text.isprintable()):
        table.fail("cmdline", "it is not printable ASCII")
    if len(text) > COMMAND_LINE_MAX:
        table.fail("cmdline", f"{len(text)} bytes, Linux takes {COMMAND_LINE_MAX}")
    return text


def _check_windows(
    table: Table, first: PartitionConfig, second: PartitionConfig
) -> None:
    """See that the number and the window of the second are free."""
    mine = Table(table.file, f"partition.{second.name}")
    if first.pid == second.pid:
        mine.fail("pid", f"{second.pid} is [partition.{first.name}]'s already")
    if first.base < second.end and second.base < first.end:
        window = f"[partition.{first.name}] {first.base:#x}-{first.end - 1:#x}"
        advice = f"move it to {first.end:#x} or above"
        mine.fail("base", f"{second.base:#x} overlaps {window}; {advice}")


# Devices


def _device(table: Table) -> DeviceConfig:
    kind = table.text("chip")
    if kind not in CHIPS:
        table.fail("chip", f"{shown(kind)} is not one of {', '.join(CHIPS)}")
    chip = CHIPS[kind]
    if not chip.movable:
        table.only("chip")
        return DeviceConfig(kind, chip.ports, chip.irq)
    table.only(*DEVICE_KEYS)
    port = table.integer("port", None, 0, PORTS - max(r.stop for r in chip.ports))
    irq = table.integer("irq", None, 0, ISA_LINES - 1)
    if irq == CASCADE:
        table.fail("irq", f"{irq} is the second interrupt controller's")
    ports = tuple(at(port + r.start, len(r)) for r in chip.ports)
    if clash := _overlap(ports, (NANOKERNEL,)):
        table.fail("port", f"{clash} the nanokernel")
    return DeviceConfig(kind, ports, irq)


def _check_devices(table: Table, partitions: list[PartitionConfig]) -> None:
    """See that every chip, port and line belongs to one partition, once."""
    every = [
        (Table(table.file, f"partition.{p.name}.device #{i}"), device)
        for p in partitions
        for i, device in enumerate(p.devices, 1)
    ]
    for (theirs, first), (mine, second) in combinations(every, 2):
        for key, what in _clashes(first, second):
            mine.fail(key, f"{what} [{theirs.name}]")


def _clashes(first: DeviceConfig, second: DeviceConfig) -> Iterator[tuple[str, str]]:
    if first.chip == second.chip and not CHIPS[first.chip].movable:
        yield "chip", f"a machine has one {second.chip!r}, and it is given to"
    if clash := _overlap(second.ports, first.ports):
        yield "port", clash
    if first.irq is not None and first.irq == second.irq:
        yield "irq", f"line {second.irq} is given to"


def _overlap(mine: Sequence[range], theirs: Sequence[range]) -> str:
    """Say which ports of mine are theirs; empty: none."""
    for b in mine:
        for a in theirs:
            if a.start < b.stop and b.start < a.stop:
                ports = f"{b.start:#x}-{b.stop - 1:#x}"
                return f"{ports} overlaps {a.start:#x}-{a.stop - 1:#x} of"
    return ""
