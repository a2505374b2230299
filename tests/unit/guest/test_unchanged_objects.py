# SPDX-License-Identifier: GPL-2.0-or-later
"""What "unchanged" means to ``make unchanged``, on small objects."""

import subprocess
from pathlib import Path

import pytest

from tests.unchanged import _contents, _report

SOURCE = (
    "int f(int a) { return a + 1; }\nextern int g(void); int h(void) { return g(); }"
)


def compiled(folder: Path, name: str, source: str) -> str:
    path = folder / f"{name}.o"
    command = ["gcc", "-O1", "-g", "-x", "c", "-c", "-o", str(path), "-"]
    subprocess.run(command, input=source.encode(), check=True)
    return _contents(path)


def test_other_lines_of_the_same_code_are_no_change(tmp_path: Path) -> None:
    moved = "\n\n/* a comment */\n" + SOURCE
    assert compiled(tmp_path, "a", SOURCE) == compiled(tmp_path, "b", moved)


@pytest.mark.parametrize(
    ("old", "new"),
    [("a + 1", "a + 2"), ("return g()", "return g2()"), ("int f", "int k")],
)
def test_other_code_is_a_change(tmp_path: Path, old: str, new: str) -> None:
    changed = SOURCE.replace(old, new).replace("g(void)", "g(void), g2(void)")
    assert compiled(tmp_path, "a", SOURCE) != compiled(tmp_path, "b", changed)


def test_other_data_is_a_change(tmp_path: Path) -> None:
    one, two = (compiled(tmp_path, f"o{n}", f"int data = {n};") for n in (1, 2))
    assert one != two


def test_what_differs_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert _report({"a.o": "1", "b.o": "1"}, {"a.o": "1", "b.o": "2"}) == 1
    assert capsys.readouterr().out == "b.o differs\n2 objects compared, 1 differ\n"
    assert _report({"a.o": "1"}, {"a.o": "1"}) == 0
    assert _report({}, {}) == 1
