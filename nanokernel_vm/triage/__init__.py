# SPDX-License-Identifier: GPL-2.0-or-later
"""What has happened to a kernel: one report, made of its memory.

``examine`` looks at a kernel (``linux.awareness``), its CPU's registers and, where
there is one, the nanokernel's log, and returns a ``Report``; ``text`` and ``html`` show
it.  ``core`` is a kernel's memory in a file.

    incidents   what the kernel has said of itself in its log
    freed       whether a bad pointer is the link of a free object
    states      what can be seen of it now: deadlocks, hung tasks, interrupts kept off
    signature   what makes two failures the same

Nothing runs in the partition.  Whatever is broken in its memory costs the report only
the part that needs it, and is listed there as a problem.
"""

from nanokernel_vm.triage.examine import Subject, examine
from nanokernel_vm.triage.report import Finding, Interrupt, Kind, Report, Stack

__all__ = ["Finding", "Interrupt", "Kind", "Report", "Stack", "Subject", "examine"]
