# SPDX-License-Identifier: GPL-2.0-or-later
"""The interface between the nanokernel and its guest, declared once.

``python -m nanokernel_vm.abi`` writes what is generated from it.
"""
