# SPDX-License-Identifier: GPL-2.0-or-later
"""Seeded campaigns that try to break the machine, each with its invariants.

A campaign is cut into pieces; a piece is made of a campaign's seed and its own number
alone, so that any one can be repeated, and a campaign interrupted goes on where it was.
"""
