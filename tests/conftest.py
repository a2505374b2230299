# SPDX-License-Identifier: GPL-2.0-or-later
"""What must be so before anything is imported."""

import os
import signal

from hypothesis import HealthCheck, settings

# drgn reads debugging information with OpenMP, whose threads a forked copy of this
# process has not: it would wait for them for ever.
os.environ["OMP_NUM_THREADS"] = "1"

# What is started in the background may have to ignore Ctrl-C, and what it starts
# inherits that: then no test could end a program so.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What stands in for functions of libunicorn must be there before it is.
import nanokernel_vm.cpu  # noqa: F401

# An example takes as long as other work beside it makes it take.
settings.register_profile(
    "busy computer", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy computer")
