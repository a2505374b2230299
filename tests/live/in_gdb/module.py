# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs inside gdb: a stop in a function that a module has called, as it sees it."""

import sys

import gdb

from tests.live.in_gdb.walk import alone, both_views, number

pid, out, function = sys.argv
alone(int(pid))
END = number("&_end")


class _CalledByAModule(gdb.Breakpoint):
    def stop(self) -> bool:
        return number("*(unsigned long *) $rsp") > END


gdb.execute("tbreak do_one_initcall", to_string=True)  # others call it all the time
gdb.execute("continue", to_string=True)
_CalledByAModule(function, internal=True)
gdb.execute("continue", to_string=True)
both_views(out)
