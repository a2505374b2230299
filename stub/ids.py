# SPDX-License-Identifier: GPL-2.0-or-later
"""Thread ids of the multiprocess extension: ``pPID.TID`` (gdb manual, "Packets")."""
