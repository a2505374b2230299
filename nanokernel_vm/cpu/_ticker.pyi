# SPDX-License-Identifier: GPL-2.0-or-later
"""Types of the extension module _ticker.c."""

ON_BLOCK: int
ON_TOUCH: int
BEGIN_ANEW: int
IS_ALONE: int
ON_VECTOR: int
ON_INVALID: int
ON_SYSCALL: int
ON_SYSENTER: int
ON_RDTSC: int
ON_RDTSCP: int

NONE: int
DEADLINE: int
PAUSE: int
INTERRUPT: int
VECTOR: int
SYSCALL: int
SYSENTER: int
BREAKPOINT: int
STEP: int
WATCH: int

class Ticker:
    clock: int
    expect: int
    origin: int
    deadline: int
    pause: int
    passing: int
    watched: int
    vector: int
    steps: int
    event: int
    interrupt: int
    uc: int
    everywhere: bool
    @property
    def asked(self) -> int: ...
    @property
    def places(self) -> int: ...
    @property
    def account(self) -> int: ...
    @property
    def stops(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def page(self) -> int: ...
    @page.setter
    def page(self, value: int) -> None: ...
    @property
    def end(self) -> int: ...
    @property
    def address(self) -> int: ...
    @property
    def watched_write(self) -> int: ...
    @property
    def tsc_per_tick(self) -> int: ...
    @property
    def pointer(self) -> int: ...
    def __init__(
        self,
        uc: int,
        emu_stop: int,
        reg_read: int,
        reg_write: int,
        tsc_per_tick: int,
        /,
    ) -> None: ...
    def settle(self, rip: int, /) -> None: ...
    def eligible(self, rip: int, /) -> bool: ...
    def exact(self, rip: int, /) -> int: ...
    def now(self) -> int: ...
    def arm(self, address: int, /) -> bool: ...
    def disarm(self, address: int, /) -> None: ...
    def armed(self, address: int, /) -> bool: ...
    def prune(self) -> None: ...
    def leave(self) -> None: ...
    def io_privileged(self) -> bool: ...
