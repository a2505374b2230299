# SPDX-License-Identifier: GPL-2.0-or-later
"""Load an uncompressed kernel (vmlinux) into a partition's window.

The file's physical addresses are kept relative to each other and moved up by the
window's base: the kernel corrects its own early page tables for any such distance that
is a multiple of 2 MiB (arch/x86/kernel/head64.c, __startup_64); virtual addresses stay.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nanokernel_vm import files
from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.elf import EHDR, IDENT, PHDR, PT_LOAD, X86_64
from nanokernel_vm.memory import Window

# e_machine of other kernels (ELF-64 Object File Format; elf.h)
MACHINES = {
    3: "32-bit x86",
    8: "MIPS",
    21: "PowerPC",
    22: "S/390",
    40: "32-bit Arm",
    183: "arm64",
    243: "RISC-V",
}
PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd", b'\x04"M\x18', b"\x02!L\x18")
ARM64_AT = 0x38  # Documentation/arm64/booting.rst, v6.1


@dataclass(frozen=True, slots=True)
class LoadedKernel:
    """Where a kernel lies; physical addresses.

    Attributes:
        entry: Its 64-bit entry point, startup_64.
        end: First byte behind it, bss included.
    """

    entry: int
    end: int


def load_kernel(path: Path, window: Window) -> LoadedKernel:
    """Copy the loadable segments of ``path`` into ``window``.

    Raises:
        LoadError: No ELF for x86-64, truncated, or larger than the window.
    """
    try:
        with files.opened(path) as file:
            return _load(file, path, window)
    except OSError as error:
        raise LoadError(f"{path}: {error.strerror}") from None


def _load(file: BinaryIO, path: Path, window: Window) -> LoadedKernel:
    entry, headers = _headers(file, path)
    end = 0
    for kind, _, offset, _, pa, filesz, memsz, _ in headers:
        if kind != PT_LOAD:
            continue
        start = pa + window.base
        end = max(end, start + max(memsz, filesz))
        if end > window.end:
            raise LoadError(
                f"{path}: needs memory to {end:#x}, the window ends at {window.end:#x}"
            )
        window.write(start, _read(file, path, offset, filesz))
    if not end:
        raise LoadError(f"{path}: has no loadable segment")
    if not window.base <= entry + window.base < end:
        raise LoadError(f"{path}: its entry point {entry:#x} is behind its segments")
    return LoadedKernel(entry + window.base, end)


def _headers(file: BinaryIO, path: Path) -> tuple[int, list[tuple[int, ...]]]:
    """The entry point and the program headers."""
    raw = file.read(EHDR.size)
    if len(raw) < EHDR.size or raw[:4] != IDENT[:4]:
        raise LoadError(f"{path}: {foreign(raw)}")
    ident, _, machine, _, entry, phoff, *_, phentsize, phnum, _, _, _ = EHDR.unpack(raw)
    if ident[4:6] != IDENT[4:6] or machine != X86_64:
        what = MACHINES.get(machine, f"machine {machine}")
        raise LoadError(f"{path}: an ELF file, but not for x86-64 ({what})")
    if phnum and phentsize != PHDR.size:
        raise LoadError(f"{path}: program headers of {phentsize} bytes")
    table = _read(file, path, phoff, phnum * PHDR.size)
    return entry, list(PHDR.iter_unpack(table))


def foreign(head: bytes) -> str:
    """Say what a file is not, and what it may be, from its first bytes."""
    is_not = "not an ELF file (vmlinux) nor a bzImage (vmlinuz)"
    if any(head.startswith(magic) for magic in PACKED):
        return f"{is_not}; it is compressed: unpack it first"
    if head[ARM64_AT : ARM64_AT + 4] == b"ARM\x64":
        return f"{is_not}; it is a kernel for arm64"
    return is_not


def _read(file: BinaryIO, path: Path, offset: int, length: int) -> bytes:
    if offset + length > path.stat().st_size:
        raise LoadError(f"{path}: truncated: it ends before {offset + length:#x}")
    file.seek(offset)
    return file.read(length)
