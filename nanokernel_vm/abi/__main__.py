# SPDX-License-Identifier: GPL-2.0-or-later
"""Write the files that are generated from the declarations."""

from pathlib import Path

from nanokernel_vm.abi.cheader import header
from nanokernel_vm.abi.scripts import module

PROJECT = Path(__file__).parents[2]

GENERATED = {
    PROJECT / "guest_patches/include/nanokernel_abi.h": header,
    PROJECT / "gdb_scripts/nk/abi.py": module,
}

if __name__ == "__main__":
    for path, text in GENERATED.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text())
