# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs inside gdb: the backtrace at each of many stops, as lines of JSON."""

import json
import sys

import gdb

from tests.live.in_gdb.walk import alone, levels

pid, count, out = int(sys.argv[0]), int(sys.argv[1]), sys.argv[2]
alone(pid)
with open(out, "w") as file:
    for _ in range(count):
        gdb.execute("continue", to_string=True)
        print(json.dumps(levels()), file=file)
