# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs inside gdb: physical frames as numbers."""

import json

import gdb

MASK = (1 << 64) - 1
_NO_FRAMES_OF_THEIR_OWN = (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME)

Level = tuple[int, int, int | None]
"""rip, rsp and rbp; None: not saved."""


def number(expression: str) -> int:
    """Evaluate to 64 bits."""
    return int(gdb.parse_and_eval(expression)) & MASK


def levels() -> list[Level]:
    """The backtrace from the selected thread's registers."""
    found: list[Level] = []
    frame: gdb.Frame | None = gdb.newest_frame()
    while frame is not None:
        if frame.type() not in _NO_FRAMES_OF_THEIR_OWN:
            rip, rsp = frame.read_register("rip"), frame.read_register("rsp")
            rbp = frame.read_register("rbp")
            known = None if rbp.is_optimized_out else int(rbp) & MASK
            found.append((int(rip) & MASK, int(rsp) & MASK, known))
        frame = frame.older()
    return found


def both_views(out: str) -> None:
    """Write the backtrace here as gdb sees it and as drgn does, in JSON."""
    with open(out, "w") as file:
        seen = gdb.execute("nk bt -j", to_string=True)
        json.dump({"ours": levels(), "drgns": json.loads(seen)}, file)


def interrupted() -> gdb.Frame:
    """The innermost frame that was interrupted."""
    frame: gdb.Frame | None = gdb.newest_frame()
    while frame is not None and frame.type() != gdb.SIGTRAMP_FRAME:
        frame = frame.older()
    older = frame.older() if frame else None
    assert older is not None
    return older


def alone(pid: int) -> None:
    """Select an inferior, the only one that runs from now on."""
    for setting in ("confirm off", "pagination off", "width 0"):
        gdb.execute(f"set {setting}")
    gdb.execute(f"inferior {pid}", to_string=True)
    gdb.execute("set schedule-multiple off")
