# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's kernel: Debian's own binary, as its package ships it today.

The package holds a bzImage; the machine wants the ELF file inside it.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from nanokernel_vm.build import debian
from nanokernel_vm.build.bzimage import vmlinux

METAPACKAGE = "linux-image-cloud-amd64"
PATTERN = r"linux-image-[\d.]+-\d+-cloud-amd64"


def inputs() -> Mapping[str, str]:
    """Return which package is today's kernel."""
    package = debian.dependency(METAPACKAGE, PATTERN)
    return {package.name: str(package)}


def build(into: Path, final: Path) -> None:
    """Write ``vmlinux``, ``bzImage`` and ``config`` below ``into``."""
    package = debian.dependency(METAPACKAGE, PATTERN)
    release = package.name.removeprefix("linux-image-")
    with debian.unpacked(package) as files:
        shutil.copyfile(files / f"boot/vmlinuz-{release}", into / "bzImage")
        shutil.copyfile(files / f"boot/config-{release}", into / "config")
    (into / "vmlinux").write_bytes(vmlinux(into / "bzImage"))
