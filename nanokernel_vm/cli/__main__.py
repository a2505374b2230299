# SPDX-License-Identifier: GPL-2.0-or-later
"""The ``nk`` command, as ``bin/nk`` starts it."""

from nanokernel_vm.cli import main

main()
