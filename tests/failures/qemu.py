# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's own image in QEMU: another machine, and a writer of cores not ours."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from nanokernel_vm import build
from tests.failures.host import initrd

PROGRAM = "qemu-system-x86_64"
PATIENCE = 600.0  # seconds; bounds a wait, measures nothing
_CMDLINE = "console=ttyS0 partition=host cryptomgr.notests"


def available() -> bool:
    """Whether it is installed."""
    return shutil.which(PROGRAM) is not None


class Qemu:
    """One running machine.

    Args:
        serial: Its console.
        control: Where it takes QMP.
    """

    def __init__(self, serial: socket.socket, control: socket.socket) -> None:
        self._serial = serial
        with control:
            self._control = control.makefile("rw")
        self._receive()
        self.ask("qmp_capabilities")

    def close(self) -> None:
        """Hang up."""
        self._serial.close()
        self._control.close()

    def expect(self, text: str) -> None:
        """Read the console up to a text."""
        seen = ""
        while text not in seen:
            data = self._serial.recv(4096)
            assert data, f"no {text!r} in {seen[-2000:]!r}"
            seen += data.decode(errors="replace")

    def type(self, text: str) -> None:
        """Type at the console."""
        self._serial.sendall(text.encode())

    def ask(self, command: str, **arguments: object) -> object:
        """Have a QMP command done."""
        request = {"execute": command, "arguments": arguments}
        self._control.write(json.dumps(request) + "\n")
        self._control.flush()
        while "return" not in (answer := self._receive()):
            assert "error" not in answer, answer
        return answer["return"]

    def dump(self, file: Path) -> None:
        """Write an ELF core of physical memory."""
        self.ask("dump-guest-memory", paging=False, protocol=f"file:{file}")

    def _receive(self) -> dict[str, object]:
        line = self._control.readline()
        assert line, "QEMU has gone"
        row: dict[str, object] = json.loads(line)
        return row


@contextmanager
def qemu(directory: Path) -> Iterator[Qemu]:
    """Boot the stock kernel, with KASLR, and the RAM disk with the module."""
    sockets = {name: directory / name for name in ("serial", "control")}
    listening = {name: _listen(path) for name, path in sockets.items()}
    command: list[str | Path] = [
        PROGRAM, "-m", "128", "-display", "none", "-no-reboot",
        "-kernel", build.ensure("debian-cloud-bzimage"),
        "-initrd", initrd(directory), "-append", _CMDLINE,
        "-serial", f"unix:{sockets['serial']}",
        "-qmp", f"unix:{sockets['control']}",
    ]  # fmt: skip
    errors: IO[bytes]
    with (directory / "errors").open("w+b") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors)
        try:
            machine = Qemu(*(_accept(listening[name]) for name in sockets))
            with closing(machine):
                yield machine
        finally:
            process.kill()
            process.wait(PATIENCE)


def _listen(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.settimeout(PATIENCE)
    listening.bind(str(path))
    listening.listen(1)
    return listening


def _accept(listening: socket.socket) -> socket.socket:
    with listening:
        connection, _ = listening.accept()
    connection.settimeout(PATIENCE)
    return connection
