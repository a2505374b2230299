# SPDX-License-Identifier: GPL-2.0-or-later
"""``qXfer`` documents, each served in pieces (gdb manual, "General Query Packets")."""

import re
from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

from stub.dispatch import packet
from stub.errors import Errno, TargetError
from stub.ids import ThreadId
from stub.session import Session
from stub.target import Inferior, Machine

_HEADER = '<?xml version="1.0"?>\n'

# What XML 1.0 has no way to write: most control characters, lone surrogates.  A guest
# may have put them into what it said when it failed.
_NOT_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _text(text: str) -> str:
    return escape(_clean(text))


def _quoted(text: str) -> str:
    return quoteattr(_clean(text))


def _piece(session: Session, document: str, offset: int, length: int) -> bytes:
    """Cut one piece: ``m`` says that more follows, ``l`` that it is the last."""
    data = document.encode("utf-8", "surrogateescape")  # a file's name may be bytes
    end = offset + min(length, session.max_packet // 2)
    return (b"m" if end < len(data) else b"l") + data[offset:end]


@packet(
    "qXfer:features:read:{annex:text}:{offset:x},{length:x}",
    features=["qXfer:features:read+"],
)
def read_features(
    session: Session, target: Machine, annex: str, offset: int, length: int
) -> bytes:
    """Serve the target description."""
    if annex != "target.xml":
        raise TargetError(Errno.ENOENT, f"no description {annex}")
    return _piece(session, target.description, offset, length)


@packet(
    "qXfer:threads:read:{annex:text}:{offset:x},{length:x}",
    features=["qXfer:threads:read+"],
)
def read_threads(session: Session, annex: str, offset: int, length: int) -> bytes:
    """Serve the list of threads, which is what makes the inferiors in gdb."""
    rows = "".join(_thread_rows(session, inferior) for inferior in session.inferiors)
    document = f"{_HEADER}<threads>\n{rows}</threads>\n"
    return _piece(session, document, offset, length)


def _thread_rows(session: Session, inferior: Inferior) -> str:
    return "".join(
        f"<thread id={quoteattr(session.show(ThreadId(inferior.pid, thread.tid)))}"
        f' core="{thread.core}" name={_quoted(thread.name)}>'
        f"{_text(thread.extra)}</thread>\n"
        for thread in inferior.threads()
    )


@packet(
    "qXfer:exec-file:read:[{pid:x}]:{offset:x},{length:x}",
    features=["qXfer:exec-file:read+"],
)
def read_exec_file(
    session: Session, pid: int | None, offset: int, length: int
) -> bytes:
    """Name the file with the symbols of an inferior."""
    inferior = session.inferior if pid is None else session.find(pid)
    session.named = session.named or inferior.pid
    path = inferior.exec_file or ""
    if path and inferior.pid != session.named and not session.reads_files:
        path = _TO_THE_ROOT + path.removeprefix("/")
    return _piece(session, path, offset, length)


# gdb 13 takes the target description for its first inferior only; the architecture of
# all others is that of their file.  With a ``sysroot`` of the user's own it looks for
# the file below that, finds none, takes the CPU for an i386 and refuses every ``g``.
# But it opens a relative name as it stands (gdb/solib.c: solib_find_1).  A client that
# reads files from here has read that of its first inferior before it asks for others.
_TO_THE_ROOT = "../" * 64


_TABLES = (
    {
        "Type": "processes",
        "Description": "Listing of all partitions",
        "Title": "Partitions",
    },
)


def _process(inferior: Inferior) -> dict[str, str]:
    return {
        "pid": str(inferior.pid),
        "user": "alive" if inferior.alive else "ended",
        "command": inferior.name,
        "cores": ",".join(str(thread.core) for thread in inferior.threads()),
    }


def _item(row: dict[str, str]) -> str:
    columns = "".join(
        f"<column name={_quoted(name)}>{_text(text)}</column>"
        for name, text in row.items()
    )
    return f"<item>{columns}</item>\n"


@packet(
    "qXfer:osdata:read:{annex:text}:{offset:x},{length:x}",
    features=["qXfer:osdata:read+"],
)
def read_osdata(
    session: Session, target: Machine, annex: str, offset: int, length: int
) -> bytes:
    """Serve the tables of ``info os``: the partitions are its processes."""
    if annex == "":
        rows: Iterable[dict[str, str]] = _TABLES
    elif annex == "processes":
        rows = map(_process, target.inferiors())
    else:
        raise TargetError(Errno.ENOENT, f"no table {annex}")
    name = annex or "types"
    items = "".join(map(_item, rows))
    document = f'{_HEADER}<osdata type="{name}">\n{items}</osdata>\n'
    return _piece(session, document, offset, length)
