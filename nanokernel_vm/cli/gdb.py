# SPDX-License-Identifier: GPL-2.0-or-later
"""``nk gdb``: stock gdb with everything set for a machine on this host."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from nanokernel_vm.build.cache import root
from nanokernel_vm.errors import MachineError

_SCRIPTS = Path(__file__).parents[2] / "gdb_scripts"


def command(connect: str, arguments: Sequence[str]) -> list[str]:
    """The command line: symbol files are opened here, not read over the wire."""
    program = os.environ.get("NK_GDB", "gdb")
    found = shutil.which(program)
    if found is None:
        raise MachineError(f"{program} is not installed; run: apt-get install gdb")
    endpoint = connect.removeprefix("unix:")
    return [
        found,
        *("-iex", "set sysroot"),
        *("-iex", f"add-auto-load-safe-path {root()}"),
        *("-iex", f"add-auto-load-safe-path {_SCRIPTS}"),
        *("-ex", f"target remote {endpoint}"),
        *arguments,
    ]


def start(connect: str, arguments: Sequence[str]) -> None:
    """Become gdb."""
    line = command(connect, arguments)
    os.execv(line[0], line)
