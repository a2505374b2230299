# SPDX-License-Identifier: GPL-2.0-or-later
"""``nk gdb``: stock gdb with everything set for a machine on this host."""

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from nanokernel_vm.build.cache import root
from nanokernel_vm.errors import MachineError
from stub.endpoint import Stdio, parse_endpoint

_LOG = logging.getLogger(__name__)

ENTRY = Path(__file__).parents[2] / "gdb_scripts" / "nk-gdb.py"

_STUB = """\
# Written by nk run: the scripts of the project that served this kernel.
import sys
sys.path.insert(0, {scripts!r})
try:
    import nk
except ImportError:
    print("nk: no scripts in " + sys.path.pop(0) + "; nk run writes where they are")
else:
    nk.register()
"""


def command(connect: str, arguments: Sequence[str]) -> list[str]:
    """The command line: symbol files are opened here, not read over the wire.

    Raises:
        MachineError: There is no gdb, or no machine can be there.
        EndpointError: ``connect`` is none.
    """
    if isinstance(parse_endpoint(connect), Stdio):
        raise MachineError(
            "--connect stdio: nobody serves; give HOST:PORT or unix:PATH"
        )
    program = os.environ.get("NK_GDB") or "gdb"
    found = shutil.which(program)
    if found is None:
        raise MachineError(f"{program} is not installed; run: apt-get install gdb")
    endpoint = connect.removeprefix("unix:")
    return [
        found,
        *("-iex", "set sysroot"),
        *("-iex", f"add-auto-load-safe-path {root()}"),
        *("-iex", f"source {ENTRY}"),
        *("-ex", f"target remote {endpoint}"),
        *arguments,
    ]


def offer_scripts(symbols: Path) -> None:
    """Let gdb load our scripts by itself with a symbol file of ours.

    gdb sources ``FILE-gdb.py`` beside FILE if its auto-load safe path allows that
    and FILE is opened here rather than read over the wire (``set sysroot``).  The
    cached file is made from a kernel; where this project lies is not part of that,
    so the stub is written when the file is served.
    """
    if not symbols.is_relative_to(root().resolve()):
        return  # the user's own file; nk gdb loads the scripts all the same
    stub = symbols.with_name(f"{symbols.name}-gdb.py")
    text = _STUB.format(scripts=str(ENTRY.parent))
    if not stub.is_file() or stub.read_bytes() != os.fsencode(text):
        _write(stub, text)


def _write(stub: Path, text: str) -> None:
    """A cache that cannot be written serves kernels all the same."""
    new = stub.with_name(f".{stub.name}.{os.getpid()}")
    try:
        new.write_bytes(os.fsencode(text))
        new.rename(stub)
    except OSError as error:
        _LOG.warning("%s: %s; gdb has our scripts by nk gdb only", stub, error.strerror)
        new.unlink(missing_ok=True)


def start(connect: str, arguments: Sequence[str]) -> None:
    """Become gdb.

    Raises:
        MachineError: It cannot be started.
    """
    line = command(connect, arguments)
    try:
        os.execv(line[0], line)
    except OSError as error:  # as of a script without #!, or arguments of megabytes
        raise MachineError(f"{line[0]}: {error.strerror}") from None
