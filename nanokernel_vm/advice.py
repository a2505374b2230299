# SPDX-License-Identifier: GPL-2.0-or-later
"""What a description lacks for Linux to be heard, or to come up at all.

None of it is wrong: other kernels want other things, which is why these are no errors.
"""

from collections.abc import Iterator

from nanokernel_vm.config import Interrupts, PartitionConfig
from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.elf import ElfImage
from nanokernel_vm.linux.release import release
from nanokernel_vm.symbols import kernel_file

# Linux's names of the PC's serial ports (arch/x86/include/asm/serial.h, v6.1)
_NAMES = {0x3F8: "ttyS0", 0x2F8: "ttyS1", 0x3E8: "ttyS2", 0x2E8: "ttyS3"}


def advice(config: PartitionConfig) -> list[str]:
    """Return what to add for a Linux, each in one line; nothing for other kernels."""
    lines = list(_lines(config))
    return lines if lines and _is_linux(config) else []


def _lines(config: PartitionConfig) -> Iterator[str]:
    ports = [device.port for device in config.devices if device.chip == "uart"]
    if name := next((_NAMES[port] for port in ports if port in _NAMES), None):
        words = config.cmdline.split()
        if not any(word.startswith("console=") for word in words):
            yield f"cmdline: Linux prints nothing there without console={name}"
    if config.base and config.interrupts is Interrupts.HARDWARE:
        yield (
            f"base: a Linux without this project's patches finds no real mode "
            f"trampoline above 1 MiB and panics; give it base 0, not {config.base:#x}"
        )


def _is_linux(config: PartitionConfig) -> bool:
    try:
        return bool(release(ElfImage.open(kernel_file(config.kernel))))
    except LoadError:
        return False
