# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs inside gdb: what it makes of a partition whose engine has died, and the other.

Arguments: file for the answers, inferior that is dead, inferior that lives.
"""

import json
import sys

import gdb

out, dead, living = sys.argv[0], int(sys.argv[1]), int(sys.argv[2])


def ask(command: str) -> str:
    return gdb.execute(command, to_string=True)


stops: list[str] = []
gdb.events.stop.connect(
    lambda event: stops.append(
        event.stop_signal
        if isinstance(event, gdb.SignalEvent)
        else f"{type(event).__name__} in {gdb.newest_frame().name()}"
    )
)


def number(expression: str) -> int:
    return int(gdb.parse_and_eval(expression)) & (1 << 64) - 1


def look() -> dict[str, object]:
    return {
        "rip": number("$rip"),
        "rbx": number("$rbx"),
        "code": [number(f"((unsigned char *)$rip)[{n}]") for n in range(4)],
        "threads": ask("info threads"),
        "tasks": ask("monitor ps"),
        "partitions": ask("monitor partitions"),
    }


found: dict[str, object] = {}
gdb.execute(f"inferior {dead}")
found["before"] = look()
# The dead one is written to, gets break- and watchpoints, and is asked to go on.
gdb.execute("set $rbx = 0x1234")
gdb.execute("hbreak *0x1000")
gdb.execute("watch *(long *)init_task.comm")
gdb.execute("set schedule-multiple off")
gdb.execute("continue")
found["continued"] = stops.pop()
gdb.execute("delete")
found["after"] = look()
gdb.execute(f"inferior {living}")
gdb.execute("break vfs_read")
for _ in range(3):
    gdb.execute("continue")
gdb.execute("delete")
found["living"] = stops
with open(out, "w") as file:
    json.dump(found, file)
