# SPDX-License-Identifier: GPL-2.0-or-later
"""apt itself, on an archive of our own that has three small packages."""

import hashlib
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest

from nanokernel_vm.build import debian
from nanokernel_vm.errors import BuildError


class Archive:
    """A Debian archive in a directory, and a private apt that knows no other."""

    def __init__(self, where: Path) -> None:
        self.files = where / "archive"
        self.files.mkdir()
        self._index: list[str] = []
        for part in ("apt/lists/partial", "apt/cache/archives/partial", "apt/etc"):
            (where / part).mkdir(parents=True)
        (where / "apt/status").touch()
        sources = where / "apt/sources.list"
        sources.write_text(f"deb [trusted=yes] file:{self.files} ./\n")
        self.configuration = where / "apt/apt.conf"
        self.configuration.write_text(
            dedent(f"""
                Dir::State::status "{where}/apt/status";
                Dir::State::lists "{where}/apt/lists";
                Dir::Cache "{where}/apt/cache";
                Dir::Etc::sourcelist "{sources}";
                Dir::Etc::sourceparts "-";
                Dir::Etc::parts "-";
                APT::Architecture "amd64";
                Acquire::Languages "none";
            """)
        )

    def add(self, name: str, version: str, depends: str = "") -> None:
        """Build a package that holds one file with its version."""
        tree = self.files.parent / f"{name}_{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        control = [f"Package: {name}", f"Version: {version}", "Architecture: amd64"]
        control += ["Maintainer: nobody <n@invalid>", "Description: test"]
        control += [f"Depends: {depends}"] if depends else []
        (tree / "DEBIAN/control").write_text("\n".join(control) + "\n")
        (tree / "version").write_text(version)
        file = f"{name}_{version.partition(':')[2] or version}_amd64.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-b", tree, self.files / file],
            check=True,
            capture_output=True,
        )
        self._publish(control, self.files / file)

    def _publish(self, control: list[str], file: Path) -> None:
        data = file.read_bytes()
        checksum = hashlib.sha256(data).hexdigest()
        entry = [*control, f"Filename: ./{file.name}", f"Size: {len(data)}"]
        self._index.append("\n".join([*entry, f"SHA256: {checksum}", ""]))
        (self.files / "Packages").write_text("\n".join(self._index))


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    archive = Archive(tmp_path)
    monkeypatch.setenv("APT_CONFIG", str(archive.configuration))
    monkeypatch.setenv("NK_CACHE", str(tmp_path / "cache"))
    return archive


def version_in(package: debian.Package) -> str:
    with debian.unpacked(package) as files:
        return (files / "version").read_text()


def test_a_package_is_resolved_downloaded_and_unpacked(archive: Archive) -> None:
    archive.add("tool", "1.0-1")
    package = debian.resolve("tool")
    assert (package.name, package.version) == ("tool", "1.0-1")
    assert version_in(package) == "1.0-1"


def test_the_newest_version_wins(archive: Archive) -> None:
    archive.add("tool", "1.9")
    archive.add("tool", "1.10")
    assert version_in(debian.resolve("tool")) == "1.10"


def test_an_epoch_is_part_of_the_version(archive: Archive) -> None:
    archive.add("tool", "2:1.0")
    package = debian.resolve("tool")
    assert package.version == "2:1.0"
    assert version_in(package) == "2:1.0"


def test_a_metapackage_leads_to_its_kernel(archive: Archive) -> None:
    archive.add("kernel-6.1-56-cloud", "6.1.192")
    archive.add("kernel-cloud", "6.1", depends="kernel-6.1-56-cloud (= 6.1.192)")
    package = debian.dependency("kernel-cloud", r"kernel-[\d.]+-\d+-cloud")
    assert (package.name, package.version) == ("kernel-6.1-56-cloud", "6.1.192")


def test_a_metapackage_without_a_kernel_is_refused(archive: Archive) -> None:
    archive.add("other", "1")
    archive.add("kernel-cloud", "6.1", depends="other")
    with pytest.raises(BuildError, match=r"kernel-cloud depends on \[\]"):
        debian.dependency("kernel-cloud", r"kernel-[\d.]+-\d+-cloud")


def test_an_unknown_package_is_named(archive: Archive) -> None:
    archive.add("tool", "1")
    with pytest.raises(BuildError, match="no-such-package"):
        debian.resolve("no-such-package")


def test_lists_that_are_too_old_are_renewed(archive: Archive) -> None:
    archive.add("tool", "1")
    debian.resolve("tool")
    archive.add("later", "1")
    assert debian.resolve("later").name == "later"


def test_what_is_in_the_cache_is_not_fetched_again(archive: Archive) -> None:
    archive.add("tool", "1")
    package = debian.resolve("tool")
    file = debian.download(package)
    before = file.stat().st_ino
    assert debian.download(package).stat().st_ino == before


@pytest.mark.parametrize("damage", [b"", b"kept", None])
def test_what_is_not_the_package_is_fetched_again(
    archive: Archive, damage: bytes | None
) -> None:
    archive.add("tool", "1")
    package = debian.resolve("tool")
    file = debian.download(package)
    content = file.read_bytes()
    file.write_bytes(content[::-1] if damage is None else damage)
    assert debian.download(package).read_bytes() == content


def test_a_package_whose_checksum_is_wrong_is_refused(
    archive: Archive, tmp_path: Path
) -> None:
    archive.add("tool", "1")
    package = debian.resolve("tool")
    file = archive.files / package.file
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(BuildError, match="apt-get failed"):
        debian.download(package)
    assert not list((tmp_path / "cache/packages").iterdir())


def test_packages_with_the_same_name_differ_by_checksum(archive: Archive) -> None:
    archive.add("tool", "1")
    first = str(debian.resolve("tool"))
    assert first.startswith("1 SHA256:")
