# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries into the kernel shown as such in backtraces, and ``nk frame``."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import gdb
from gdb import FrameDecorator as decoration

from nk.entered import (
    Entered,
    as_json,
    fitting,
    read_entered,
    report,
    returns,
    summary,
)
from nk.served import send
from nk.unwind import unwinder
from nk.views import answer, options, packet

_MASK = (1 << 64) - 1
_PER_CPU_END = 1 << 47  # offsets in a CPU's area, not addresses
_STACK = 1 << 14
_DELIVERIES = 64


class _EntryDecorator(decoration.FrameDecorator):
    """An entry's stub, which gdb takes for a signal handler's."""

    def __init__(self, base: Any, text: str) -> None:
        super().__init__(base)
        self._text = text

    def function(self) -> str:
        """What stands for a name."""
        return self._text

    def filename(self) -> None:
        """No source line: it says nothing of what happened."""

    def frame_args(self) -> None:
        """No arguments."""


class _PlainDecorator(decoration.FrameDecorator):
    """A frame without lines, of which gdb's own decorator leaves more out than gdb."""

    def function(self) -> Any:
        """The name, as gdb prints one."""
        return self.inferior_frame().name() or "??"

    def frame_args(self) -> Any:
        """Arguments, which there are where a function begins."""
        variables = decoration.FrameVars  # type: ignore[attr-defined]
        return variables(self.inferior_frame()).fetch_frame_args()


class _Filter:
    """Decorates entries, and what gdb's own decorator would do worse than gdb."""

    name, enabled, priority = "nanokernel", True, 100

    def filter(self, frames: Iterable[Any]) -> Iterator[Any]:
        """Called by gdb with the decorators of a backtrace."""
        machine = _Machine()
        for decorator in frames:
            frame = decorator.inferior_frame()
            if text := machine.text_of(frame):
                yield _EntryDecorator(decorator, text)
            elif frame.find_sal().symtab is None:
                yield _PlainDecorator(decorator)
            else:
                yield decorator


class _Machine:
    """The current inferior at one stop; what it is asked twice it remembers."""

    def __init__(self) -> None:
        self._inferior = gdb.selected_inferior()
        self._rows: list[dict[str, Any]] | None = None
        self._task: str | None = None

    def text_of(self, frame: gdb.Frame) -> str | None:
        """A line for an entry's frame; None for others."""
        entered = self.entered(frame)
        if entered is None:
            return None
        syscall = self._syscall(entered)
        return summary(entered, syscall, self._current(), self.stack)

    def entered(self, frame: gdb.Frame) -> Entered | None:
        """The processor's frame that a frame's stub has on its stack."""
        address = _address(frame)
        if address is None:
            return None
        try:
            found = read_entered(self._read, address, self._extended)
        except gdb.MemoryError:
            return None
        found = found._replace(stub=frame.name() or "")
        if not found.words and "SYSCALL" not in found.stub:
            found = found._replace(delivered=fitting(self._deliveries(), found))
        return found

    def _read(self, addr: int, length: int) -> bytes:
        return bytes(self._inferior.read_memory(addr, length))

    @property
    def _extended(self) -> bool:
        """Whether the kernel has asked the nanokernel for extended frames."""
        place = _address_of("nanokernel_frames")
        return place is not None and self._read(place, 1) != b"\0"

    @property
    def stack(self) -> int:
        """Size of the kernel's stacks."""
        try:
            return gdb.lookup_type("union thread_union").sizeof
        except gdb.error:
            return _STACK

    def _deliveries(self) -> list[dict[str, Any]]:
        if self._rows is None:
            self._rows = self.ask("irqlog", str(_DELIVERIES))
        return self._rows

    def ask(self, name: str, count: str) -> list[dict[str, Any]]:
        """The newest rows of a log of the server's; none if it is another's."""
        line = f"{name} -j -p {self._inferior.pid} {count}"
        reply = answer(send(packet(line)))
        try:
            return list(json.loads(reply or "{}").get("last", []))
        except ValueError:
            return []

    def _syscall(self, entered: Entered) -> str:
        if not 0 <= entered.orig_ax < 1024:
            return ""
        place = f"((void **) &sys_call_table)[{entered.orig_ax}]"
        try:
            text = gdb.execute(f"info symbol {place}", to_string=True)
        except gdb.error:
            return ""
        name = text.split()[0] if " in section " in text else ""
        return name.rpartition("sys_")[2]

    def _current(self) -> str:
        """The task that has the CPU; empty where it cannot be told."""
        if self._task is None:
            self._task = self._read_current()
        return self._task

    def _read_current(self) -> str:
        place = _address_of("current_task")
        if place is None:
            return ""
        if place < _PER_CPU_END:
            bases = (_number("$gs_base"), _number("$k_gs_base"))
            place += next((base for base in bases if base and base >> 63), 0)
        try:
            task = int.from_bytes(self._read(place & _MASK, 8), "little")
            kind = gdb.lookup_type("struct task_struct").pointer()
            fields = gdb.Value(task).cast(kind).dereference()
            return f"pid {int(fields['pid'])} ({fields['comm'].string()})"
        except (gdb.error, UnicodeDecodeError):
            return ""


def _address(frame: gdb.Frame) -> int | None:
    """Where the processor's words are that the unwinder found the caller by."""
    if frame.type() in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
        return None
    try:
        older = frame.older()
        return unwinder.entered_at(older) if older else None
    except gdb.error:
        return None


def _address_of(name: str) -> int | None:
    """A variable's address; of a per-CPU one, its offset.

    gdb 18.1 reads a pointer before it takes its address, and at an offset is nothing.
    """
    try:
        text = gdb.execute(f"info address {name}", to_string=True)
    except gdb.error:
        return None
    found = re.search("0x[0-9a-f]+", text)
    return int(found[0], 16) if found else None


def _number(expression: str) -> int | None:
    try:
        return int(gdb.parse_and_eval(f"(unsigned long) {expression}")) & _MASK
    except gdb.error:
        return None


class FrameCommand(gdb.Command):
    """The processor's frame by which the kernel was entered, word by word.

    Usage: nk frame [-j]
    It is that of the selected frame, or the next one outwards.  In a guest with
    extended frames the nanokernel's words are explained, and checked.
    With -j the words come as JSON.
    """

    def __init__(self) -> None:
        super().__init__("nk frame", gdb.COMMAND_STACK)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Find it and show it."""
        wants_json, words = options(gdb.string_to_argv(argument))
        if words:
            raise gdb.GdbError("nk frame takes no arguments; select a frame first")
        machine = _Machine()
        entered = found(machine)
        rows = machine.ask("frames", "100") if entered.words else []
        history = returns(rows, entered)
        if wants_json:
            gdb.write(json.dumps(as_json(entered, machine.stack, history)) + "\n")
        else:
            gdb.write("\n".join(report(entered, machine.stack, history)) + "\n")

    def complete(self, text: str, word: str | None) -> list[str]:
        """Offer the option."""
        return ["j" if word == "" and text == "-" else "-j"] if word is not None else []


def found(machine: _Machine) -> Entered:
    """The entry of the selected frame, or the next one outwards; GdbError if none."""
    frame: gdb.Frame | None = gdb.selected_frame()
    while frame is not None:
        if entered := machine.entered(frame):
            return entered
        try:
            frame = frame.older()
        except gdb.error:
            break
    raise gdb.GdbError("nobody entered the kernel below this frame")


def register() -> None:
    """Decorate, and define the command."""
    filters = gdb.frame_filters
    filters[_Filter.name] = _Filter()
    FrameCommand()
