# SPDX-License-Identifier: GPL-2.0-or-later
"""Chips of a PC, one file each, and the bus of I/O ports that they sit on.

A chip knows its own registers by offset, its interrupt line, and the virtual clock.
It knows no base address, no interrupt number and no CPU: those meet in the machine
alone.  Where a PC has it, says the row at the end of its file.
"""
