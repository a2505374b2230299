# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs inside gdb: stacks of tasks that sleep, and the same when they are woken.

__switch_to_asm goes from one task's stack to the other's, which is then all that gdb
has.  By then the other has the CPU, as far as the scheduler is concerned, so that it
must have been looked at before.
"""

import json
import sys

import gdb

from tests.live.in_gdb.walk import alone, levels, number

Asleep = dict[int, object]
"""Frames by pid."""


def look(arguments: str) -> Asleep:
    """At tasks that do not run."""
    found = json.loads(gdb.execute(f"nk bt -j {arguments}", to_string=True))
    return {task["pid"]: task["frames"] for task in found}


def main() -> None:
    pid, count, out = int(sys.argv[0]), int(sys.argv[1]), sys.argv[2]
    alone(pid)
    gdb.Breakpoint("*__switch_to_asm", internal=True)
    asleep, left = look("-a"), 0
    with open(out, "w") as file:
        while count:
            gdb.execute("continue", to_string=True)
            before, after = (
                number(f"((struct task_struct *) ${register})->pid")
                for register in ("rdi", "rsi")
            )
            asleep.pop(before, None)
            if left not in (0, before, after):
                asleep |= look(str(left))
            left = before
            if after and after in asleep:
                gdb.execute("tbreak *__switch_to", to_string=True)
                gdb.execute("continue", to_string=True)
                row = {"pid": after, "asleep": asleep[after], "awake": levels()[1:]}
                print(json.dumps(row), file=file)
                count -= 1


if __name__ == "__main__":
    main()
