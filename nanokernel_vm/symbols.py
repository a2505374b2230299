# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files a kernel is loaded from and known by."""

import logging
from pathlib import Path

from nanokernel_vm import build
from nanokernel_vm.build import user_kernel
from nanokernel_vm.config import Artifact, Source

_LOG = logging.getLogger(__name__)
_SUFFIX = "-symbols"


def symbol_source(kernel: Source) -> Source:
    """An artifact with ``-symbols`` behind its name if one is made, else the image."""
    if isinstance(kernel, Artifact) and kernel.name + _SUFFIX in build.ARTIFACTS:
        return Artifact(kernel.name + _SUFFIX)
    return kernel


def resolve(source: Source) -> Path:
    """The file that a machine's description means, built if it has to be."""
    return build.ensure(source.name) if isinstance(source, Artifact) else source


def kernel_file(kernel: Source) -> Path:
    """The ELF file to load, built or unpacked if it has to be."""
    return user_kernel.image(resolve(kernel))


def symbol_file(kernel: Source, own: Source | None = None) -> Path:
    """The ELF file that debuggers read, made if need be; absolute.

    Args:
        kernel: The image.
        own: A symbol file of the user's.
    """
    source = own or symbol_source(kernel)
    if own is None and source != kernel:
        return resolve(source).resolve()
    # Only here: a fifth of what would be loaded at every start, and seldom wanted.
    from nanokernel_vm.build import user_symbols

    found = (
        user_symbols.symbols(resolve(kernel))
        if own is None
        else user_symbols.own_symbols(resolve(own), resolve(kernel))
    )
    if found.lacks:
        _LOG.warning("%s: %s", kernel, found.lacks)
    return found.file.resolve()
