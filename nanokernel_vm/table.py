# SPDX-License-Identifier: GPL-2.0-or-later
"""Typed access to a TOML table; complaints name the file, the table and the key."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NoReturn, TypeVar

from nanokernel_vm.errors import ConfigError

_Choice = TypeVar("_Choice", bound=StrEnum)
_SHOWN = 100  # characters of a user's text that a message repeats


class Table:
    """One TOML table, with where it is.

    Args:
        file: Name of the file.
        name: Dotted name of the table; empty for the root.
        values: What it holds.
    """

    def __init__(
        self, file: str, name: str, values: Mapping[str, Any] | None = None
    ) -> None:
        self.file, self.name, self.values = file, name, values or {}

    def inner(self, name: str, values: Mapping[str, Any]) -> "Table":
        """Return one that lies in this one."""
        return Table(self.file, name, values)

    def fail(self, key: str, why: str) -> NoReturn:
        """Raise a ConfigError about a key, or about the table if it is empty."""
        where = " ".join(filter(None, (self.name and f"[{self.name}]", key)))
        raise ConfigError(": ".join(filter(None, (self.file, _line(where), why))))

    def only(self, *known: str) -> None:
        """Refuse other keys than these."""
        for key in self.values:
            if key not in known:
                self.fail(key, f"unknown key; known are {', '.join(known)}")

    def value(self, key: str, kind: type, noun: str, default: Any = None) -> Any:
        """Return a value of exactly this type; without a default it must be there."""
        if key not in self.values:
            if default is None:
                self.fail(key, f"missing; {noun} is needed")
            return default
        found = self.values[key]
        if type(found) is not kind:
            self.fail(key, f"{shown(found)} is not {noun}")
        return found

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string."""
        return str(self.value(key, str, "a string", default))

    def integer(self, key: str, default: int | None, low: int, high: int) -> int:
        """Return an integer from ``low`` to ``high``, both included."""
        number = int(self.value(key, int, "an integer", default))
        if not low <= number <= high:
            limits = f"{number_text(low)} to {number_text(high)}"
            self.fail(key, f"{number_text(number)} is not within {limits}")
        return number

    def choice(self, key: str, default: _Choice) -> _Choice:
        """Return a member of the default's enumeration, written as its value."""
        kind = type(default)
        text = self.text(key, default.value)
        if text not in list(kind):
            self.fail(key, f"{shown(text)} is not one of {', '.join(kind)}")
        return kind(text)

    def table(self, key: str, *, required: bool = True) -> "Table":
        """Return a table in this one."""
        name = f"{self.name}.{key}" if self.name else key
        default: dict[str, Any] | None = None if required else {}
        noun = f"a table [{name}]"
        return self.inner(name, self.value(key, dict, noun, default))

    def tables(self, key: str) -> list["Table"]:
        """Return the tables of a list, which may be missing."""
        name = f"{self.name}.{key}"
        rows = self.value(key, list, f"a list of tables [[{name}]]", [])
        for row in rows:
            if not isinstance(row, dict):
                self.fail(key, f"{shown(row)} is not a table [[{name}]]")
        return [self.inner(f"{name} #{i}", row) for i, row in enumerate(rows, 1)]


def number_text(value: int) -> str:
    """Write a number as its reader would: small ones in decimal."""
    return str(value) if -10_000 < value < 10_000 else _short(hex(value))


def shown(value: object) -> str:
    """Write a value for a message: one line, never long, whatever it is."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a table"
    if type(value) is int:  # repr() refuses what has more than 4,300 digits
        return number_text(value)
    return _short(repr(value))


def _line(text: str) -> str:
    """Write a key, which may be any text in quotes, on one line."""
    return _short(text if text.isprintable() else repr(text))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
