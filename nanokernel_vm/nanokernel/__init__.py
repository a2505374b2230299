# SPDX-License-Identifier: GPL-2.0-or-later
"""The nanokernel proper: interrupts, hypercalls, logs, faults."""
