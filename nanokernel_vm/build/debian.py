# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages, fetched by apt into the cache and unpacked, never installed.

apt verifies checksums against signed lists.  Lists that are missing or too old are
fetched once: the system's own as root, else private ones in the cache.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nanokernel_vm.build import cache
from nanokernel_vm.build.progress import Progress
from nanokernel_vm.build.tools import run
from nanokernel_vm.errors import BuildError

_T = TypeVar("_T")

# 'uri' file_name size SHA256:checksum, as `apt-get --print-uris` prints it
_URI = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) (?P<checksum>\S*)")


@dataclass(frozen=True, slots=True)
class Package:
    """One version of a package as the archive offers it today."""

    name: str
    version: str
    file: str
    size: int
    checksum: str

    def __str__(self) -> str:
        """Return what tells this build of the package from every other."""
        return f"{self.version} {self.checksum}"


def resolve(name: str) -> Package:
    """Return the package that apt would install now.

    Raises:
        BuildError: No configured archive has it.
    """
    return _with_fresh_lists(lambda: _resolve(name))


def dependency(metapackage: str, pattern: str) -> Package:
    """Return the one package that ``metapackage`` depends on, named by a pattern."""

    def find() -> Package:
        listing = run([*_apt("apt-cache"), "depends", metapackage]).decode()
        names = re.findall(rf"^\s+Depends: ({pattern})$", listing, re.MULTILINE)
        if len(names) != 1:
            raise BuildError(f"{metapackage} depends on {names}, not on one {pattern}")
        return _resolve(names[0])

    return _with_fresh_lists(find)


def oldest(prefix: str, suffix: str) -> Package:
    """Return the package with the lowest number between two pieces of its name."""

    def find() -> Package:
        pattern = f"^{prefix}[0-9]+{suffix}$"
        listing = run([*_apt("apt-cache"), "search", "--names-only", pattern]).decode()
        names = [line.partition(" ")[0] for line in listing.splitlines()]
        if not names:
            raise BuildError(f"no archive offers {prefix}NUMBER{suffix}")
        return _resolve(min(names, key=lambda n: int(n[len(prefix) : -len(suffix)])))

    return _with_fresh_lists(find)


@contextmanager
def unpacked(package: Package) -> Iterator[Path]:
    """Give a package's files in a directory for the time being."""
    file = download(package)
    with cache.scratch(cache.root() / "packages") as directory:
        run(["dpkg-deb", "-x", file, directory])
        yield directory


def download(package: Package) -> Path:
    """Return the package file in the cache, fetching it if it is not there."""
    packages = cache.root() / "packages"
    final = packages / package.file
    if not _intact(final, package):
        with cache.scratch(packages) as temporary:
            _fetch(package, temporary)
            (temporary / package.file).rename(final)
    return final


def _intact(file: Path, package: Package) -> bool:
    """Whether a file is the package; a disk that was full or lost power has a part."""
    if not file.is_file() or file.stat().st_size != package.size:
        return False
    kind, _, checksum = package.checksum.partition(":")
    if kind != "SHA256":
        return True
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == checksum


def _fetch(package: Package, into: Path) -> None:
    wanted = f"{package.name}={package.version}"
    command = [*_apt("apt-get"), "download", "-q", wanted]
    with (
        Progress(f"download {package.name}", package.size, "B") as progress,
        ThreadPoolExecutor(1) as worker,
    ):
        fetching = worker.submit(run, command, cwd=into)
        while wait([fetching], timeout=0.1).not_done:
            with suppress(FileNotFoundError):  # apt renames what is complete
                progress.at(sum(file.stat().st_size for file in into.iterdir()))
        fetching.result()
    if not (into / package.file).exists():
        raise BuildError(f"apt-get did not deliver {package.file}")


def _resolve(name: str) -> Package:
    # In an empty directory, because apt-get names nothing that it finds downloaded.
    with tempfile.TemporaryDirectory() as empty:
        command = [*_apt("apt-get"), "download", "--print-uris", name]
        text = run(command, cwd=Path(empty)).decode()
    match = _URI.match(text)
    if match is None:
        raise BuildError(f"no archive offers {name}")
    file = match["file"]
    version = file.split("_")[1].replace("%3a", ":")
    return Package(name, version, file, int(match["size"]), match["checksum"])


def _with_fresh_lists(ask: Callable[[], _T]) -> _T:
    """Ask apt, and once more with fresh lists if it does not know."""
    try:
        return ask()
    except BuildError:
        _update_lists()
        return ask()


def _update_lists() -> None:
    if os.geteuid():
        for part in ("lists/partial", "archives/partial"):
            (_private() / part).mkdir(parents=True, exist_ok=True)
    with (
        cache.locked(cache.root() / "apt.lock", "the package lists"),
        Progress("package lists: apt-get update"),
    ):
        run([*_apt("apt-get"), "update", "-q"])


def _private() -> Path:
    return cache.root() / "apt"


def _apt(program: str) -> list[str]:
    """Return the start of a command that uses the freshest lists we have."""
    if not os.geteuid():
        return [program, "-o", "APT::Sandbox::User=root"]
    if not _private().is_dir():
        return [program]
    lists, archives = _private() / "lists", _private() / "archives"
    return [program, "-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={archives}"]
