# SPDX-License-Identifier: GPL-2.0-or-later
"""The ``nk`` command."""

import signal
import sys


def main() -> None:
    """Entry point.  Ctrl-C is a wish to stop from the first moment on.

    So that it is, all else is imported only here.
    """
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    from nanokernel_vm.cli.app import main as run

    run()
