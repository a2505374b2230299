# SPDX-License-Identifier: GPL-2.0-or-later
"""Symbols, types and unwinding of a kernel of the user's own, cached by its contents.

    $NK_CACHE/kernel-symbols/<key>/vmlinux.debug   what debuggers read
    $NK_CACHE/kernel-symbols/<key>/lacks           what could not be made, if anything

A file that has DWARF serves as it is, with the entry code's frames added from the
kernel's ORC.  An ELF file that is no Linux is left alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from nanokernel_vm.build import cache, user_kernel
from nanokernel_vm.build.progress import Progress
from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.elf import ElfImage
from nanokernel_vm.linux.entry_frames import orc_debug_frame_file
from nanokernel_vm.linux.release import KNOWN, build_id, is_known, release
from nanokernel_vm.linux.symbols import NO_FRAMES, make_symbol_file

_SHELF, _DEBUG, _LACKS = "kernel-symbols", "vmlinux.debug", "lacks"
_NOT_YET = "such kernels are not known yet, it may fail to start or to be understood"
_SOURCES = Path(__file__).parents[1] / "linux"


class Symbols(NamedTuple):
    """A symbol file.

    Attributes:
        lacks: What it has not because the kernel has not, and what follows: phrases
            that go on after the kernel's name; empty: it has all.
    """

    file: Path
    lacks: str


def symbols(kernel: Path) -> Symbols:
    """Return what is made of a vmlinux or bzImage; of no use to debuggers: itself.

    Raises:
        LoadError: It cannot be read, or not be unpacked.
        BuildError: The cache cannot be written.
    """
    image = user_kernel.image(kernel)
    try:
        found = release(ElfImage.open(image))
        if not found:
            return Symbols(image, "")
        made = _symbols(kernel, image, image, _inputs(kernel))
    except LoadError as error:
        return Symbols(image, f"has no symbols: {error}")
    newer = "" if is_known(found) else f"is Linux {found}, not {KNOWN}: {_NOT_YET}"
    return Symbols(made.file, "; ".join(filter(None, (newer, made.lacks))))


def own_symbols(file: Path, kernel: Path) -> Symbols:
    """Return the symbol file that the user names for a kernel.

    Raises:
        LoadError: It has none, or those of another kernel.
        BuildError: The cache cannot be written.
    """
    user_kernel.head(file)
    image = user_kernel.image(kernel)
    named = ElfImage.open(file)
    if named.find(".symtab") is None:
        raise LoadError(f"{file}: has no symbols (no .symtab)")
    ids = build_id(named), build_id(ElfImage.open(image))
    if all(ids) and ids[0] != ids[1]:
        raise LoadError(
            f"{file}: of another build than {kernel}: {ids[0]}, not {ids[1]}"
        )
    if named.find(".debug_info") is None:
        return Symbols(file, "")
    inputs = {**_inputs(kernel), "own": user_kernel.digest(file)}
    return _symbols(file, file, image, inputs)


def cached(kernel: Path) -> Path | None:
    """Return what ``symbols`` has made before."""
    found = user_kernel.place(_SHELF, _inputs(kernel)) / _DEBUG
    return found if found.is_file() else None


def _inputs(kernel: Path) -> Mapping[str, str]:
    return {
        "kernel": user_kernel.digest(kernel),
        "recipe": cache.files_digest((*_SOURCES.glob("*.py"), Path(__file__))),
    }


def _symbols(of: Path, source: Path, image: Path, inputs: Mapping[str, str]) -> Symbols:
    """Look what is there of a file that the user calls ``of``; make it if need be."""

    def make(into: Path) -> None:
        with Progress(f"symbols of {of}"):
            lacks = _made(source, image, into / _DEBUG)
        (into / _LACKS).write_text("; ".join(lacks))

    at = user_kernel.made(_SHELF, inputs, make)
    file = at / _DEBUG
    return Symbols(file if file.is_file() else source, (at / _LACKS).read_text())


def _made(source: Path, image: Path, out: Path) -> list[str]:
    elf = ElfImage.open(source)
    if elf.find(".debug_info") is None or elf.find(".symtab") is None:
        return make_symbol_file(source, out)
    try:
        orc_debug_frame_file(source, out, image)
    except LoadError as error:
        return [f"{error}: {NO_FRAMES}"]
    return []
