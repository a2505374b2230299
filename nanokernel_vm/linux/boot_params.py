# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux's boot parameters, as far as a loader fills them.

Documentation/arch/x86/boot.rst and zero-page.rst; structs boot_params, setup_header
and setup_data of arch/x86/include/uapi/asm/bootparam.h (6.1).
"""

from collections.abc import Sequence

from construct import Array as Repeated
from construct import Bytes, Const, Int8ul, Int16ul, Int32ul, Int64ul, Padding, Struct

SIZE = 0x1000
E820_MAX = 128
_E820_RAM = 1
_SETUP_RNG_SEED = 9
_LOADED_HIGH = 1
_UNKNOWN_LOADER = 0xFF

E820Entry = Struct(
    "addr" / Int64ul * "physical address",
    "size" / Int64ul * "bytes",
    "type" / Int32ul * "1: usable RAM",
)

BootParams = Struct(
    Padding(0x1E8),
    "e820_entries" / Int8ul,
    Padding(0x1FE - 0x1E9),
    "boot_flag" / Const(0xAA55, Int16ul),
    Padding(2),
    "header" / Const(b"HdrS"),
    "version" / Int16ul * "of the boot protocol, 0x20f: 2.15",
    Padding(0x210 - 0x208),
    "type_of_loader" / Int8ul,
    "loadflags" / Int8ul,
    Padding(0x218 - 0x212),
    "ramdisk_image" / Int32ul * "physical address",
    "ramdisk_size" / Int32ul * "bytes",
    Padding(0x228 - 0x220),
    "cmd_line_ptr" / Int32ul * "physical address",
    Padding(0x250 - 0x22C),
    "setup_data" / Int64ul * "physical address of the first node",
    Padding(0x2D0 - 0x258),
    "e820_table" / Repeated(E820_MAX, E820Entry),
    Padding(SIZE - 0x2D0 - E820_MAX * 20),
)

SetupData = Struct(
    "next" / Int64ul * "physical address of the next node, 0: none",
    "type" / Int32ul,
    "len" / Int32ul * "bytes of data",
    "data" / Bytes(lambda node: node.len),
)


def boot_params(
    ram: Sequence[tuple[int, int]],
    initrd: tuple[int, int],
    cmdline: int,
    setup_data: int,
) -> bytes:
    """Build the page of boot parameters; all addresses are physical.

    Args:
        ram: Usable memory: (address, size) of each range.
        initrd: Address and size; zeros for none.
        cmdline: Address of the command line.
        setup_data: Address of the first setup_data node.
    """
    table = [{"addr": addr, "size": size, "type": _E820_RAM} for addr, size in ram]
    unused = {"addr": 0, "size": 0, "type": 0}
    page: bytes = BootParams.build(
        {
            "e820_entries": len(table),
            "version": 0x20F,
            "type_of_loader": _UNKNOWN_LOADER,
            "loadflags": _LOADED_HIGH,
            "ramdisk_image": initrd[0],
            "ramdisk_size": initrd[1],
            "cmd_line_ptr": cmdline,
            "setup_data": setup_data,
            "e820_table": table + [unused] * (E820_MAX - len(table)),
        }
    )
    return page


def rng_seed(seed: bytes) -> bytes:
    """Build the setup_data node that seeds Linux's random numbers."""
    node: bytes = SetupData.build(
        {"next": 0, "type": _SETUP_RNG_SEED, "len": len(seed), "data": seed}
    )
    return node
