# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``--until`` waits for, and when it can no longer come.

A partition prints no more when it has ended, has panicked or hangs.  What can be known:

* A panic: Linux's last line on its console, after which it loops for ever
  (kernel/panic.c, 6.1), or the guest's report to the nanokernel, some time ago.
* A hang: ``Partition.hang``.  What goes round with interrupts on may still come out.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from nanokernel_vm.board import Board
from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.errors import ConfigError
from nanokernel_vm.machine import Machine

_PANICKED = b"---[ end Kernel panic - not syncing: "
_LAST_WORDS = TICKS_PER_SECOND  # for a guest that has reported its panic


@dataclass(frozen=True, slots=True)
class Goal:
    """A text that a partition is to print."""

    board: Board
    text: bytes

    @property
    def seen(self) -> bool:
        """Whether it was printed."""
        return self.board.console.seen(self.text)

    @property
    def missing(self) -> str:
        """Say that it was not."""
        text = self.text.decode(errors="replace")
        return f"{self.board.partition.name} has not printed {text!r}"


class Goals:
    """All goals of a run.

    Args:
        machine: That is to reach them.
        words: ``PARTITION:TEXT``.
    """

    def __init__(self, machine: Machine, words: Sequence[str]) -> None:
        self._goals = [_goal(machine, word) for word in words]

    def __bool__(self) -> bool:
        return bool(self._goals)

    @property
    def reached(self) -> bool:
        """Whether all were printed."""
        return all(goal.seen for goal in self._goals)

    @property
    def missing(self) -> str:
        """Which were not."""
        return ", ".join(goal.missing for goal in self._goals if not goal.seen)

    @property
    def lost(self) -> str:
        """Why one can no longer be reached; empty: there is hope for all."""
        for goal in self._goals:
            if not goal.seen and (why := _silenced(goal.board)):
                return f"{goal.board.partition.name} {why}"
        return ""


def _goal(machine: Machine, word: str) -> Goal:
    name, colon, text = word.partition(":")
    board = machine.board(name)
    if board is None or not colon or not text:
        names = ", ".join(p.name for p in machine.partitions)
        raise ConfigError(f"--until {word}: write PARTITION:TEXT, with one of {names}")
    goal = Goal(board, os.fsencode(text))  # the bytes that were typed
    board.console.watch_for(goal.text)
    board.console.watch_for(_PANICKED, each_life=True)
    return goal


def _silenced(board: Board) -> str:
    """Why a partition prints no more."""
    partition = board.partition
    if not partition.alive:
        return f"has ended ({partition.failure or partition.condition.value})"
    if panic := _panic(board):
        return f"has panicked ({panic})"
    hang = partition.hang
    return f"hangs ({hang})" if hang else ""


def _panic(board: Board) -> str:
    guest = board.guest
    said = guest.panicked if guest is not None else None
    if guest and said is not None and board.partition.clock - said > _LAST_WORDS:
        return guest.panic.partition("\n")[0] or "without a word"
    if board.console.seen(_PANICKED):
        _, _, rest = bytes(board.console.output).rpartition(_PANICKED)
        line, end, _ = rest.partition(b"\n")
        return line.decode(errors="replace").removesuffix("\r")[:-5] if end else ""
    return ""
