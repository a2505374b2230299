# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a server listens: ``HOST:PORT``, ``:PORT``, ``unix:PATH`` or ``stdio``.

``str`` of an endpoint is what one types behind gdb's ``target remote``.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from stub.errors import EndpointError

LOOPBACK = "127.0.0.1"
_LABEL_MAX = 63
_SHOWN = 100  # characters of a user's text that a message repeats

_TCP = re.compile(
    r"(?:\[(?P<v6>[0-9a-fA-F:.%\w]+)\]|(?P<host>[^:\[\]/]*)):(?P<port>[0-9]{1,9})"
)


@dataclass(frozen=True, slots=True)
class Tcp:
    """A TCP port; 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Unix:
    """A Unix socket."""

    path: str

    def __str__(self) -> str:
        """Return the path."""
        return self.path


@dataclass(frozen=True, slots=True)
class Stdio:
    """Standard input and output, for ``target remote | COMMAND``."""

    def __str__(self) -> str:
        """Return the word that ``parse_endpoint`` takes."""
        return "stdio"


Endpoint = Tcp | Unix | Stdio


def parse_endpoint(text: str) -> Endpoint:
    """Read an endpoint as a user writes it; no host means this one only."""
    if text == "stdio":
        return Stdio()
    if text.startswith("unix:") and len(text) > len("unix:") and "\0" not in text:
        return Unix(text.removeprefix("unix:"))
    match = _TCP.fullmatch(text)
    if match is None or int(match["port"]) > 0xFFFF or not _is_name(match["host"]):
        short = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        raise EndpointError(f"{short!r} is not HOST:PORT, :PORT, unix:PATH or stdio")
    return Tcp(match["v6"] or match["host"] or LOOPBACK, int(match["port"]))


def _is_name(host: str | None) -> bool:
    """Whether a host's name could be one: its labels have a length (RFC 1035)."""
    labels = host.removesuffix(".").split(".") if host else ()
    return all(0 < len(label) <= _LABEL_MAX for label in labels)


def local(address: str) -> bool:
    """Whether only this computer reaches an IP address."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped  # else no loopback address before Python 3.13
    return ip.is_loopback
