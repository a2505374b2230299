# SPDX-License-Identifier: GPL-2.0-or-later
"""A writer of "newc" cpio archives, as the kernel unpacks them for an initramfs.

Format: Documentation/driver-api/early-userspace/buffer-format.rst.  Deterministic:
owner 0, time 0, inodes counted.  Knows nothing of what is packed.
"""

import stat
from dataclasses import dataclass, field

MAGIC = b"070701"
TRAILER = "TRAILER!!!"


@dataclass(slots=True)
class Archive:
    """An archive that grows by one member a call; parents must come first."""

    _data: bytearray = field(default_factory=bytearray)
    _members: int = 0

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add a directory."""
        self._add(path, stat.S_IFDIR | mode)

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        self._add(path, stat.S_IFREG | mode, content)

    def symlink(self, path: str, target: str) -> None:
        """Add a symbolic link to ``target``."""
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, path: str, major: int, minor: int, mode: int) -> None:
        """Add a device node."""
        self._add(path, stat.S_IFCHR | mode, device=(major, minor))

    def finish(self) -> bytes:
        """Return the whole archive."""
        self._members = -1  # the trailer is inode 0
        self._add(TRAILER, 0)
        return bytes(self._data)

    def _add(
        self,
        path: str,
        mode: int,
        content: bytes = b"",
        device: tuple[int, int] = (0, 0),
    ) -> None:
        self._members += 1
        links = 2 if stat.S_ISDIR(mode) else 1
        name = path.encode() + b"\0"
        owner = time = check = file_major = file_minor = 0
        fields = (
            *(self._members, mode, owner, owner, links, time, len(content)),
            *(file_major, file_minor, *device, len(name), check),
        )
        self._data += MAGIC + b"".join(b"%08x" % value for value in fields)
        self._append(name)
        self._append(content)

    def _append(self, part: bytes) -> None:
        self._data += part
        self._data += bytes(-len(self._data) % 4)
