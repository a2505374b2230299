# SPDX-License-Identifier: GPL-2.0-or-later
"""What builds kernel modules for the stock host: Debian's headers and kbuild.

Three packages, unpacked side by side as they would lie in the system's ``/usr``.
Their links are relative but for one ``include``, which is rewritten to go by the file
that it is in.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from nanokernel_vm import build as artifacts
from nanokernel_vm.build import debian
from nanokernel_vm.build.tools import run
from nanokernel_vm.errors import BuildError

_FLAVOUR = re.compile(r"-cloud-amd64$")
_INCLUDE = "include $(dir $(realpath $(lastword $(MAKEFILE_LIST))))../{name}/Makefile\n"


def inputs() -> Mapping[str, str]:
    """Return the packages."""
    return {package.name: str(package) for package in packages()}


def build(into: Path, final: Path) -> None:
    """Unpack them below ``into``; ``build`` is what ``make -C`` wants."""
    for package in packages():
        run(["dpkg-deb", "-x", debian.download(package), into])
    flavour, common, _ = names(release())
    tree = into / "usr/src" / flavour
    (tree / "Makefile").write_text(_INCLUDE.format(name=common))
    (into / "build").symlink_to(tree.relative_to(into))


def packages() -> Iterator[debian.Package]:
    """Yield the packages as the archive has them for the host's kernel.

    Raises:
        BuildError: It has them no more.
    """
    try:
        yield from map(debian.resolve, names(release()))
    except BuildError as error:
        raise BuildError(
            f"{error}; for today's kernel and its headers run: nk build --refresh"
        ) from None


def names(kernel: str) -> tuple[str, str, str]:
    """Return the packages' names: of the flavour, common headers, kbuild.

    Args:
        kernel: As ``uname -r`` says.
    """
    common = _FLAVOUR.sub("-common", kernel)
    major_minor = ".".join(kernel.split(".")[:2])
    return (
        f"linux-headers-{kernel}",
        f"linux-headers-{common}",
        f"linux-kbuild-{major_minor}",
    )


def release() -> str:
    """Return what ``uname -r`` says in the host.

    Raises:
        BuildError: The image does not say.
    """
    image = artifacts.ensure("debian-cloud")
    match = re.search(rb"Linux version (\S+)", image.read_bytes())
    if match is None:
        raise BuildError(f"{image} does not say which Linux it is")
    return match[1].decode()
