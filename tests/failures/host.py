# SPDX-License-Identifier: GPL-2.0-or-later
"""The pair with a host whose RAM disk holds a module that fails as it is told.

The module is built against Debian's headers for that very kernel and kept in the cache,
by what it is made from.  Machines are booted once and forked: each failure has a copy.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from nanokernel_vm import build
from nanokernel_vm.build import cache
from nanokernel_vm.build.cpio import Archive
from nanokernel_vm.build.tools import run, version

_HERE = Path(__file__).parent
_SOURCES = ("Kbuild", "nk_fail.c")
_EXAMPLE = _HERE.parents[1] / "examples/two-linuxes.toml"
MODULE = "nk_fail.ko"


def module() -> Path:
    """The module for the stock host, built if need be."""
    shelf, headers = cache.Shelf("test-module"), build.ensure("debian-cloud-headers")
    inputs = {
        "headers": headers.parent.name,
        "compiler": version("gcc-12"),
        "sources": cache.files_digest(_HERE / name for name in _SOURCES),
    }

    def make(into: Path, _: Path) -> None:
        for name in _SOURCES:
            shutil.copy(_HERE / name, into)
        run(["make", "-C", headers.resolve(), f"M={into}", "modules"])

    with shelf.locked():
        return shelf.store(inputs, make) / MODULE


def archive(files: Mapping[str, bytes]) -> bytes:
    """An initramfs with these files, to be put behind another one."""
    cpio = Archive()
    for name, content in files.items():
        cpio.file(name, content, mode=0o755)
    return cpio.finish()


def initrd(
    directory: Path, name: str = "host", files: Mapping[str, bytes] = {}
) -> Path:
    """The usual RAM disk with more files in its root, the host's with the module."""
    own = {MODULE: module().read_bytes()} if name == "host" else {}
    path = directory / f"{name}.cpio"
    usual = build.ensure("initrd").read_bytes()
    path.write_bytes(usual + archive({**own, **files}))
    return path


def description(directory: Path, programs: Mapping[str, bytes] = {}) -> Path:
    """A machine file: the example's pair, the host with the module in its root.

    Args:
        directory: Where to write it.
        programs: More files for the root directories of both.
    """
    text = _EXAMPLE.read_text()
    for name in ("host", "guest"):
        own = f'initrd = "{initrd(directory, name, programs)}"'
        text = text.replace('initrd = "@initrd"', own, 1)
    path = directory / "machine.toml"
    path.write_text(text)
    return path
