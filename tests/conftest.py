# SPDX-License-Identifier: GPL-2.0-or-later
"""What must be so before anything is imported."""

import os

# drgn reads debugging information with OpenMP, whose threads a forked copy of this
# process has not: it would wait for them for ever.
os.environ["OMP_NUM_THREADS"] = "1"

# What stands in for functions of libunicorn must be there before it is.
import nanokernel_vm.cpu  # noqa: F401
