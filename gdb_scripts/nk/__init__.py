# SPDX-License-Identifier: GPL-2.0-or-later
"""gdb's scripts for the nanokernel's partitions.

They run in gdb's own Python with the standard library only.  What Linux knows of
itself is not read here: the server's ``monitor`` commands tell.
"""

from importlib import import_module

_SHELLS = ("autoload", "kernel", "unwind", "commands", "frames", "printers")
_registered: list[str] = []


def register() -> None:
    """Give gdb all that is here; once, however often it is asked."""
    for name in _SHELLS:
        if name not in _registered:
            _registered.append(name)
            import_module(f"nk.{name}").register()
