# SPDX-License-Identifier: GPL-2.0-or-later
"""The initial RAM disk of both partitions: busybox, its applets' names, one script.

Not compressed: an emulated CPU would spend longer on unpacking than we on loading.
"""

from collections.abc import Mapping
from pathlib import Path

from nanokernel_vm.build import debian
from nanokernel_vm.build.cpio import Archive
from nanokernel_vm.build.tools import run

PACKAGE = "busybox-static"
PRODUCT = "initrd.cpio"

DIRECTORIES = (
    "bin",
    "dev",
    "etc",
    "proc",
    "root",
    "sbin",
    "sys",
    "tmp",
    "usr",
    "usr/bin",
)
CONSOLE = (5, 1)
INIT = Path(__file__).with_name("init.sh")


def inputs() -> Mapping[str, str]:
    """Return what the archive is made from."""
    return {PACKAGE: str(debian.resolve(PACKAGE))}


def build(into: Path, final: Path) -> None:
    """Write the archive below ``into``."""
    with debian.unpacked(debian.resolve(PACKAGE)) as package:
        busybox = package / "bin/busybox"
        applets = run([busybox, "--list"]).decode().split()
        (into / PRODUCT).write_bytes(archive(busybox.read_bytes(), applets))


def archive(busybox: bytes, applets: list[str]) -> bytes:
    """Return the archive with a busybox and links from its applets' names."""
    cpio = Archive()
    for path in DIRECTORIES:
        cpio.directory(path)
    cpio.character_device("dev/console", *CONSOLE, mode=0o600)
    cpio.file("bin/busybox", busybox, mode=0o755)
    for applet in applets:
        if applet != "busybox":
            cpio.symlink(f"bin/{applet}", "busybox")
    cpio.file("init", INIT.read_bytes(), mode=0o755)
    return cpio.finish()
