# SPDX-License-Identifier: GPL-2.0-or-later
"""The patches as files.  That they apply and build, the guest's build proves."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanokernel_vm.build import guest
from nanokernel_vm.build.guest import FRAGMENT, PATCHES, VERSION, Patch, series
from nanokernel_vm.errors import BuildError

FILES = sorted(PATCHES.glob("*.patch"))
ALL = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name[:4])
CONTEXT = 1


def hunks(patch: str) -> Iterator[list[str]]:
    """The lines of each hunk, with their marks."""
    for part in re.split(r"^@@ .* @@.*$", patch, flags=re.MULTILINE)[1:]:
        body = part.partition("\ndiff --git")[0]
        yield [line for line in body.splitlines() if line[:1] in (" ", "+", "-")]


def test_the_series_lists_every_patch_in_order() -> None:
    listed = (PATCHES / "series").read_text().splitlines()
    names = [line.split()[0] for line in listed if not line.startswith("#")]
    assert names == [path.name for path in FILES]


def test_all_patches_are_for_this_kernel() -> None:
    assert [patch.path for patch in series()] == FILES
    assert all(patch.first <= VERSION < patch.first_not for patch in series())


def test_a_patch_for_another_kernel_is_left_out(tmp_path: Path) -> None:
    rows = ["# a comment", "0001-a.patch 5.10 6.1", "0002-b.patch 6.1 6.2"]
    (tmp_path / "series").write_text("\n".join(rows) + "\n")
    assert series(tmp_path) == [Patch(tmp_path / "0002-b.patch", (6, 1), (6, 2))]


@ALL
def test_a_patch_says_what_and_why(path: Path) -> None:
    head = path.read_text().partition("\ndiff --git")[0]
    subject, _, body = head.partition("Subject: [PATCH] ")[2].partition("\n\n")
    assert re.fullmatch(r"x86/nanokernel: [A-Z].{10,60}[^.]", subject)
    assert len(body.split()) > 30
    assert max(map(len, body.splitlines())) <= 72


@ALL
def test_new_files_are_gpl_2_only(path: Path) -> None:
    new = re.findall(
        r"^new file mode .*\n--- /dev/null\n\+\+\+ .*\n@@ .*\n\+(.*)$",
        path.read_text(),
        re.MULTILINE,
    )
    assert len(new) == path.read_text().count("\nnew file mode")
    assert all("SPDX-License-Identifier: GPL-2.0-only" in line for line in new)


@ALL
def test_context_is_as_little_as_applies(path: Path) -> None:
    for lines in hunks(path.read_text()):
        marks = "".join(line[0] for line in lines)
        assert len(marks) - len(marks.lstrip(" ")) <= CONTEXT
        assert len(marks) - len(marks.rstrip(" ")) <= CONTEXT
        assert "   " not in marks


@ALL
def test_patches_touch_the_processor_dependent_part_only(path: Path) -> None:
    touched = re.findall(r"^\+\+\+ b/(\S+)$", path.read_text(), re.MULTILINE)
    assert touched
    assert all(name.startswith("arch/x86/") for name in touched)


def test_the_header_is_not_in_the_patches() -> None:
    assert all(
        "b/arch/x86/include/asm/nanokernel_abi.h" not in p.read_text() for p in FILES
    )


def test_a_patch_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "arch/x86").mkdir(parents=True)
    (tmp_path / "arch/x86/Kconfig").write_text("config SOMETHING_ELSE\n")
    with pytest.raises(BuildError, match="patch failed"):
        guest.prepare(tmp_path)


def test_the_configuration_has_each_option_once() -> None:
    rows = [
        row for row in FRAGMENT.read_text().splitlines() if row[:1] not in ("", "#")
    ]
    names = [row.partition("=")[0] for row in rows]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"CONFIG_\w+=\S+", row) for row in rows)
    assert "CONFIG_NANOKERNEL_GUEST=y" in rows


def test_dependencies_are_those_in_the_tree(tmp_path: Path) -> None:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel/.fork.o.cmd").write_text(
        "cmd_kernel/fork.o := gcc -c -o kernel/fork.o kernel/fork.c\n\n"
        "source_kernel/fork.o := kernel/fork.c\n\n"
        "deps_kernel/fork.o := \\\n"
        "    $(wildcard include/config/SMP) \\\n"
        "  include/linux/sched.h \\\n"
        "  arch/x86/entry/calling.h \\\n"
        "  /usr/lib/gcc/stdarg.h \\\n"
    )
    assert sorted(guest._dependencies(tmp_path)) == [
        "arch/x86/entry/calling.h",
        "include/linux/sched.h",
        "kernel/fork.c",
    ]
