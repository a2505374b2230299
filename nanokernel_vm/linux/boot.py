# SPDX-License-Identifier: GPL-2.0-or-later
"""The 64-bit boot protocol: what lies in memory and the registers at the entry.

Documentation/arch/x86/boot.rst, "64-bit Boot Protocol".  Layout at the base of a
window::

    0x01000  GDT
    0x02000  page tables: identity, 2 MiB pages, first 4 GiB
    0x10000  boot_params
    0x11000  command line
    0x12000  setup_data: seed of the random number generator
"""

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from nanokernel_vm import files as user_files
from nanokernel_vm.cpu import state as s
from nanokernel_vm.cpu.state import State
from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.boot_params import boot_params, rng_seed
from nanokernel_vm.linux.image import LoadedKernel, load_kernel
from nanokernel_vm.memory import PAGE_SIZE, Window

_GDT, _TABLES, _PARAMS, _CMDLINE, _SETUP_DATA = (
    0x1000,
    0x2000,
    0x10000,
    0x11000,
    0x12000,
)
_CMDLINE_SIZE = 2048
_LEGACY_END, _HIGH = 0x9_F000, 0x10_0000

_CODE = 0x00AF_9B00_0000_FFFF  # 64-bit code, DPL 0
_DATA = 0x00CF_9300_0000_FFFF
_BOOT_CS, _BOOT_DS = 0x10, 0x18
_CR0 = 0x8005_0033  # PG AM WP NE ET MP PE
_CR4 = 0x20  # PAE
_EFER = 0x501  # LMA LME SCE


@dataclass(frozen=True, slots=True)
class BootFiles:
    """What is booted."""

    kernel: Path
    initrd: Path | None
    cmdline: str


def boot(files: BootFiles, window: Window, cpu: State) -> None:
    """Load ``files`` into ``window`` and set ``cpu`` to enter the kernel.

    Raises:
        LoadError: Something does not fit, or is no kernel.
    """
    kernel = load_kernel(files.kernel, window)
    initrd = _load_initrd(files, window, kernel)
    _write_params(window, files.cmdline, initrd)
    _write_tables(window)
    _enter(cpu, window, kernel.entry)


def _load_initrd(
    files: BootFiles, window: Window, kernel: LoadedKernel
) -> tuple[int, int]:
    if files.initrd is None:
        return 0, 0
    try:
        with user_files.opened(files.initrd) as file:
            size = os.fstat(file.fileno()).st_size
            start = (window.end - size) & -PAGE_SIZE
            if start < kernel.end:
                raise LoadError(
                    f"{files.initrd}: {size} bytes do not fit between the kernel's end "
                    f"{kernel.end:#x} and the window's end {window.end:#x}"
                )
            window.write(start, file.read(size))
    except OSError as error:
        raise LoadError(f"{files.initrd}: {error.strerror}") from None
    return start, size


def _write_params(window: Window, cmdline: str, initrd: tuple[int, int]) -> None:
    line = cmdline.encode()
    if len(line) >= _CMDLINE_SIZE:
        raise LoadError(
            f"command line of {len(line)} bytes; at most {_CMDLINE_SIZE - 1}"
        )
    base = window.base
    ram = ((base, _LEGACY_END), (base + _HIGH, window.size - _HIGH))
    params = boot_params(ram, initrd, base + _CMDLINE, base + _SETUP_DATA)
    # The same seed every time.  Without one, every inode made before the generator is
    # ready costs rounds of BLAKE2.
    window.write(base + _SETUP_DATA, rng_seed(hashlib.sha512(line).digest()))
    window.write(base + _PARAMS, params)
    window.write(base + _CMDLINE, line + b"\0")


def _write_tables(window: Window) -> None:
    """PML4, PDPT and four PDs that map 4 GiB onto itself, and the GDT."""
    top = window.base + _TABLES
    directories = top + 2 * PAGE_SIZE
    window.write(top, struct.pack("<Q", top + PAGE_SIZE | 3))
    window.write(
        top + PAGE_SIZE,
        struct.pack("<4Q", *(directories + n * PAGE_SIZE | 3 for n in range(4))),
    )
    window.write(
        directories, struct.pack("<2048Q", *(n << 21 | 0x83 for n in range(2048)))
    )
    window.write(window.base + _GDT, struct.pack("<4Q", 0, 0, _CODE, _DATA))


def _enter(cpu: State, window: Window, entry: int) -> None:
    for index in range(16):
        cpu.regs[index] = 0
    cpu.regs[s.RSI] = window.base + _PARAMS
    cpu.regs[s.RSP] = window.base + _PARAMS
    cpu.rip, cpu.rflags = entry, 2
    cpu.gdt.base, cpu.gdt.limit = window.base + _GDT, 31
    cpu.idt.base = cpu.idt.limit = 0
    cpu.cr[0], cpu.cr[3], cpu.cr[4] = _CR0, window.base + _TABLES, _CR4
    cpu.efer = _EFER
    for index in range(6):
        segment = cpu.segs[index]
        code = index == s.CS
        segment.selector = _BOOT_CS if code else _BOOT_DS
        segment.base, segment.limit = 0, 0xFFFF_FFFF
        segment.flags = (_CODE if code else _DATA) >> 32 & 0xF0_FF00
    cpu.hflags = s.HF_PE | s.HF_LMA | s.HF_CS64 | s.HF_CS32 | s.HF_SS32 | s.HF_MP
