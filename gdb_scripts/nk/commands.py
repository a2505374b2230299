# SPDX-License-Identifier: GPL-2.0-or-later
"""The prefix ``nk`` and its commands, each a view of a ``monitor`` command."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gdb

from nk.served import send
from nk.views import (
    VIEWS,
    View,
    answer,
    module_line,
    offers,
    options,
    packet,
    question,
    symbol_command,
)

_ATTACH = "this inferior is no partition; attach to one: target remote :1234"


class Prefix(gdb.Command):
    """What the nanokernel knows, and what Linux in a partition knows of itself.

    All of it is about the current inferior, works while its kernel is dead, and
    executes nothing there.
    """

    def __init__(self) -> None:
        super().__init__("nk", gdb.COMMAND_STATUS, prefix=True)


class Command(gdb.Command):
    """One view; its help text is the view's."""

    def __init__(self, view: View) -> None:
        self.__doc__ = view.doc
        self._view = view
        super().__init__(f"nk {view.name}", gdb.COMMAND_STATUS)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Ask the server and show the answer."""
        as_json, words = options(gdb.string_to_argv(argument))
        handle = _SPECIAL.get(self._view.name, _show)
        handle(self._view, words, as_json)

    def complete(self, text: str, word: str | None) -> Any:
        """Offer options, and expressions where an address is wanted."""
        if self._view.name == "pte" and not text.startswith("-"):
            return gdb.COMPLETE_EXPRESSION
        if self._view.name == "modules" and not text.startswith("-"):
            return gdb.COMPLETE_FILENAME
        return offers(self._view, text, word)


def partition() -> int:
    """The number of the current inferior's partition: its process id."""
    pid = gdb.selected_inferior().pid
    if not pid:
        raise gdb.GdbError(_ATTACH)
    return pid


def _ask(view: View, words: Sequence[str], as_json: bool) -> str:
    line = question(view, partition(), words, as_json)
    reply = send(packet(line))
    if reply is None:
        raise gdb.GdbError(_ATTACH)
    text = answer(reply)
    if text is None:
        raise gdb.GdbError("the server has no nanokernel's commands")
    return text


def _show(view: View, words: Sequence[str], as_json: bool) -> None:
    gdb.write(_ask(view, words, as_json))


def _pte(view: View, words: Sequence[str], as_json: bool) -> None:
    if not words:
        raise gdb.GdbError("an address is missing; see: help nk pte")
    try:
        address = int(gdb.parse_and_eval(words[0])) & (1 << 64) - 1
    except gdb.error as error:
        raise gdb.GdbError(f"{words[0]} is no address: {error}") from None
    _show(view, [f"{address:#x}", *words[1:]], as_json)


def _modules(view: View, words: Sequence[str], as_json: bool) -> None:
    if as_json:
        _show(view, words, as_json)
        return
    directories = [Path(word).expanduser() for word in words]
    for directory in directories:
        if not directory.is_dir():
            raise gdb.GdbError(f"{directory} is no directory; give one with NAME.ko")
    text = _ask(view, (), True)
    rows = json.loads(text)
    if isinstance(rows, dict):
        raise gdb.GdbError(rows["error"])
    for directory in directories:
        for row in rows:
            _load_symbols(directory, row)
    for row in rows:
        gdb.write(module_line(row, _symbols_at(row["address"])) + "\n")
    if not rows:
        gdb.write("no modules\n")


def _load_symbols(directory: Path, row: dict[str, Any]) -> None:
    if _symbols_at(row["address"]):
        return
    names = {row["name"], row["name"].replace("_", "-")}
    for path in sorted(directory.rglob("*.ko*")):
        if path.name.partition(".ko")[0] in names:
            gdb.execute(symbol_command(str(path), row), to_string=True)
            return


def _symbols_at(address: int) -> str:
    """The module's file, if gdb knows a symbol where it lies."""
    for objfile in gdb.objfiles():
        if objfile.filename and ".ko" in objfile.filename:
            found = gdb.execute(f"info symbol {address:#x}", to_string=True)
            if objfile.filename in found:
                return objfile.filename
    return ""


_SPECIAL = {"pte": _pte, "modules": _modules}


def register() -> None:
    """Define the commands."""
    Prefix()
    for view in VIEWS:
        Command(view)
