# SPDX-License-Identifier: GPL-2.0-or-later
"""Each server, started, measured and ended; a peer that is not installed gives None."""

import importlib.util
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from nanokernel_vm import build
from nanokernel_vm.config import load
from tests.bench.packets import Figures, Wire, measure

ROOT = Path(__file__).parents[2]
HOST_ONLY = ROOT / "examples" / "host-only.toml"
PAIR = ROOT / "examples" / "two-linuxes.toml"
NK = Path(sys.executable).with_name("nk")
PROMPT = b"host# "
DIRECT_MAP = 0xFFFF_8880_0100_0000  # the host kernel's text, by its direct map
PATIENCE = 120.0

_BUSY = b"while :; do :; done\n"  # a halted processor has nothing to step
_LOOP = "volatile long n; int main(void) { for (;;) n++; }"
_UNICORN = """
import sys
from unicorn import Uc, UC_ARCH_X86, UC_MODE_64
from udbserver import udbserver
uc = Uc(UC_ARCH_X86, UC_MODE_64)
uc.mem_map(0x1000, 0x20000)
uc.mem_write(0x1000, b"\\x90" * 0x10000 + b"\\xe9\\xfb\\xff\\xfe\\xff")
udbserver(uc, int(sys.argv[1]), 0x1000)
uc.emu_start(0x1000, 0x1fff0)
"""


def qemu(*options: str) -> list[str]:
    """QEMU with the host's image, initrd and command line."""
    cmdline = load(HOST_ONLY).partitions[0].cmdline
    return [
        *("qemu-system-x86_64", "-accel", "tcg", "-m", "256", "-nographic"),
        *("-no-reboot", "-nodefaults", "-serial", "stdio"),
        *("-kernel", str(build.ensure("debian-cloud-bzimage"))),
        *("-initrd", str(build.ensure("initrd"))),
        *("-append", cmdline, *options),
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], ready: bytes, then: bytes = b"") -> Iterator[bytes]:
    """Run a program to its ``ready``, type ``then``; end it afterwards."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        assert process.stdin is not None
        printed = _read_until(process, ready)
        process.stdin.write(then)
        process.stdin.flush()
        yield printed
    finally:
        process.kill()
        process.communicate()


def _read_until(process: "subprocess.Popen[bytes]", ready: bytes) -> bytes:
    assert process.stdout is not None
    printed, end = b"", time.monotonic() + PATIENCE
    while ready not in printed:
        data = process.stdout.read1(4096)  # type: ignore[attr-defined]
        if not data or time.monotonic() > end:
            raise RuntimeError(f"{process.args!r} ended: {printed[-300:]!r}")
        printed += data
    return printed


def boot_seconds(command: list[str]) -> float:
    """Wall time from the start of a program to the host's prompt."""
    before = time.perf_counter()
    with running(command, PROMPT):
        return time.perf_counter() - before


def ours_boot() -> list[str]:
    """Our command that boots the host alone."""
    return [str(NK), "run", str(HOST_ONLY), "--no-gdb", "--console", "host=stdio"]


def ours() -> Figures:
    """Both kernels booted, the host asked."""
    console = ("--console", "host=stdio")
    command = [str(NK), "run", str(PAIR), "--gdb", "127.0.0.1:0", *console]
    with running(command, PROMPT, _BUSY) as printed:
        found = re.search(rb"target remote (\S+):(\d+)", printed)
        if found is None:
            raise RuntimeError(f"no address in {printed!r}")
        address = found[1].decode(), int(found[2])
        return _measured(address, DIRECT_MAP, b"vCont;s:p1.1")


def _measured(address: tuple[str, int], addr: int, step: bytes = b"vCont;s") -> Figures:
    wire = _connected(address)
    try:
        wire.attach()
        return measure(wire, addr, step)
    finally:
        wire.close()


def _connected(address: tuple[str, int]) -> Wire:
    end = time.monotonic() + 10
    while True:
        try:
            return Wire(address)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise


def qemus() -> Figures | None:
    """QEMU's stub, the same kernel at its shell."""
    if shutil.which("qemu-system-x86_64") is None:
        return None
    port = _free_port()
    with running(qemu("-gdb", f"tcp:127.0.0.1:{port}"), PROMPT, _BUSY):
        return _measured(("127.0.0.1", port), DIRECT_MAP, b"vCont;s:p1.1")


def gdbservers() -> Figures | None:
    """gdbserver with a small loop."""
    if shutil.which("gdbserver") is None:
        return None
    with TemporaryDirectory() as folder:
        source, program = Path(folder, "loop.c"), Path(folder, "loop")
        source.write_text(_LOOP)
        subprocess.run(["gcc", "-static", "-o", program, source], check=True)
        with running(["gdbserver", "127.0.0.1:0", str(program)], b"port ") as printed:
            found = re.search(rb"port (\d+)", printed)
            if found is None:
                return None
            return _measured(("127.0.0.1", int(found[1])), 0x40_1000)


def udbservers() -> Figures | None:
    """udbserver with a Unicorn program of NOPs."""
    if importlib.util.find_spec("udbserver") is None:
        return None
    port = _free_port()
    with TemporaryDirectory() as folder:
        script = Path(folder, "program.py")
        script.write_text(_UNICORN)
        process = subprocess.Popen(
            [sys.executable, script, str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return _measured(("127.0.0.1", port), 0x1000)
        finally:
            process.kill()
            process.wait()
