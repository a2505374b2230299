# SPDX-License-Identifier: GPL-2.0-or-later
from nanokernel_vm.console import Console


def put(console: Console, text: bytes) -> None:
    for byte in text:
        console.transmit(byte)


def test_all_that_is_printed_is_kept_and_passed_on() -> None:
    console, heard = Console(), bytearray()
    console.sinks.append(heard.append)
    put(console, b"Linux\r\n")
    assert console.output == heard == b"Linux\r\n"


def test_the_output_is_bounded_and_keeps_its_end() -> None:
    console = Console()
    console.output += bytes(2 << 20)
    put(console, b"end")
    assert len(console.output) <= 2 << 20
    assert console.output.endswith(b"\0end")


def test_a_text_is_seen_once_it_is_complete() -> None:
    console = Console()
    console.watch_for(b"# ")
    put(console, b"guest#")
    assert not console.seen(b"# ")
    put(console, b" ")
    assert console.seen(b"# ")
    put(console, b"more")
    assert console.seen(b"# ")


def test_only_what_comes_after_watching_counts() -> None:
    console = Console()
    put(console, b"guest# ")
    console.watch_for(b"# ")
    put(console, b"ls")
    assert not console.seen(b"# ")
    put(console, b"\r\nguest# ")
    assert console.seen(b"# ")


def test_what_is_not_watched_for_is_not_seen() -> None:
    console = Console()
    console.watch_for(b"a")
    console.forget(b"a")
    put(console, b"a")
    assert not console.seen(b"a")
