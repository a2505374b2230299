# SPDX-License-Identifier: GPL-2.0-or-later
"""What the documents name is there: files, folders, functions, make targets."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.test_layering import BELOW, SHELLS

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path
    for folder in (".", "docs", "stub", "nanokernel_vm", "gdb_scripts", "guest_patches")
    for path in (ROOT / folder).glob("*.md")
)
WALKED = ROOT / "docs/architecture.md"
_LINUX = ("arch/", "/boot/", "/proc/")  # of other trees
_SUFFIXES = "py|pyi|c|h|md|toml|rsp|patch|fragment|sh"
_QUOTED = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_FILE = re.compile(rf"(?P<file>[\w./-]+\.(?:{_SUFFIXES}))(?::(?P<name>[\w.]+))?")
_FOLDER = re.compile(r"[\w./-]+/")
_TARGET = re.compile(r"make ([a-z-]+)")


def quoted(document: Path) -> list[str]:
    """What stands in backquotes, outside of code."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.M | re.S)
    return _QUOTED.findall(text)


def found(document: Path, name: str) -> Path | None:
    """A file as a document names it: from the root, its own folder or the machine's."""
    places = (ROOT, document.parent, ROOT / "nanokernel_vm")
    return next((p / name for p in places if (p / name).exists()), None)


@cache
def names(path: Path) -> frozenset[str]:
    """The names that a source file defines; those in a class behind its name."""
    if path.suffix not in (".py", ".pyi"):
        return frozenset(re.findall(r"^\w[^;={}]*?\b(\w+)\(", path.read_text(), re.M))
    return frozenset(_defined(ast.parse(path.read_text())))


def _defined(node: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[str]:
    for child in node.body:
        match child:
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
                yield prefix + name
            case ast.ClassDef(name):
                yield prefix + name
                yield from _defined(child, f"{prefix}{name}.")
            case ast.Assign([ast.Name(name)]) | ast.AnnAssign(ast.Name(name)):
                yield prefix + name


def is_there(document: Path, text: str) -> bool:
    """Whether what a document names is there; what is no name of that kind is."""
    if text.startswith(_LINUX):
        return True
    if (file := _FILE.fullmatch(text)) is not None:
        path = found(document, file["file"])
        return path is not None and file["name"] in (None, *names(path))
    if (target := _TARGET.fullmatch(text)) is not None:
        makefile = (ROOT / "Makefile").read_text()
        return re.search(rf"^{target[1]}:", makefile, re.M) is not None
    return not _FOLDER.fullmatch(text) or found(document, text) is not None


def wrong(document: Path) -> list[str]:
    """What a document names and is not there."""
    return [text for text in quoted(document) if not is_there(document, text)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_a_document_names_is_there(path: Path) -> None:
    assert not wrong(path)


def rows(document: Path) -> Iterator[list[str]]:
    """The rows of all its tables, by cells."""
    for line in document.read_text().splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("| ").split(" | ")]


def test_the_rooms_may_import_what_their_table_says() -> None:
    told = {
        cells[0].strip("`/"): set(_QUOTED.findall(cells[2]))
        for cells in rows(ROOT / "nanokernel_vm/README.md")
        if cells[0].endswith("/`")
    }
    assert BELOW.items() <= told.items()
    folders = {p.parent.name for p in (ROOT / "nanokernel_vm").glob("*/__init__.py")}
    assert set(told) == folders


def test_the_shells_of_gdb_scripts_are_those_that_are_listed() -> None:
    text = (ROOT / "gdb_scripts/README.md").read_text()
    shells, pure = text.split("| pure", 1)
    here = {p.stem for p in (ROOT / "gdb_scripts/nk").glob("*.py")}
    assert set(re.findall(r"`nk/(\w+)\.py`", shells)) == SHELLS
    assert here - SHELLS == set(re.findall(r"`nk/(\w+)\.py`", pure)) - SHELLS


def test_each_walk_names_functions_all_the_way() -> None:
    walks = re.split(r"^## ", WALKED.read_text(), flags=re.M)[1:]
    assert len(walks) >= 6
    for walk in walks:
        assert len(re.findall(r"`[\w/]+\.\w+:[\w.]+`", walk)) >= 10, walk[:40]


def test_what_is_not_there_is_seen(tmp_path: Path) -> None:
    document = tmp_path / "wrong.md"
    absent = [
        "partition.py:Partition.no",
        "cpu/_ticker.c:no",
        "no.py",
        "no/",
        "make no",
    ]
    document.write_text(" ".join(f"`{text}`" for text in (*absent, "stub/ids.py")))
    assert wrong(document) == absent
