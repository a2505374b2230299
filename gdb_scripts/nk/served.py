# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the inferior at hand is served, and packets of our own to its server.

By commands and not by ``Inferior.connection``: who has asked gdb 13.1 for that makes it
fail an assertion when it is terminated (gdb/python/py-connection.c).
"""

import re

import gdb

# gdb 18 hands out the quoted records that it has made for MI.
_RECEIVED = re.compile(r'received: \\?"([^"\\]*)')


def is_remote() -> bool:
    """Whether a server has the inferior at hand."""
    connections = gdb.execute("info connections", to_string=True)
    return any(row[:1] == "*" and "remote" in row for row in connections.splitlines())


def send(packet: str) -> bytes | None:
    """Return the reply to a packet of text; None if there is no server.

    In MI, ``monitor`` writes to a stream apart, which Python does not see.
    """
    if not is_remote():
        return None
    text = gdb.execute(f"maint packet {packet}", to_string=True)
    received = _RECEIVED.search(text)
    return received[1].encode() if received else b""
