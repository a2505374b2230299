# SPDX-License-Identifier: GPL-2.0-or-later
"""What a handler can answer besides the bytes of a reply.

A handler never waits and never writes: it returns what is to happen, and the
driver, which goes on reading, does it.
"""

from dataclasses import dataclass

from stub.target import Action


@dataclass(frozen=True, slots=True)
class Resume:
    """Let threads run; the reply is the stop that ends it."""

    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """Send ``reply`` and hang up."""

    reply: bytes = b""


Outcome = bytes | Resume | Close
