# SPDX-License-Identifier: GPL-2.0-or-later
"""What wild tables lead to, said as what it is: the file is damaged.

Kernels' tables refer to each other by offsets, numbers and counts without end.  Readers
check what proves a table, or would take for ever; where the rest leads is caught here.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from nanokernel_vm.errors import LoadError

_WILD = (struct.error, LookupError, ValueError, ArithmeticError, RecursionError)


@contextmanager
def found_in(name: str) -> Iterator[None]:
    """Read tables of the file ``name``.

    Raises:
        LoadError: They lead nowhere.
    """
    try:
        yield
    except _WILD as error:
        what = f"{type(error).__name__}: {error}"
        raise LoadError(f"{name}: its tables are damaged ({what[:200]})") from error
