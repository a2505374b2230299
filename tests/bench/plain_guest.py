# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest with guest patches 1 and 2 only: what extended frames cost is beside it."""

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from nanokernel_vm.build import cache, guest
from tests.boot.shell import PROMPT, Shell, partition

WITHOUT = 2  # patches of the series that it has


def kernel() -> Path:
    """Return its vmlinux, built if it is not in the cache: some minutes."""
    shelf = cache.Shelf("guest-plain-frames")
    with shelf.locked():
        patches = guest.series()[:WITHOUT]
        made = shelf.store(_inputs(patches), partial(guest.build, patches=patches))
    return made / "vmlinux"


def boot_seconds(kernel: Path) -> float:
    """Wall time from the kernel's first instruction to its shell's prompt."""
    shell = Shell(replace(partition("guest"), kernel=kernel))
    before = time.perf_counter()
    shell.wait(PROMPT)
    return time.perf_counter() - before


def _inputs(patches: list[guest.Patch]) -> Mapping[str, str]:
    files = [patch.path for patch in patches]
    return {
        "sources": cache.files_digest([*files, guest.FRAGMENT, guest.HEADER]),
        **guest.inputs(),
    }
