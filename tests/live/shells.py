# SPDX-License-Identifier: GPL-2.0-or-later
"""A way into a kernel: a shell command that takes it through a known function."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.live.mi import Gdb, Stop
from tests.live.process import NkRun

NAMES = {1: "host", 2: "guest"}
UPTIME = "uptime_proc_show"  # reached through a system call, with seq_read_iter before


@contextmanager
def uptime(gdb: Gdb, machine: NkRun, inferior: int) -> Iterator[Stop]:
    """Ask a shell for the uptime, and let its kernel alone run to the next stop.

    At the end the command may end, so that the next finds a shell that listens.
    """
    gdb.alone(inferior)
    shell = machine.consoles[NAMES[inferior]]
    shell.type("cat /proc/uptime\n")
    try:
        yield gdb.resume("continue")
    finally:
        if gdb.running:
            gdb.interrupt()
        gdb("delete")
        gdb.alone(inferior)
        gdb.start("continue")
        shell.expect(shell.prompt)
        gdb.interrupt()


@contextmanager
def busy(gdb: Gdb, machine: NkRun, inferior: int) -> Iterator[None]:
    """Keep one kernel, which alone runs, reading: an idle one's clock does not tick."""
    gdb.alone(inferior)
    shell = machine.consoles[NAMES[inferior]]
    # In the echo "launch" does not appear; when it does, Ctrl-C is a signal.
    shell.type("echo la''unch; dd if=/dev/urandom of=/dev/null bs=1M\n")
    gdb.start("continue")
    shell.expect("launch")
    gdb.interrupt()
    try:
        yield
    finally:
        if gdb.running:
            gdb.interrupt()
        gdb("delete")
        gdb.alone(inferior)
        gdb.start("continue")
        shell.type("\x03")
        shell.expect(shell.prompt)
        gdb.interrupt()
