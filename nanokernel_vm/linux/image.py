# SPDX-License-Identifier: GPL-2.0-or-later
"""Load an uncompressed kernel (vmlinux) into a partition's window.

The file's physical addresses are kept relative to each other and moved up by the
window's base: the kernel corrects its own early page tables for any such distance that
is a multiple of 2 MiB (arch/x86/kernel/head64.c, __startup_64); virtual addresses stay.
"""

from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError, ELFParseError
from elftools.elf.elffile import ELFFile

from nanokernel_vm.errors import LoadError
from nanokernel_vm.memory import Window

_ALIGN = 0x20_0000


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
        with path.open("rb") as file:
            return _load(ELFFile(file), path, window)
    except (ELFError, ELFParseError) as error:
        raise LoadError(
            f"{path}: not an ELF file ({error}); give an uncompressed vmlinux"
        ) from None
    except OSError as error:
        raise LoadError(f"{path}: {error.strerror}") from None


def _load(elf: ELFFile, path: Path, window: Window) -> LoadedKernel:
    if elf["e_machine"] != "EM_X86_64":
        raise LoadError(f"{path}: built for {elf['e_machine']}, not for x86-64")
    end = 0
    for segment in elf.iter_segments("PT_LOAD"):
        start = segment["p_paddr"] + window.base
        end = max(end, start + segment["p_memsz"])
        if end > window.end:
            raise LoadError(
                f"{path}: needs memory to {end:#x}, the window ends at {window.end:#x}"
            )
        data = segment.data()
        if len(data) != segment["p_filesz"]:
            raise LoadError(
                f"{path}: truncated: {len(data)} of {segment['p_filesz']} bytes"
            )
        window.write(start, data)
    if not end:
        raise LoadError(f"{path}: has no loadable segment")
    return LoadedKernel(elf["e_entry"] + window.base, end)
