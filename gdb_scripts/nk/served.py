# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the inferior at hand is served, and packets of our own to its server.

The connection carries one request at a time and replies are not numbered: a reply that
comes after gdb has given it up is taken for the reply to the next request, and from
then on everything shown is wrong.  So an answer is waited for as long as it takes, and
where it cannot be, the connection is dropped.

By commands and not by ``Inferior.connection``: who has asked gdb 13.1 for that makes it
fail an assertion when it is terminated (gdb/python/py-connection.c).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import gdb

# gdb 18 hands out the quoted records that it has made for MI.
_RECEIVED = re.compile(r'received: \\?"([^"\\]*)')


def is_remote() -> bool:
    """Whether a server has the inferior at hand."""
    connections = gdb.execute("info connections", to_string=True)
    return any(row[:1] == "*" and "remote" in row for row in connections.splitlines())


# Seconds until gdb looks again, which it does three times; its own are two.  A second
# Ctrl-C ends the wait earlier.
_PATIENCE = 100

_DROPPED = "no answer from the server, disconnected; attach again: target remote"


@contextmanager
def _patience() -> Iterator[None]:
    before = gdb.parameter("remotetimeout")
    gdb.execute(f"set remotetimeout {_PATIENCE}", to_string=True)
    try:
        yield
    finally:
        gdb.execute(f"set remotetimeout {before}", to_string=True)


def send(packet: str) -> bytes | None:
    """Return the reply to a packet of text; None if there is no server.

    In MI, ``monitor`` writes to a stream apart, which Python does not see.

    Raises:
        gdb.GdbError: There is no answer.
    """
    if not is_remote():
        return None
    try:
        with _patience():
            text = gdb.execute(f"maint packet {packet}", to_string=True)
    except gdb.error:
        text = ""
    received = _RECEIVED.search(text)
    if received is None:
        _drop()
    return received[1].encode()


def _drop() -> NoReturn:
    """Leave while it is still known which reply belongs to which request."""
    if is_remote():
        gdb.execute("disconnect", to_string=True)
    raise gdb.GdbError(_DROPPED)
