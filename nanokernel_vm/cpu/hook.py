# SPDX-License-Identifier: GPL-2.0-or-later
"""A hook of Unicorn, whose range can be changed in place, and which is never deleted.

To delete one, Unicorn walks the page tables for every place that it was called for,
and leaves traces in accessed bits and in the TLB, which programs see.  Translated code
keeps its calls of a hook until it is translated again.
"""

import ctypes

from unicorn.unicorn_py3.unicorn import uclib


class _Layout(ctypes.Structure):
    """struct hook of Unicorn 2.1.4 (include/uc_priv.h), which a handle points to."""

    begin: int
    end: int
    callback: int | None
    user_data: int | None
    _fields_ = (
        ("_kind", ctypes.c_int * 5),
        ("_to_delete", ctypes.c_bool),
        ("begin", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("callback", ctypes.c_void_p),
        ("user_data", ctypes.c_void_p),
    )


class Hook:
    """One hook of an engine.

    Args:
        uc: The engine's handle.
        kind: UC_HOOK_ constant.
        function: Address of what is called.
        data: What it is called with, an address.
        extra: For UC_HOOK_INSN: the instruction.
    """

    def __init__(
        self,
        uc: ctypes.c_void_p,
        kind: int,
        function: int,
        data: int,
        extra: int = 0,
    ) -> None:
        self._uc, handle = uc, ctypes.c_size_t()
        status = uclib.uc_hook_add(
            uc,
            ctypes.byref(handle),
            ctypes.c_int(kind),
            ctypes.c_void_p(function),
            ctypes.c_void_p(data),
            ctypes.c_uint64(1),
            ctypes.c_uint64(0),
            ctypes.c_int(extra),
        )
        if status:
            raise AssertionError(f"uc_hook_add({kind:#x}) failed: {status}")
        self._handle = handle
        self._layout = _Layout.from_address(handle.value)

    @property
    def layout(self) -> tuple[int, int, int | None, int | None]:
        """Range, function and data as Unicorn has them."""
        found = self._layout
        return found.begin, found.end, found.callback, found.user_data

    def arm(self, begin: int, end: int) -> None:
        """Let it be called at ``begin`` to ``end``, inclusive."""
        self._layout.begin, self._layout.end = begin, end
