# SPDX-License-Identifier: GPL-2.0-or-later
"""Artifacts by name: kernels, their symbols, the initial RAM disk.

``ensure("guest")`` returns the file, building what is missing.  A warm call asks nobody
and imports no recipe: it compares this project's own files with those that made the
cached one.  Whatever else a build depends on (today's package, the compiler) is looked
at when it is built, and again on ``refresh``.

A recipe is a module with ``inputs() -> Mapping[str, str]``, all that decides what comes
out, and ``build(into: Path, final: Path) -> None``, which fills a directory.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from nanokernel_vm.build import cache
from nanokernel_vm.errors import BuildError

PROJECT = Path(__file__).parents[2]


class Recipe(NamedTuple):
    """How a directory of artifacts is made.

    Attributes:
        module: The module that builds it.
        sources: Patterns of this project's files that it is made from.
        needs: Artifacts that it is made from.
    """

    module: str
    sources: tuple[str, ...]
    needs: tuple[str, ...] = ()


_HERE = "nanokernel_vm/build"
_GUEST = "guest_patches"

RECIPES: dict[str, Recipe] = {
    "host": Recipe(f"{__name__}.host", (f"{_HERE}/host.py", f"{_HERE}/bzimage.py")),
    "host-symbols": Recipe(
        f"{__name__}.host_symbols",
        (f"{_HERE}/host_symbols.py", "nanokernel_vm/linux/*.py"),
        ("debian-cloud",),
    ),
    "host-headers": Recipe(
        f"{__name__}.host_headers",
        (f"{_HERE}/host_headers.py",),
        ("debian-cloud",),
    ),
    "initrd": Recipe(
        f"{__name__}.initrd",
        (f"{_HERE}/initrd.py", f"{_HERE}/cpio.py", f"{_HERE}/init.sh"),
    ),
    "guest": Recipe(
        f"{__name__}.guest",
        (
            f"{_GUEST}/series",
            f"{_GUEST}/*.patch",
            f"{_GUEST}/kconfig.fragment",
            f"{_GUEST}/include/*.h",
        ),
    ),
    "guest-symbols": Recipe(
        f"{__name__}.guest_symbols",
        (f"{_HERE}/guest_symbols.py", "nanokernel_vm/linux/*.py"),
        ("guest",),
    ),
}

# artifact: recipe, file
ARTIFACTS: dict[str, tuple[str, str]] = {
    "debian-cloud": ("host", "vmlinux"),
    "debian-cloud-bzimage": ("host", "bzImage"),
    "debian-cloud-config": ("host", "config"),
    "debian-cloud-symbols": ("host-symbols", "vmlinux.debug"),
    "debian-cloud-headers": ("host-headers", "build"),
    "initrd": ("initrd", "initrd.cpio"),
    "guest": ("guest", "vmlinux"),
    "guest-bzimage": ("guest", "bzImage"),
    "guest-symbols": ("guest-symbols", "vmlinux.debug"),
    "guest-config": ("guest", "config"),
}

# Built only when somebody asks for them: to run a machine needs none.
ON_DEMAND = {"debian-cloud-headers"}


def cached(name: str) -> Path | None:
    """Return an artifact's file if it is in the cache already.

    Raises:
        BuildError: There is no such artifact.
    """
    recipe, file = _artifact(name)
    made = cache.Shelf(recipe).lookup(_digest(recipe))
    found = made is not None and cache.whole(made) and (made / file).exists()
    return made / file if made is not None and found else None


def ensure(name: str, *, refresh: bool = False) -> Path:
    """Return an artifact's file, after building it if need be.

    Args:
        name: A key of ``ARTIFACTS``.
        refresh: Ask again for today's packages and tools; build only on a change.

    Raises:
        BuildError: There is no such artifact, or it could not be built.
    """
    found = None if refresh else cached(name)
    if found is not None:
        return found
    recipe, file = _artifact(name)
    try:
        return _make(recipe, refresh) / file
    except OSError as error:
        place = error.filename or cache.root()
        raise BuildError(
            f"cannot make {name}: {place}: {error.strerror}; make room there, "
            "or name another directory in NK_CACHE"
        ) from None


def _make(name: str, refresh: bool) -> Path:
    recipe, shelf = RECIPES[name], cache.Shelf(name)
    for needed in recipe.needs:
        ensure(needed, refresh=refresh)
    with shelf.locked():
        digest = _digest(name)
        made = None if refresh else shelf.lookup(digest)  # while we waited for the lock
        if made is None or not cache.whole(made):
            module = import_module(recipe.module)
            inputs: Mapping[str, str] = {"recipe": digest, **module.inputs()}
            made = shelf.store(inputs, module.build)
            shelf.link(digest, made)
    return made


def _artifact(name: str) -> tuple[str, str]:
    try:
        return ARTIFACTS[name]
    except KeyError:
        known = ", ".join(sorted(ARTIFACTS))
        raise BuildError(f"no artifact is called {name!r}; there are {known}") from None


def _digest(name: str) -> str:
    return cache.digest(dict(_parts(RECIPES[name])))


def _parts(recipe: Recipe) -> Iterator[tuple[str, str]]:
    yield (
        "sources",
        cache.files_digest(
            path for source in recipe.sources for path in PROJECT.glob(source)
        ),
    )
    for needed in recipe.needs:
        found = cached(needed)
        yield needed, found.parent.name if found is not None else "missing"
