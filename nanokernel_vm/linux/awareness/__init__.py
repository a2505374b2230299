# SPDX-License-Identifier: GPL-2.0-or-later
"""What Linux knows of itself, read by drgn from a partition's RAM.

Nothing runs in the partition and nothing is written, so that a dead kernel answers
like a living one.  It must not run while it is asked: what changes under the reader
is not Linux's state at any time.

``Awareness`` finds the kernel; the modules beside it have plain functions of it that
return dataclasses, one module for each thing that one asks about.  No version of
Linux is assumed: what a kernel has is asked of its types.  Memory that makes no sense
raises NoLinuxError, whatever drgn says of it.
"""

from nanokernel_vm.linux.awareness.kernel import (
    Awareness,
    Cpu,
    NoLinuxError,
    find_vmcoreinfo,
)
from nanokernel_vm.linux.awareness.stacks import Frame

__all__ = ["Awareness", "Cpu", "Frame", "NoLinuxError", "find_vmcoreinfo"]
