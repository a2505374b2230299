# SPDX-License-Identifier: GPL-2.0-or-later
"""The stock host's symbol file: the debug package's if it is installed, else ours.

The debug package's has no frames of the entry code; they are added from ORC.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from nanokernel_vm import build as artifacts
from nanokernel_vm.linux.entry_frames import orc_debug_frame_file
from nanokernel_vm.linux.symbols import make_symbol_file

_DEBUG = Path("/usr/lib/debug/lib/modules")


def inputs() -> Mapping[str, str]:
    """Return what decides the file: the image, and the debug package's if installed."""
    image = artifacts.ensure("debian-cloud")
    packaged = _packaged(image)
    return {"image": image.parent.name, "debug package": str(packaged or "none")}


def build(into: Path, final: Path) -> None:
    """Write ``vmlinux.debug`` below ``into``."""
    image = artifacts.ensure("debian-cloud")
    packaged = _packaged(image)
    if packaged is not None:
        orc_debug_frame_file(packaged, into / "vmlinux.debug")
    else:
        make_symbol_file(image, into / "vmlinux.debug")


def _packaged(image: Path) -> Path | None:
    """The debug package's vmlinux of the very same release."""
    match = re.search(rb"Linux version (\S+)", image.read_bytes())
    path = _DEBUG / match[1].decode() / "vmlinux" if match else _DEBUG
    return path if path.is_file() else None
