# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong, split by whose fault it is.

* ``StubError`` - everything raised on purpose here
    * ``ProtocolError`` - the client sent what the protocol does not allow
    * ``TargetError`` - the request was fine, the target cannot do it
    * ``EndpointError`` - the address cannot be served on

The first two become an error reply; any other exception is a bug in the server
or the machine: it is logged once and ends that connection, nothing else.
"""

from enum import IntEnum


class Errno(IntEnum):
    """Error numbers as in gdb's File-I/O protocol (Linux' own, for these)."""

    EPERM = 1
    ENOENT = 2
    ESRCH = 3
    EINTR = 4
    EIO = 5
    EBADF = 9
    EACCES = 13
    EFAULT = 14
    EINVAL = 22
    EMFILE = 24
    ENOSPC = 28
    EROFS = 30


class StubError(Exception):
    """Base of all errors raised on purpose."""


class ProtocolError(StubError):
    """The client sent something malformed."""


class TargetError(StubError):
    """The target refused or could not do what was asked.

    Attributes:
        errno: What kind of failure, sent to every client.
        why: The reason in words, sent to clients that announced error-message+.
    """

    def __init__(self, errno: Errno, why: str) -> None:
        super().__init__(why)
        self.errno = errno
        self.why = why


class EndpointError(StubError):
    """The server cannot listen where it was told to."""


def error_reply(error: StubError, *, text: bool) -> bytes:
    """Encode an error as ``E.reason`` or ``Enn``.

    The two digits are the decimal errno, as QEMU and others send it (E14 is
    EFAULT); gdb only ever prints them.
    """
    if text:
        return b"E." + str(error).encode("ascii", "backslashreplace")
    errno = error.errno if isinstance(error, TargetError) else Errno.EINVAL
    return b"E%02d" % errno
