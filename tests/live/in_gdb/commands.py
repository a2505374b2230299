# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs inside gdb: console commands, and what each printed, as lines of JSON."""

import json
import sys

import gdb

from tests.live.in_gdb.walk import alone

pid, out, *commands = sys.argv
alone(int(pid))
with open(out, "w") as file:
    for command in commands:
        print(json.dumps(gdb.execute(command, to_string=True)), file=file)
