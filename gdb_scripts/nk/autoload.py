# SPDX-License-Identifier: GPL-2.0-or-later
"""Cures what gdb does not do by itself when it attaches.

gdb 13.1 reads the target's description for the first inferior only: in the second
``$part``, ``$cr3`` and all that is not in gdb's own table are void.  To forget a
description file that was never set makes it read the description again, for the
inferior at hand (gdb/target-descriptions.c: unset_tdesc_filename_cmd).

By default gdb lets only the current inferior run: ``continue`` in one kernel would keep
the other from running, and what a kernel waits for from the other would never come.

Where all run, the first event in the inferior that was current when gdb attached is
swallowed, and gdb waits for ever, unless that inferior was resumed before
(gdb/infrun.c, handle_signal_stop: stop_soon is reset for the current inferior only).
To step it no time at all is what resets it.
"""

import gdb

from nk.served import is_remote

_TOGETHER = (
    "nk: all kernels run and stop together; one alone: set schedule-multiple off\n"
)


def _describe(event: gdb.NewObjFileEvent) -> None:
    """A file with symbols has come: that is how gdb meets an inferior."""
    space = gdb.current_progspace()
    if space is not None and event.new_objfile.filename == space.filename:
        _cure(gdb.selected_inferior())


def _cure(inferior: gdb.Inferior) -> None:
    if not inferior.pid or not is_remote():
        return
    if '"' in gdb.execute("show tdesc filename", to_string=True):
        return  # the user wants a file of his own
    gdb.execute("unset tdesc filename", to_string=True)


def _cure_all() -> None:
    """For inferiors that were there before the scripts."""
    here, thread = gdb.selected_inferior(), gdb.selected_thread()
    for inferior in gdb.inferiors():
        if inferior.pid and inferior.num != here.num:
            gdb.execute(f"inferior {inferior.num}", to_string=True)
            _cure(inferior)
    if gdb.selected_inferior().num != here.num:
        gdb.execute(f"inferior {here.num}", to_string=True)
    if thread is not None and thread.is_valid():
        thread.switch()


_SETTLE = """\
define target {hook}
python import nk.autoload; nk.autoload.settle()
end
"""


def settle() -> None:
    """After ``target remote``: let gdb see the first event of the current inferior."""
    if gdb.selected_thread() is not None and is_remote():
        gdb.execute("stepi 0", to_string=True)


def _run_together() -> None:
    if not gdb.parameter("schedule-multiple"):
        gdb.execute("set schedule-multiple on")
        gdb.write(_TOGETHER)
    for name in ("remote", "extended-remote"):
        gdb.execute(_SETTLE.format(hook=f"hookpost-{name}"), to_string=True)


def register() -> None:
    """Do it now and whenever an inferior comes."""
    _run_together()
    gdb.events.new_objfile.connect(_describe)
    if gdb.selected_thread() is not None:
        _cure_all()
