# SPDX-License-Identifier: GPL-2.0-or-later
"""The ``nk`` command."""

import os
import signal
import sys
from io import TextIOWrapper


def main() -> None:
    """Entry point.  Ctrl-C ends the process from the first moment on.

    By the system itself: Python's KeyboardInterrupt is lost where Python cannot raise
    (in finalizers, in what C calls), and nothing needs to be tidied up that the next
    start would not tidy after a loss of power.  A running machine hears it itself.
    All else is imported only here.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # bin/nk has blocked it
    _open_standard_files()
    try:
        from nanokernel_vm.cli.app import main as run
    except ModuleNotFoundError as error:  # this project is newer than what it stands on
        sys.exit(f"nk: {error.name} is not installed: run make setup")
    run()


def _open_standard_files() -> None:
    """See that 0, 1 and 2 are open: the next file opened would be taken for them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):  # a file's name may have any letters
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
