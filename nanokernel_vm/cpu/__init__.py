# SPDX-License-Identifier: GPL-2.0-or-later
"""The processor: the only package that knows Unicorn."""
