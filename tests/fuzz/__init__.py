# SPDX-License-Identifier: GPL-2.0-or-later
"""Campaigns of random input, seeded, each with what must hold whatever comes."""
