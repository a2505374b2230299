# SPDX-License-Identifier: GPL-2.0-or-later
"""The ``nk`` command."""

import signal
import sys
from types import FrameType

_SOON = 0.01  # seconds


def main() -> None:
    """Entry point.  Ctrl-C is a wish to stop from the first moment on.

    So that it is, all else is imported only here.
    """
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGALRM, _leave)
    sys.unraisablehook = _leave_later
    try:
        from nanokernel_vm.cli.app import main as run
    except ModuleNotFoundError as error:  # this project is newer than what it stands on
        sys.exit(f"nk: {error.name} is not installed: run make setup")
    run()


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _leave_later(unraisable: "sys.UnraisableHookArgs") -> None:
    """Try again where Python has no way out: in finalizers, and called from C."""
    if isinstance(unraisable.exc_value, SystemExit):
        signal.setitimer(signal.ITIMER_REAL, _SOON)
    else:
        sys.__unraisablehook__(unraisable)
