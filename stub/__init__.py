# SPDX-License-Identifier: GPL-2.0-or-later
"""A GDB Remote Serial Protocol server for several inferiors; stdlib only."""
