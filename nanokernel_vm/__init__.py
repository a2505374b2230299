# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine: engines, devices, partitions and the nanokernel that runs them."""
