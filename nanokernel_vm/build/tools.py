# SPDX-License-Identifier: GPL-2.0-or-later
"""Running the programs that a build needs, with errors that say what to do."""

import os
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nanokernel_vm.errors import BuildError

TAIL_LINES = 15


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
) -> bytes:
    """Run a program to its end and return what it printed on stdout."""
    try:
        done = subprocess.run(
            argv, cwd=cwd, input=stdin, capture_output=True, env=_environment(env)
        )
    except FileNotFoundError:
        raise _missing(argv) from None
    if done.returncode:
        raise _failure(argv, done.stderr or done.stdout)
    return done.stdout


def watch(
    argv: Sequence[str | Path],
    each_line: Callable[[str], None],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a program and hand over each line that it prints, on stdout or stderr."""
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with _started(argv, cwd, env) as process:
        try:
            for line in process.stdout or ():
                tail.append(line)
                each_line(line)
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise _failure(argv, "".join(tail).encode())


def version(program: str) -> str:
    """Return the first line of ``program --version``."""
    return run([program, "--version"]).decode(errors="replace").partition("\n")[0]


def _started(
    argv: Sequence[str | Path], cwd: Path | None, env: Mapping[str, str] | None
) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            argv,
            cwd=cwd,
            env=_environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        raise _missing(argv) from None


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    # Messages are parsed and outputs cached: neither may depend on the user's locale.
    return {**os.environ, "LC_ALL": "C", **(extra or {})}


def _missing(argv: Sequence[str | Path]) -> BuildError:
    return BuildError(f"{argv[0]} is not installed: run make setup")


def _failure(argv: Sequence[str | Path], output: bytes) -> BuildError:
    lines = output.decode(errors="replace").strip().splitlines()[-TAIL_LINES:]
    return BuildError("\n  ".join([f"{argv[0]} failed:", *lines]))
