# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's symbol file: its vmlinux, with the entry code's frames from ORC added."""

from collections.abc import Mapping
from pathlib import Path

from nanokernel_vm import build as artifacts
from nanokernel_vm.linux.entry_frames import orc_debug_frame_file


def inputs() -> Mapping[str, str]:
    """Return what decides the file."""
    return {"image": artifacts.ensure("guest").parent.name}


def build(into: Path, final: Path) -> None:
    """Write ``vmlinux.debug`` below ``into``."""
    orc_debug_frame_file(artifacts.ensure("guest"), into / "vmlinux.debug")
