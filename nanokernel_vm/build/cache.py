# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache of built artifacts: one directory for each set of things that made it.

    $NK_CACHE/packages/                    downloaded Debian packages
    $NK_CACHE/<recipe>/<key>/              what was built; key: digest of all inputs
    $NK_CACHE/<recipe>/<key>/made-from     the inputs, readable
    $NK_CACHE/<recipe>/by-recipe/<digest>  link to a key, to look up without asking

The key names packages, their checksums and tool versions, which takes a second to find
out; the recipe digest covers only this project's own files, so a warm look-up is two
digests and a link.  A directory appears by rename, complete or not at all: what is made
or fetched lies in a scratch directory until then, which whoever comes next removes if
its maker is gone, however he ended.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nanokernel_vm.errors import BuildError

MANIFEST = "made-from"
_SIZES = "sizes"  # of the files beside it: who fills a disk may leave a part of one
_SCRATCH = ".tmp-"
_LOG = logging.getLogger(__name__)


def root() -> Path:
    """Return the cache directory: ``$NK_CACHE`` or ``~/.cache/nanokernel``.

    Raises:
        BuildError: There is neither, as for a user without a home.
    """
    if named := os.environ.get("NK_CACHE"):
        return Path(named).absolute()
    try:
        return Path.home().absolute() / ".cache/nanokernel"
    except RuntimeError:
        raise BuildError("there is no home directory; name one in NK_CACHE") from None


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


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Keep other processes from the same, which say that they wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _LOG.warning("another process is at %s; waiting for it", what)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def scratch(place: Path) -> Iterator[Path]:
    """Give a directory of one's own in ``place`` for the time being.

    A lock on it tells that its maker lives; the system drops it with him.
    """
    place.mkdir(parents=True, exist_ok=True)
    gate = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(gate, fcntl.LOCK_EX)  # between making and locking it is nobody's
        for path in place.glob(f"{_SCRATCH}*"):
            _remove_if_left(path)
        directory = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=place))
        held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(held, fcntl.LOCK_EX)
    finally:
        os.close(gate)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(held)


def _remove_if_left(directory: Path) -> None:
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return  # gone meanwhile
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
    except BlockingIOError:
        pass  # its maker lives
    finally:
        os.close(fd)


def whole(made: Path) -> bool:
    """Whether a directory has what was stored, as far as sizes tell."""
    try:
        rows = (made / _SIZES).read_text().splitlines()
        pairs = [row.split(" ", 1) for row in rows]
        return made.is_dir() and all(
            (made / name).stat().st_size == int(size) for size, name in pairs
        )
    except FileNotFoundError as error:  # older caches have no sizes
        return made.is_dir() and error.filename == str(made / _SIZES)
    except (OSError, ValueError):
        return False


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
        with locked(self.path / "lock", self.path.name):
            yield

    def store(
        self, inputs: Mapping[str, str], build: Callable[[Path, Path], None]
    ) -> Path:
        """Return the directory made from ``inputs``, building it if need be.

        ``build(into, final)`` fills ``into``, which is then renamed to ``final``.
        To be called under the lock.
        """
        final = self.path / digest(inputs)
        if not whole(final):
            self._build(inputs, build, final)
        return final

    def _build(
        self,
        inputs: Mapping[str, str],
        build: Callable[[Path, Path], None],
        final: Path,
    ) -> None:
        with scratch(self.path) as place:
            into = place / "new"
            into.mkdir()
            build(into, final)
            manifest = "".join(f"{k} {v}\n" for k, v in sorted(inputs.items()))
            (into / MANIFEST).write_text(manifest)
            _write_sizes(into)
            if final.exists():  # in part
                final.rename(place / "old")
            into.rename(final)

    def link(self, recipe: str, made: Path) -> None:
        """Remember that the recipe with this digest made ``made``."""
        new = self._links / f".{recipe}.{os.getpid()}"
        new.unlink(missing_ok=True)
        new.symlink_to(f"../{made.name}")
        new.rename(self._links / recipe)


def _write_sizes(made: Path) -> None:
    """Note the sizes of the files at the top, when the disk has them."""
    files = [path for path in sorted(made.iterdir()) if path.is_file()]
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    rows = (f"{path.stat().st_size} {path.name}\n" for path in files)
    (made / _SIZES).write_text("".join(rows))
