# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from stub.endpoint import Endpoint, Stdio, Tcp, Unix, parse_endpoint
from stub.errors import EndpointError


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        (":1234", Tcp("127.0.0.1", 1234)),
        ("0.0.0.0:0", Tcp("0.0.0.0", 0)),
        ("localhost:65535", Tcp("localhost", 65535)),
        ("[::1]:1234", Tcp("::1", 1234)),
        ("unix:/run/nk.sock", Unix("/run/nk.sock")),
        ("stdio", Stdio()),
    ],
)
def test_parse(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize(
    "text", ["", "1234", ":", ":x", ":65536", "::1:1234", "unix:", "a/b:1", ":٣"]
)
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(EndpointError, match="is not HOST:PORT"):
        parse_endpoint(text)


def test_an_address_reads_as_gdb_takes_it() -> None:
    assert str(Tcp("::1", 1234)) == "[::1]:1234"
    assert str(Tcp("127.0.0.1", 1)) == "127.0.0.1:1"
    assert str(Unix("/a")) == "/a"
    assert str(Stdio()) == "stdio"
