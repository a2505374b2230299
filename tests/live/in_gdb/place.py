# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs inside gdb: the first stop in a function, as gdb sees it and as drgn does."""

import sys

import gdb

from tests.live.in_gdb.walk import alone, both_views

pid, out, function = sys.argv
alone(int(pid))
gdb.Breakpoint(function, internal=True)
gdb.execute("continue", to_string=True)
both_views(out)
