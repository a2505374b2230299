# SPDX-License-Identifier: GPL-2.0-or-later
"""Types of the extension module _interpose.c."""

DIED: int
ABORTED: int
EXITED: int

# Offsets in what a context saves
ENV_CC_SRC: int
ENV_CR4: int
ENV_FP_STATUS: int
ENV_SSE_STATUS: int
ENV_MXCSR: int
ENV_SYSENTER_CS: int

def bind(library: int, /) -> str | None: ...
def promise(
    denied: bytes, vex: bytes, aligned: bytes, cr4: int, xcr0: int, /
) -> None: ...

class Core:
    lenient: bool
    inlining: bool
    def __init__(self, uc: int, /) -> None: ...
    def connect(
        self, stops: int, account: int, on_block: int, base: int, /
    ) -> None: ...
    def flush_tlb(self) -> None: ...
    outside: int
    def written(self, pa: int, length: int, /) -> None: ...
    def run(self, rip: int, /) -> int: ...
    def death(self) -> tuple[int, bool, int, int, str]: ...
    def close(self) -> bool: ...
    def report_to(
        self,
        ticker: int,
        on_touch: int,
        begin_anew: int,
        is_alone: int,
        ram: int,
        base: int,
        size: int,
        /,
    ) -> None: ...
    def watch(self, words: bytes, /) -> None: ...
    def fast(self, va: int, /) -> bool: ...
    def page(self, va: int, /) -> int: ...
