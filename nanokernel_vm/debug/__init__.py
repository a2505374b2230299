# SPDX-License-Identifier: GPL-2.0-or-later
"""The debugger's view of the machine: what ``stub`` serves to gdb."""

from nanokernel_vm.debug.inferior import PartitionInferior
from nanokernel_vm.debug.machine import DebugMachine

__all__ = ["DebugMachine", "PartitionInferior"]
