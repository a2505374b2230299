# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's kernel: Debian's Linux source with ``guest_patches/``, compiled here.

Beside the kernel the cache keeps the source files that went into it, at the path that
its debug information names, so that a debugger lists them without being told where.
Reproducible: the same inputs give the same bytes.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nanokernel_vm.build import debian
from nanokernel_vm.build.progress import Progress
from nanokernel_vm.build.tools import run, version, watch
from nanokernel_vm.errors import BuildError

VERSION = (6, 1)
PACKAGE = "linux-source-6.1"
PATCHES = Path(__file__).parents[2] / "guest_patches"
FRAGMENT = PATCHES / "kconfig.fragment"
HEADER = PATCHES / "include/nanokernel_abi.h"

PRODUCTS = {
    "vmlinux": "vmlinux",
    "arch/x86/boot/bzImage": "bzImage",
    ".config": "config",
}
_LONG_AGO = 1_000_000_000  # seconds since 1970
STEPS = 1079  # lines that make prints, for the progress only

# Of each object's dependencies, as fixdep writes them, those in the tree
_DEPENDENCY = re.compile(r"^(?:source_\S+ :=)?\s+([^\s/$]\S*\.[chS])\b", re.MULTILINE)

REPRODUCIBLE = {
    "KBUILD_BUILD_TIMESTAMP": "1970-01-01",
    "KBUILD_BUILD_USER": "nanokernel",
    "KBUILD_BUILD_HOST": "nanokernel",
    "KBUILD_BUILD_VERSION": "1",
}


class Patch(NamedTuple):
    """A patch of the series and the kernel versions that it is for."""

    path: Path
    first: tuple[int, ...]
    first_not: tuple[int, ...]


def series(directory: Path = PATCHES) -> list[Patch]:
    """Return the patches for this kernel version, in order."""
    lines = (directory / "series").read_text().splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    patches = [
        Patch(directory / name, _version(first), _version(first_not))
        for name, first, first_not in rows
    ]
    return [patch for patch in patches if patch.first <= VERSION < patch.first_not]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def inputs() -> Mapping[str, str]:
    """Return the source package and the tools; our own files are in the recipe."""
    return {
        PACKAGE: str(debian.resolve(PACKAGE)),
        "gcc": version("gcc"),
        "ld": version("ld"),
    }


def build(into: Path, final: Path, patches: Sequence[Patch] | None = None) -> None:
    """Compile the kernel and leave its products and their sources below ``into``.

    Args:
        into: Where to build.
        final: Where that will be found later.
        patches: What is applied; None: the whole series.
    """
    tree = into / "linux"
    unpack(tree)
    prepare(tree, patches)
    configure(tree)
    _age(tree)
    _compile(tree, final)
    for product, name in PRODUCTS.items():
        (tree / product).rename(into / name)
    _keep_sources(tree, into / "source")
    shutil.rmtree(tree)


def unpack(tree: Path) -> None:
    """Unpack the package's source to ``tree``."""
    tree.mkdir()
    with debian.unpacked(debian.resolve(PACKAGE)) as files:
        archive = files / f"usr/src/{PACKAGE}.tar.xz"
        command: list[str | Path] = [
            "tar",
            "-xvf",
            archive,
            "-C",
            tree,
            "--strip-components=1",
        ]
        with Progress(f"unpack {PACKAGE}", unit="files") as progress:
            count = iter(range(1, sys.maxsize))
            watch(command, lambda _: progress.at(next(count)))


def prepare(tree: Path, patches: Sequence[Patch] | None = None) -> None:
    """Apply patches, by default the series, and add the generated header.

    Raises:
        BuildError: A patch does not fit this source.
    """
    for patch in series() if patches is None else patches:
        command = ["patch", "-p1", "--fuzz=0", "--no-backup-if-mismatch", "-s"]
        run(command, cwd=tree, stdin=patch.path.read_bytes())
    shutil.copy(HEADER, tree / "arch/x86/include/asm")


def configure(tree: Path, fragment: Path = FRAGMENT) -> None:
    """Write ``.config`` from the fragment.

    Raises:
        BuildError: The kernel's Kconfig did not take all of it.
    """
    run(["make", f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig"], cwd=tree)
    config = (tree / ".config").read_text().splitlines()
    wanted = [
        row for row in fragment.read_text().splitlines() if row.startswith("CONFIG")
    ]
    refused = sorted(set(wanted) - set(config))
    if refused:
        raise BuildError(f"Kconfig of {PACKAGE} refuses {', '.join(refused)}")


def _age(tree: Path) -> None:
    """Make every file older than all that will be made of it, whatever the clock does.

    With one that has jumped, or that is behind the archive's, make would generate
    what it includes again and again.
    """
    for directory, _, names in os.walk(tree):
        for name in names:
            os.utime(
                Path(directory) / name, (_LONG_AGO, _LONG_AGO), follow_symlinks=False
            )


def _compile(tree: Path, final: Path) -> None:
    paths = f"-fdebug-prefix-map={tree}={final}/source"
    jobs = len(os.sched_getaffinity(0))
    make = ["make", f"-j{jobs}", f"KCFLAGS={paths}", f"KAFLAGS={paths}"]
    with Progress("compile the guest's kernel", STEPS, "steps") as progress:
        count = iter(range(1, sys.maxsize))
        watch(
            [*make, "vmlinux", "bzImage"],
            lambda _: progress.at(next(count)),
            cwd=tree,
            env=REPRODUCIBLE,
        )


def _keep_sources(tree: Path, kept: Path) -> None:
    for name in sorted(set(_dependencies(tree))):
        target = kept / name
        if (tree / name).is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            (tree / name).rename(target)


def _dependencies(tree: Path) -> Iterator[str]:
    for rule in tree.rglob(".*.cmd"):
        yield from _DEPENDENCY.findall(rule.read_text())
