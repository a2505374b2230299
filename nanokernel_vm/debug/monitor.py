# SPDX-License-Identifier: GPL-2.0-or-later
"""The ``monitor`` commands: what the nanokernel knows, for every client.

Each is a function of the machine, the current partition and its arguments to text.
Nothing is executed in a partition, and all of it works while one is dead.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.cpu.delivery import address_space
from nanokernel_vm.machine import Machine
from nanokernel_vm.partition import Partition

_XP_MAX = 4096


class UsageError(Exception):
    """The command was typed wrongly; the text says how it goes."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: how it is typed, what it does."""

    usage: str
    summary: str
    run: Callable[["Monitor", Partition, Sequence[str]], Iterable[str]]


class Monitor:
    """Runs commands on a machine.

    Args:
        machine: What they are about.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def run(self, current: Partition, line: str) -> str:
        """Run one line with ``current`` selected; text ending in a newline."""
        name, *arguments = line.split() or ["help"]
        command = COMMANDS.get(name)
        if command is None:
            return f"no such command: {name}; 'monitor help' lists them\n"
        try:
            return "".join(f"{row}\n" for row in command.run(self, current, arguments))
        except UsageError as error:
            return f"{error}; usage: monitor {command.usage}\n"

    def partition(self, word: str) -> Partition:
        """The partition of a name or number."""
        for partition in self.machine.partitions:
            if word in (partition.name, str(partition.pid)):
                return partition
        names = ", ".join(p.name for p in self.machine.partitions)
        raise UsageError(f"no partition {word}; there are {names}")


def _number(word: str) -> int:
    try:
        return int(word, 0)
    except ValueError:
        raise UsageError(f"{word} is not a number") from None


def _one(arguments: Sequence[str], what: str) -> int:
    if len(arguments) != 1:
        raise UsageError(f"give {what}")
    return _number(arguments[0])


def _at(ticks: int) -> str:
    return f"{ticks / TICKS_PER_SECOND:12.6f}"


def _help(_: Monitor, _p: Partition, _a: Sequence[str]) -> Iterable[str]:
    width = max(len(command.usage) for command in COMMANDS.values())
    for command in COMMANDS.values():
        yield f"{command.usage:{width}}  {command.summary}"


def _partitions(monitor: Monitor, _: Partition, _a: Sequence[str]) -> Iterable[str]:
    for p in monitor.machine.partitions:
        window = f"{p.window.base:#010x}-{p.window.end - 1:#010x}"
        state = p.engine.state
        failure = f" ({p.failure})" if p.failure else ""
        yield (
            f"{p.pid} {p.name:8} {window} {_at(p.clock)} s  rip {state.rip:#018x} "
            f"cpl {state.cpl}  {p.condition.value}{failure}"
        )


def _irqlog(
    monitor: Monitor, current: Partition, arguments: Sequence[str]
) -> Iterable[str]:
    words = list(arguments)
    count = 20
    if (words and words[-1].isdecimal() and len(words) == 2) or (
        words and words[0].isdecimal()
    ):
        count = int(words.pop())
    partition = monitor.partition(words[0]) if words else current
    log = partition.log
    shown = min(count, len(log.deliveries))
    yield f"{partition.name}: {log.delivered} delivered, the last {shown}:"
    for row in list(log.deliveries)[-count:] if count else []:
        yield (
            f"{_at(row.time)} s  vector {row.vector:#04x}  error {row.error_code:#x}  "
            f"from {row.rip:#018x} cpl {row.cpl}  to {row.handler:#018x}"
        )


def _violations(
    monitor: Monitor, current: Partition, arguments: Sequence[str]
) -> Iterable[str]:
    partition = monitor.partition(arguments[0]) if arguments else current
    yield f"{partition.name}: {partition.log.violated} violations"
    for v in list(partition.log.violations)[-20:]:
        what = "read" if v.value is None else f"write of {v.value:#x}"
        yield f"{_at(v.time)} s  {v.space} {v.addr:#x}/{v.size} {what} at {v.rip:#018x}"


def _xp(_: Monitor, current: Partition, arguments: Sequence[str]) -> Iterable[str]:
    if len(arguments) not in (1, 2):
        raise UsageError("give a physical address")
    address = _number(arguments[0])
    length = _number(arguments[1]) if len(arguments) == 2 else 64
    if not 0 < length <= _XP_MAX:
        raise UsageError(f"length {length} is not 1 to {_XP_MAX}")
    if address not in current.window or address + length > current.window.end:
        window = current.window
        yield (
            f"{address:#x} is outside {current.name}'s memory, "
            f"{window.base:#x}-{window.end - 1:#x}"
        )
        return
    data = current.window.read(address, length)
    for offset in range(0, length, 16):
        row = data[offset : offset + 16]
        text = "".join(chr(b) if 32 <= b < 127 else "." for b in row)
        yield f"{address + offset:#012x}  {row.hex(' '):47}  {text}"


def _translate(
    _: Monitor, current: Partition, arguments: Sequence[str]
) -> Iterable[str]:
    address = _one(arguments, "a virtual address") & (1 << 64) - 1
    walk = address_space(current.engine.state, current.window).walk(address)
    for level in walk.levels:
        yield f"{level.name:3} at {level.entry_pa:#014x}: {level.entry:#018x}"
    if walk.page is None:
        yield f"{address:#x} is not mapped: {walk.reason}"
        return
    flags = walk.page.flags
    rights = "".join(
        (
            "u" if flags & 4 else "s",
            "w" if flags & 2 else "r",
            "-" if flags >> 63 else "x",
        )
    )
    pa, left = walk.page.pa, walk.page.left
    yield f"{address:#x} is physical {pa:#x} ({rights}), {left:#x} bytes left"


def _info(monitor: Monitor, current: Partition, _: Sequence[str]) -> Iterable[str]:
    board = next(b for b in monitor.machine.boards if b.partition is current)
    yield f"partition    {current.pid} {current.name}, {current.condition.value}"
    yield f"memory       {current.window.base:#x}-{current.window.end - 1:#x}"
    yield f"kernel       {board.files.kernel}"
    yield f"initrd       {board.files.initrd or 'none'}"
    yield f"command line {board.files.cmdline}"
    yield f"time         {_at(current.clock).strip()} s ({current.clock} ticks)"
    yield f"interrupts   {current.log.delivered} delivered"
    yield f"violations   {current.log.violated}"
    if board.guest is not None:
        yield f"handlers     {len(board.guest.gates)} registered"
        if board.guest.panic:
            yield f"panic        {board.guest.panic}"


def _digest(
    monitor: Monitor, current: Partition, arguments: Sequence[str]
) -> Iterable[str]:
    partition = monitor.partition(arguments[0]) if arguments else current
    yield f"{partition.name}: RAM {partition.window.digest()}"


COMMANDS: dict[str, Command] = {
    "help": Command("help", "this list", _help),
    "partitions": Command("partitions", "all partitions and their state", _partitions),
    "info": Command("info", "everything of the current partition", _info),
    "irqlog": Command("irqlog [PARTITION] [N]", "the last N deliveries", _irqlog),
    "violations": Command(
        "violations [PARTITION]", "accesses to what it does not own", _violations
    ),
    "digest": Command("digest [PARTITION]", "SHA-256 of all of its memory", _digest),
    "xp": Command("xp ADDRESS [LENGTH]", "dump physical memory", _xp),
    "translate": Command("translate ADDRESS", "walk the page tables", _translate),
}
