# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets as declared rows: syntax, features and what of the target each needs.

A handler is written under the syntax as the gdb manual prints it::

    @packet("m{addr:x},{length:x}")
    def read_memory(session: Session, target: Inferior, addr: int, length: int) -> bytes

Fields are ``{name:kind}``, ``[...]`` may be left out (its fields are None).  A
parameter ``target`` asks by its annotation for the selected inferior, the
machine, or an optional capability without which the packet does not exist.
The client is told of a feature only by the row that implements it.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from stub.errors import Errno, ProtocolError, StubError, TargetError, error_reply
from stub.ids import ThreadId
from stub.outcomes import Outcome
from stub.session import Session
from stub.target import Machine

Handler = Callable[..., Outcome]

READ_ONLY = "this server is read-only: who connects may look, and nothing else"


@dataclass(frozen=True, slots=True)
class _Kind:
    pattern: str
    decode: Callable[[bytes], object]
    type: object


def _hexadecimal(text: bytes) -> int:
    return int(text, 16)


def _hex_bytes(text: bytes) -> bytes:
    return bytes.fromhex(text.decode())


def _text(text: bytes) -> str:
    """Decode what only ever is compared with names, or shown."""
    return text.decode("ascii", "backslashreplace")


_KINDS = {
    "x": _Kind("[0-9a-fA-F]{1,16}", _hexadecimal, int),
    "hex": _Kind("(?:[0-9a-fA-F]{2})*", _hex_bytes, bytes),
    "raw": _Kind(".*", bytes, bytes),
    "letter": _Kind("[a-zA-Z]", bytes.decode, str),
    "text": _Kind("[^:;,]*", _text, str),
    "thread": _Kind(r"[p.0-9a-fA-F-]+", ThreadId.parse, ThreadId),
}

# Names of one letter but for q, Q and v, whose names run to the first
# separator, and for the families that go on behind one.  Matching by prefix
# instead would let qC swallow qCRC.
_NAME = re.compile(rb"(?:qXfer:[^:]*|qSearch|vFile):[^:;,]*|[qQv][^,;:]*|.", re.DOTALL)
_FAMILIES = frozenset(b"qQv")
_TOKEN = re.compile(r"\{(?P<field>\w+):(?P<kind>\w+)\}|(?P<text>[^{}]+)")


def name_of(payload: bytes) -> bytes:
    """Return the packet's name, by which its row is found."""
    if payload and payload[0] not in _FAMILIES:
        return payload[:1]
    match = _NAME.match(payload)
    return match[0] if match else b""


@dataclass(frozen=True, slots=True)
class Row:
    """One packet: how to read it and what to call.

    Attributes:
        wants: Type of the handler's ``target``, or None if it takes none.
        features: Words of qSupported that are true because of this row.
        changes: Whether a client that may only look is refused it.
    """

    name: bytes
    pattern: re.Pattern[bytes]
    decoders: tuple[Callable[[bytes], object], ...]
    handler: Handler
    wants: type | None
    features: tuple[str, ...]
    changes: bool

    def __call__(self, session: Session, payload: bytes) -> Outcome:
        """Parse ``payload`` and let the handler answer it."""
        if self.changes and session.read_only:
            raise TargetError(Errno.EPERM, READ_ONLY)
        match = self.pattern.fullmatch(payload)
        if match is None:
            raise ProtocolError(f"malformed {self.name.decode('ascii', 'replace')}")
        fields = [
            None if text is None else decode(text)
            for decode, text in zip(self.decoders, match.groups(), strict=True)
        ]
        if self.wants is None:
            return self.handler(session, *fields)
        target = session.resolve(self.wants)
        return b"" if target is None else self.handler(session, target, *fields)


def packet(
    template: str, *, features: Iterable[str] = (), changes: bool = False
) -> Callable[[Handler], Row]:
    """Make a handler the row for ``template``.

    Raises TypeError, when the module is imported, if the two disagree.
    """
    fields = [
        (m["field"], _KINDS[m["kind"]]) for m in _TOKEN.finditer(template) if m["field"]
    ]
    pattern = re.compile(_regex(template).encode(), re.DOTALL)
    decoders = tuple(kind.decode for _, kind in fields)
    name = name_of(re.split(r"[\[{]", template)[0].encode())

    def declare(handler: Handler) -> Row:
        wants = _check(template, handler, fields)
        return Row(name, pattern, decoders, handler, wants, tuple(features), changes)

    return declare


def _regex(template: str) -> str:
    """Turn a template into a regular expression with one group per field."""

    def part(match: re.Match[str]) -> str:
        if match["field"]:
            return f"({_KINDS[match['kind']].pattern})"
        literal = re.escape(match["text"])
        return literal.replace(r"\[", "(?:").replace(r"\]", ")?")

    return _TOKEN.sub(part, template)


def _check(
    template: str, handler: Handler, fields: list[tuple[str, _Kind]]
) -> type | None:
    """Compare a signature with its template; return the wanted target's type."""
    parameters = list(inspect.signature(handler).parameters.values())
    wants: type | None = None
    if len(parameters) > 1 and parameters[1].name == "target":
        wants = parameters.pop(1).annotation
    declared = [(p.name, p.annotation) for p in parameters[1:]]
    expected = [(name, kind.type) for name, kind in fields]
    if [name for name, _ in declared] != [name for name, _ in expected]:
        raise TypeError(f"{template} does not fit {handler.__name__}{declared}")
    for (name, annotation), (_, type_) in zip(declared, expected, strict=True):
        if annotation not in (type_, type_ | None):  # type: ignore[operator]  # a class
            raise TypeError(f"{template}: {name} is {type_}, not {annotation}")
    return wants


class PacketTable:
    """An immutable set of rows."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows: dict[bytes, Row] = {}
        for row in rows:
            if row.name in self._rows:
                raise TypeError(f"two rows for {row.name!r}")
            self._rows[row.name] = row

    def __iter__(self) -> Iterator[Row]:
        """Iterate over the rows."""
        return iter(self._rows.values())

    def session(self, machine: Machine, *, read_only: bool = False) -> Session:
        """Return a new session, offering what the rows can do with ``machine``."""
        session = Session(machine, read_only=read_only)
        session.offers = tuple(
            feature
            for row in self
            if row.wants is None or session.supports(row.wants)
            if not (row.changes and read_only)
            for feature in row.features
        )
        return session

    def dispatch(self, session: Session, payload: bytes) -> Outcome:
        """Answer one packet: empty if it is unknown, an error if it fails."""
        row = self._rows.get(name_of(payload))
        if row is None:
            return b""
        try:
            return row(session, payload)
        except StubError as error:
            return error_reply(error, text=session.has("error-message"))
