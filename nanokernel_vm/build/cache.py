# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache of built artifacts: one directory for each set of things that made it.

    $NK_CACHE/packages/                    downloaded Debian packages
    $NK_CACHE/<recipe>/<key>/              what was built; key: digest of all inputs
    $NK_CACHE/<recipe>/<key>/made-from     the inputs, readable
    $NK_CACHE/<recipe>/by-recipe/<digest>  link to a key, to look up without asking

The key names packages, their checksums and tool versions, which takes a second to find
out; the recipe digest covers only this project's own files, so a warm look-up is two
digests and a link.  A directory appears by rename, complete or not at all.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

MANIFEST = "made-from"


def root() -> Path:
    """Return the cache directory: ``$NK_CACHE`` or ``~/.cache/nanokernel``."""
    return Path(os.environ.get("NK_CACHE") or Path.home() / ".cache/nanokernel")


def digest(items: Mapping[str, str]) -> str:
    """Return the name of a set of inputs, whatever their order."""
    lines = "".join(f"{name} {value}\n" for name, value in sorted(items.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def files_digest(paths: Iterable[Path]) -> str:
    """Return the digest of files' names and contents."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(path.name.encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


class Shelf:
    """The cached directories of one recipe."""

    def __init__(self, name: str) -> None:
        """Name the recipe; nothing is created yet."""
        self.path = root() / name
        self._links = self.path / "by-recipe"

    def lookup(self, recipe: str) -> Path | None:
        """Return what the recipe with this digest built last, if anything."""
        link = self._links / recipe
        try:
            return self.path / os.readlink(link).rpartition("/")[2]
        except OSError:
            return None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from building the same recipe meanwhile."""
        self._links.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def store(
        self, inputs: Mapping[str, str], build: Callable[[Path, Path], None]
    ) -> Path:
        """Return the directory made from ``inputs``, building it if need be.

        ``build(into, final)`` fills ``into``, which is then renamed to ``final``.
        To be called under the lock.
        """
        final = self.path / digest(inputs)
        if not final.is_dir():
            self._build(inputs, build, final)
        return final

    def _build(
        self,
        inputs: Mapping[str, str],
        build: Callable[[Path, Path], None],
        final: Path,
    ) -> None:
        into = self.path / ".building"
        shutil.rmtree(into, ignore_errors=True)  # of a build that was killed
        into.mkdir(parents=True)
        try:
            build(into, final)
            manifest = "".join(f"{k} {v}\n" for k, v in sorted(inputs.items()))
            (into / MANIFEST).write_text(manifest)
            into.rename(final)
        finally:
            shutil.rmtree(into, ignore_errors=True)

    def link(self, recipe: str, made: Path) -> None:
        """Remember that the recipe with this digest made ``made``."""
        new = self._links / f".{recipe}.{os.getpid()}"
        new.unlink(missing_ok=True)
        new.symlink_to(f"../{made.name}")
        new.rename(self._links / recipe)
