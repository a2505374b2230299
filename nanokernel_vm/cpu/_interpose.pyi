# SPDX-License-Identifier: GPL-2.0-or-later
"""Types of the extension module _interpose.c."""

def bind(library: int, /) -> str | None: ...

class Core:
    stops_inside: bool
    lenient: bool
    def __init__(self, uc: int, /) -> None: ...
    def run(self, rip: int, /) -> int: ...
