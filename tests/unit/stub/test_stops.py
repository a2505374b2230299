# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from stub.ids import ThreadId
from stub.stops import (
    AtBreakpoint,
    AtWatchpoint,
    Exited,
    Killed,
    LibrariesChanged,
    Restarted,
    Signal,
    Stopped,
    StopReason,
    Watch,
    encode,
)

T = ThreadId(2, 1)


@pytest.mark.parametrize(
    ("reason", "features", "reply"),
    [
        (Stopped(T), "multiprocess", b"T05thread:p2.1;"),
        (Stopped(T, Signal.INT), "", b"T02thread:1;"),
        (
            Stopped(T, registers={0x10: b"\1\2", 7: b"\3"}),
            "multiprocess",
            b"T05thread:p2.1;10:0102;7:03;",
        ),
        (AtBreakpoint(T), "swbreak", b"T05thread:1;swbreak:;"),
        (AtBreakpoint(T), "hwbreak", b"T05thread:1;"),
        (AtBreakpoint(T, hardware=True), "hwbreak", b"T05thread:1;hwbreak:;"),
        (AtWatchpoint(T, addr=0xAB0), "", b"T05thread:1;watch:ab0;"),
        (AtWatchpoint(T, kind=Watch.ACCESS, addr=1), "", b"T05thread:1;awatch:1;"),
        (AtWatchpoint(T, kind=Watch.READ, addr=1), "", b"T05thread:1;rwatch:1;"),
        (Restarted(T, path="/a"), "exec-events", b"T05thread:1;exec:2f61;"),
        (Restarted(T, path="/a"), "", b"T05thread:1;"),
        (LibrariesChanged(T), "", b"T05thread:1;library:;"),
        (Exited(2, 0x101), "multiprocess", b"W01;process:2"),
        (Exited(2), "", b"W00"),
        (Killed(2), "multiprocess", b"X09;process:2"),
    ],
)
def test_encode(reason: StopReason, features: str, reply: bytes) -> None:
    assert encode(reason, {features}) == reply
