# SPDX-License-Identifier: GPL-2.0-or-later
"""Which Linux an image is, and which build of it."""

import re
from struct import Struct, error

from nanokernel_vm.linux.elf import ElfImage, SectionType

KNOWN = "6.1"  # the series that this project was made for

_BANNER = re.compile(rb"Linux version (\d[\w.+~-]*) ")  # init/version-timestamp.c
_NOTE = Struct("<III")  # n_namesz, n_descsz, n_type
_BUILD_ID = 3  # NT_GNU_BUILD_ID


def release(image: ElfImage) -> str:
    """Return what ``uname -r`` says there; empty: it is no Linux."""
    for section in image.sections:
        if section.loaded and (match := _BANNER.search(section.data)):
            return match[1].decode()
    return ""


def is_known(release: str) -> bool:
    """Whether it is of the series that this project was made for."""
    return release.split("-")[0].split(".")[:2] == KNOWN.split(".")


def build_id(image: ElfImage) -> str:
    """Return the build ID that the linker has given it, in hex; empty: none."""
    for section in image.sections:
        if section.type == SectionType.NOTE:
            try:
                if found := _build_id(section.data):
                    return found
            except error:  # notes that end in their header
                continue
    return ""


def _build_id(data: bytes | memoryview) -> str:
    at = 0
    while at < len(data):
        name, size, kind = _NOTE.unpack_from(data, at)
        start = at + _NOTE.size + (name + 3 & ~3)
        if kind == _BUILD_ID and bytes(data[at + _NOTE.size :][:4]) == b"GNU\0":
            return bytes(data[start : start + size]).hex()
        at = start + (size + 3 & ~3)
    return ""
