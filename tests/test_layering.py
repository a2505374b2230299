# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may import whom.  A rule that is not executed is a wish."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# The modules of the stub that wait and do I/O.
DRIVER = {
    ROOT / f"stub/{name}.py" for name in ("connection", "eager", "pipes", "server")
}
# The modules of the gdb scripts that are shells around gdb; the rest is pure.
SHELLS = {
    "unwind",
    "commands",
    "printers",
    "frames",
    "autoload",
    "kernel",
    "served",
    "__init__",
}
# What the folders of nanokernel_vm build on, besides errors.py, files.py and
# themselves: none knows the machine that is put together of them.
BELOW = {
    "abi": set[str](),
    "build": {"abi", "linux"},
    "cpu": {"clock", "memory"},
    "devices": {"abi", "clock", "memory"},
    "linux": {"cpu", "memory"},
    "triage": {"linux", "memory"},
    "nanokernel": {"abi", "clock", "cpu", "memory"},
}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Yield the full name of everything imported, at any depth of the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def in_folder(path: Path, folder: str) -> bool:
    return path.is_relative_to(ROOT / folder)


@pytest.mark.parametrize("path", sources("stub"), ids=str)
def test_the_stub_knows_the_standard_library_only(path: Path) -> None:
    allowed = {"stub", *sys.stdlib_module_names}
    if path not in DRIVER:
        allowed -= {"asyncio", "selectors", "threading"}
    assert packages(path) <= allowed


@pytest.mark.parametrize("path", sources("nanokernel_vm"), ids=str)
def test_the_machine_keeps_its_layers(path: Path) -> None:
    if not in_folder(path, "nanokernel_vm/cpu"):
        assert "unicorn" not in packages(path)
    if in_folder(path, "nanokernel_vm/devices"):
        assert not {"asyncio", "stub"} & packages(path)
    assert "gdb" not in packages(path)
    own = [n.split(".")[1] for n in imports(path) if n.startswith("nanokernel_vm.")]
    folder = path.relative_to(ROOT).parts[1]
    if folder in BELOW:
        assert set(own) <= BELOW[folder] | {folder, "errors", "files"}
    if folder != "cli":
        assert "cli" not in own  # the composition root


@pytest.mark.parametrize("path", sources("gdb_scripts"), ids=str)
def test_gdb_scripts_run_in_a_bare_gdb(path: Path) -> None:
    allowed = {"nk", *sys.stdlib_module_names}
    if not in_folder(path, "gdb_scripts/nk") or path.stem in SHELLS:
        allowed |= {"gdb"}
    assert packages(path) <= allowed


def test_the_rules_see_something() -> None:
    assert "asyncio" in packages(ROOT / "stub/server.py")
    assert len(sources("stub")) > 20
    assert len(sources("nanokernel_vm")) > 20
