# SPDX-License-Identifier: GPL-2.0-or-later
"""Which ELF file has the symbols of a kernel."""

from pathlib import Path

from nanokernel_vm import build
from nanokernel_vm.config import Artifact, Source

_SUFFIX = "-symbols"


def symbol_source(kernel: Source) -> Source:
    """An artifact with ``-symbols`` behind its name if one is made, else the image."""
    if isinstance(kernel, Artifact) and kernel.name + _SUFFIX in build.ARTIFACTS:
        return Artifact(kernel.name + _SUFFIX)
    return kernel


def symbol_file(kernel: Source) -> Path:
    """The file itself, made if need be; absolute."""
    source = symbol_source(kernel)
    path = build.ensure(source.name) if isinstance(source, Artifact) else source
    return path.resolve()
