# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that has not introduced itself yet: what it would say, from its symbols.

Linux writes its VMCOREINFO note when most of its start is done (kernel/crash_core.c:
crash_save_vmcoreinfo_init).  What dies before that shall be looked at, too.  The kernel
lies where it is linked, moved by the base of its memory.
"""

from pathlib import Path
from typing import Protocol

from drgn import Program, host_platform

from nanokernel_vm.linux.elf import ElfImage

_START_KERNEL_MAP = 0xFFFF_FFFF_8000_0000  # arch/x86/include/asm/page_64_types.h
_BANNER = b"Linux version "
_TEXT = """\
OSRELEASE={release}
BUILD-ID={build_id}
PAGESIZE=4096
SYMBOL(init_uts_ns)={init_uts_ns:x}
OFFSET(uts_namespace.name)=0
SYMBOL(swapper_pg_dir)={init_top_pgt:x}
KERNELOFFSET=0
NUMBER(phys_base)={phys_base}
NUMBER(pgtable_l5_enabled)=0
"""


class Memory(Protocol):
    """Where the kernel is."""

    base: int

    def read(self, pa: int, length: int) -> bytes:
        """Read bytes at a physical address."""


def introduce(window: Memory, symbols: Path) -> bytes | None:
    """Return what the kernel of a symbol file would say of itself; None: not there.

    It is there if its version text lies in memory where the file has it.
    """
    if not symbols.is_file():
        return None
    program = Program(host_platform)
    module = program.extra_module("kernel", create=True)
    module.try_file(symbols, force=True)
    address = program.symbol("linux_banner").address
    banner = ElfImage.open(symbols).read(address, 256).partition(b"\n")[0]
    place = address - _START_KERNEL_MAP + window.base
    if not banner.startswith(_BANNER) or window.read(place, len(banner)) != banner:
        return None
    text = _TEXT.format(
        release=banner.split()[2].decode(),
        build_id=(module.build_id or b"").hex(),
        init_uts_ns=program.symbol("init_uts_ns").address,
        init_top_pgt=program.symbol("init_top_pgt").address,
        phys_base=window.base,
    )
    return text.encode()
