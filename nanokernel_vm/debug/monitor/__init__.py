# SPDX-License-Identifier: GPL-2.0-or-later
"""The ``monitor`` commands: what the nanokernel knows, and what Linux knows.

Plain qRcmd, so that every client has them: gdb, lldb, an IDE.  Each command is a
function of the machine, a partition and its arguments to rows of data, and another of
these rows to text; with ``-j`` the rows come as one line of JSON.  Nothing is executed
in a partition, and all of it works while one is dead.

gdb 13.1 does not tell the server that the user has changed the inferior until it needs
something of it, so every command takes the partition as its first argument, too.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path

from nanokernel_vm.debug.monitor import frames, linux, machine, triage
from nanokernel_vm.debug.monitor.command import (
    Command,
    Request,
    Session,
    Switches,
    Untouched,
    UsageError,
    parse,
)
from nanokernel_vm.errors import MachineError
from nanokernel_vm.machine import Machine
from nanokernel_vm.partition import Partition
from stub.dispatch import READ_ONLY

__all__ = ["COMMANDS", "Monitor"]


class Monitor:
    """Runs commands on a machine.

    Args:
        machine: What they are about.
        symbols: ELF files with the kernels' symbols, by partition name.
        switches: Who lets partitions run; None: nobody, and none can be switched.
    """

    def __init__(
        self,
        machine: Machine,
        symbols: Mapping[str, Path] | None = None,
        switches: Switches | None = None,
    ) -> None:
        self._session = Session(machine, symbols or {}, switches or Untouched())

    def run(self, current: Partition, line: str, *, read_only: bool = False) -> str:
        """Run one line with ``current`` selected; text ending in a newline.

        Args:
            current: The partition that is meant if none is named.
            line: The command and its arguments.
            read_only: Refuse a command that changes anything.
        """
        name, *words = line.split() or ["help"]
        command = COMMANDS.get(name)
        if command is None:
            return f"no such command: {name[:40]}; 'monitor help' lists them\n"
        as_json = "-j" in words
        words = [word for word in words if word != "-j"]
        try:
            if command.changes and read_only:
                raise MachineError(f"{name} changes something: {READ_ONLY}")
            return self._answer(command, current, words, as_json)
        except UsageError as error:
            text = f"{error}; usage: monitor {command.usage}"
        except MachineError as error:
            text = str(error)
        return _json({"error": text}) if as_json else f"{text}\n"

    def _answer(
        self, command: Command, current: Partition, words: Sequence[str], as_json: bool
    ) -> str:
        request = parse(self._session, command, current, words)
        rows = command.answer(request)
        if as_json:
            return _json(rows)
        return "".join(f"{line}\n" for line in command.text(rows))


def _json(rows: object) -> str:
    return json.dumps(rows, default=_plain, ensure_ascii=False) + "\n"


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{value!r} has no JSON form")


def _help(_: Request) -> list[dict[str, str]]:
    return [
        {"name": command.name, "usage": command.usage, "summary": command.summary}
        for command in COMMANDS.values()
    ]


def _help_text(rows: Sequence[Mapping[str, str]]) -> list[str]:
    width = max(len(row["usage"]) for row in rows)
    return [f"{row['usage']:{width}}  {row['summary']}" for row in rows]


_HELP = Command(
    "help", "this list; any command takes -j for JSON", (), _help, _help_text
)

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        _HELP,
        *machine.COMMANDS,
        *frames.COMMANDS,
        *linux.COMMANDS,
        *triage.COMMANDS,
    )
}
