# SPDX-License-Identifier: GPL-2.0-or-later
"""One command: how it is typed, what it is asked, how its rows are shown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nanokernel_vm.board import Board
from nanokernel_vm.cpu.engine import TSC_PER_TICK
from nanokernel_vm.cpu.registers import Registers
from nanokernel_vm.errors import MachineError
from nanokernel_vm.linux.awareness import Awareness, Cpu, NoLinuxError, find_vmcoreinfo
from nanokernel_vm.machine import Machine
from nanokernel_vm.partition import Partition
from stub import amd64

_GENERAL = amd64.REGISTERS[: amd64.BY_NAME["ss"].number + 1]


class UsageError(Exception):
    """The command was typed wrongly; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument.

    Attributes:
        name: As in the usage line.
        read: Understands a word, or raises UsageError.
        optional: Whether it may be left out, with all that follow.
    """

    name: str
    read: Callable[[str], Any]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        answer: Makes the rows: dataclasses and what JSON knows.
        text: Makes lines of them.
        partition: Whether it is about one.
        changes: Whether a client that may only look is refused it.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    answer: Callable[["Request"], Any]
    text: Callable[[Any], Iterable[str]]
    partition: bool = False
    changes: bool = False

    @property
    def usage(self) -> str:
        """How it is typed."""
        words = [self.name] + ["[PARTITION]"] * self.partition
        words += [f"[{p.name}]" if p.optional else p.name for p in self.parameters]
        return " ".join(words)


class Switches(Protocol):
    """Who lets partitions run, and switches them."""

    def runs(self, partition: Partition) -> bool:
        """Whether it runs now, unwatched."""

    def end(self, partition: Partition) -> None:
        """End one for good."""

    def power_off(self, partition: Partition) -> None:
        """Switch one off."""

    def power_on(self, partition: Partition) -> None:
        """Switch one on, again if it is on."""


class Untouched:
    """A machine that stands still, and whose switches nobody may touch."""

    def runs(self, partition: Partition) -> bool:
        """Nothing does."""
        return False

    def end(self, partition: Partition) -> None:
        """Let it be."""

    def power_off(self, partition: Partition) -> None:
        """Let it be."""

    def power_on(self, partition: Partition) -> None:
        """Let it be."""


class Session:
    """What commands are about, and the kernels that have been found there."""

    def __init__(
        self,
        machine: Machine,
        symbols: Mapping[str, Path],
        switches: "Switches",
    ) -> None:
        self.machine, self.switches = machine, switches
        self._symbols = symbols
        self._kernels: dict[int, Awareness] = {}

    def partition(self, word: str) -> Partition:
        """The partition of a name or number."""
        for partition in self.machine.partitions:
            if word in (partition.name, str(partition.pid)):
                return partition
        names = ", ".join(p.name for p in self.machine.partitions)
        raise UsageError(f"no partition {_short(word)}; there are {names}")

    def is_name(self, word: str) -> bool:
        """Whether a partition is called so."""
        return any(p.name == word for p in self.machine.partitions)

    def kernel(self, partition: Partition) -> Awareness:
        """Linux in a partition that stands still.

        The types are loaded once for a kernel, which is known by what it says of
        itself; values are read anew whenever they are asked for.
        """
        if self.switches.runs(partition):
            raise MachineError(
                f"{partition.name} is detached and runs; attach to it to stop it first"
            )
        known = self._kernels.get(partition.pid)
        if known and known.vmcoreinfo == find_vmcoreinfo(partition.window):
            known.refresh()
            return known
        symbols = self._symbols.get(partition.name)
        if symbols is None:
            raise NoLinuxError(f"{partition.name} has no symbol file")
        try:
            kernel = Awareness(partition.window, symbols)
        except NoLinuxError as error:
            raise NoLinuxError(f"{partition.name}: {error}") from error
        self._kernels[partition.pid] = kernel
        return kernel


@dataclass(frozen=True, slots=True)
class Request:
    """A command's arguments, understood.

    Attributes:
        partition: What it is about.
        values: By the parameters' names, those that were given.
    """

    session: Session
    partition: Partition
    values: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """An argument."""
        return self.values.get(name, default)

    @property
    def machine(self) -> Machine:
        """The machine."""
        return self.session.machine

    @property
    def board(self) -> Board:
        """The partition with its devices."""
        return next(b for b in self.machine.boards if b.partition is self.partition)

    @property
    def kernel(self) -> Awareness:
        """Linux in the partition."""
        return self.session.kernel(self.partition)

    @property
    def cpu(self) -> Cpu:
        """The partition's CPU."""
        registers = Registers(self.partition.engine, self.partition.pid)
        values = {
            register.name: int.from_bytes(registers.read(register.number), "little")
            for register in _GENERAL
        }
        return Cpu(values, self.partition.clock * TSC_PER_TICK)


_WORD = range(-(1 << 63), 1 << 64)
_COUNTS = range(1 << 31)
_TASKS = range(1 << 31)  # Linux' pid_t
_SHOWN = 40  # characters of a wrong word that are worth repeating


def number(word: str) -> int:
    """Read a number of 64 bits: decimal, 0x..., 0o..., 0b..."""
    return _within(_WORD, word, "has more than 64 bits")


def count(word: str) -> int:
    """Read how many of something are wanted."""
    return _within(_COUNTS, word, f"is not a count from 0 to {_COUNTS[-1]}")


def task(word: str) -> int:
    """Read a task's number."""
    return _within(_TASKS, word, "is not a task's number")


def _within(allowed: range, word: str, otherwise: str) -> int:
    try:
        value = int(word, 0)
    except ValueError:
        raise UsageError(f"{_short(word)} is not a number") from None
    if value not in allowed:
        raise UsageError(f"{_short(word)} {otherwise}")
    return value


def _short(word: str) -> str:
    return word if len(word) <= _SHOWN else f"{word[:_SHOWN]}..."


def parse(
    session: Session, command: Command, current: Partition, words: Sequence[str]
) -> Request:
    """Understand the words behind a command's name.

    Raises:
        UsageError: There are too few, too many or wrong ones.
    """
    partition, rest = _partition(session, command, current, list(words))
    if len(rest) > len(command.parameters):
        raise UsageError(f"{_short(rest[len(command.parameters)])} is too much")
    for parameter in command.parameters[len(rest) :]:
        if not parameter.optional:
            raise UsageError(f"{parameter.name} is missing")
    values = {
        parameter.name: parameter.read(word)
        for parameter, word in zip(command.parameters, rest, strict=False)
    }
    return Request(session, partition, values)


def _partition(
    session: Session, command: Command, current: Partition, words: list[str]
) -> tuple[Partition, list[str]]:
    """The partition: behind -p, or the first word if that cannot be an argument.

    A number means a partition only where it is one word too many.
    """
    if not command.partition:
        return current, words
    if "-p" in words:
        at = words.index("-p")
        if at + 1 == len(words):
            raise UsageError("-p needs a partition")
        return session.partition(words[at + 1]), words[:at] + words[at + 2 :]
    if words and (session.is_name(words[0]) or not _fits(command, words)):
        return session.partition(words[0]), words[1:]
    return current, words


def _fits(command: Command, words: Sequence[str]) -> bool:
    if len(words) > len(command.parameters):
        return False
    try:
        command.parameters[0].read(words[0])
    except UsageError:
        return False
    return True
