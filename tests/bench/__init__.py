# SPDX-License-Identifier: GPL-2.0-or-later
"""Speed beside the peers, from one run: ``python -m tests.bench``."""
