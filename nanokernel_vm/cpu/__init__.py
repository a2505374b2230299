# SPDX-License-Identifier: GPL-2.0-or-later
"""The processor: the only package that knows Unicorn."""

import os
import sys

from nanokernel_vm.cpu import decoding
from nanokernel_vm.cpu.promises import CR4_PROMISED, XCR0_PROMISED


def _load() -> str | None:
    """Load what stands in for functions of libunicorn, before libunicorn."""
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
    try:
        from nanokernel_vm.cpu import _interpose
    finally:
        sys.setdlopenflags(flags)
    from unicorn.unicorn_py3.unicorn import uclib

    _interpose.promise(*decoding.rules(), CR4_PROMISED, XCR0_PROMISED)
    return _interpose.bind(uclib._handle)


MISSING = _load()  # a function that libunicorn should have, if it has not
