# SPDX-License-Identifier: GPL-2.0-or-later
"""What gdb sources, by ``-x`` or by itself: puts the scripts on its path."""

import sys
from pathlib import Path

_HERE = str(Path(__file__).resolve().parent)
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)

import nk  # noqa: E402 - found only now

nk.register()
