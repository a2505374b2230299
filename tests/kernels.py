# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels that users have: Debian's bzImages as they lie in /boot, kept in the cache.

They run beside the usual guest with the command line that a user would write, so with
all mitigations that Linux has by default.
"""

import os
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from nanokernel_vm.build import cache as shelves
from nanokernel_vm.build import debian

_EXAMPLE = Path(__file__).parents[1] / "examples/two-linuxes.toml"
_NUMBERED = r"linux-image-[\d.]+-\d+"
COMMAND_LINE = "console=ttyS0 partition=host"

PACKAGES: dict[str, Callable[[], debian.Package]] = {
    "amd64": partial(debian.dependency, "linux-image-amd64", rf"{_NUMBERED}-amd64"),
    "rt": partial(debian.dependency, "linux-image-rt-amd64", rf"{_NUMBERED}-rt-amd64"),
    "older": partial(debian.oldest, "linux-image-6.1.0-", "-cloud-amd64"),
}
# Each is a download of up to 70 MB; ``make test-kernels`` takes all of them.
_WANTED = os.environ.get("NK_KERNELS", "").split()
NAMES = _WANTED or ["amd64", "rt"]
IN_GDB = _WANTED or ["amd64"]


@cache
def vmlinuz(name: str) -> Path:
    """The bzImage of one of ``PACKAGES``."""
    package = PACKAGES[name]()
    shelf = shelves.Shelf("test-kernel")

    def build(into: Path, _: Path) -> None:
        with debian.unpacked(package) as files:
            (found,) = (files / "boot").glob("vmlinuz-*")
            shutil.copyfile(found, into / "vmlinuz")

    with shelf.locked():
        return shelf.store({package.name: str(package)}, build) / "vmlinuz"


def description(directory: Path, kernel: Path, more: str = "") -> Path:
    """A machine file: the example's pair, with another kernel for the host.

    Args:
        more: Lines for its table.
    """
    text = _EXAMPLE.read_text()
    start = text.index('cmdline = """')
    end = text.index('"""', start + len('cmdline = """')) + 3
    text = f'{text[:start]}cmdline = "{COMMAND_LINE}"\n{more}{text[end:]}'
    path = directory / "machine.toml"
    path.write_text(text.replace("@debian-cloud", str(kernel), 1))
    return path
