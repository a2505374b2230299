# SPDX-License-Identifier: GPL-2.0-or-later
"""Compare objects of Linux with the guest patches, their option off, and without.

``python -m tests.unchanged`` (``make unchanged``) builds all of arch/x86/entry and
arch/x86/kernel from Debian's source, applies the series, builds again and compares each
object's code, relocations and unwind tables.  The configuration has what the option
excludes, too.  Two to five minutes; nothing is kept.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from nanokernel_vm.build import guest
from nanokernel_vm.build.tools import run

FOLDERS = ("arch/x86/entry/", "arch/x86/kernel/")
OPTION = "CONFIG_NANOKERNEL_GUEST=y"
# Paths through the patched files that the guest itself is built without
BESIDE = (
    *("SMP", "IA32_EMULATION", "CPU_MITIGATIONS", "PAGE_TABLE_ISOLATION"),
    "MODIFY_LDT_SYSCALL",
    *("MODULES", "KPROBES", "FUNCTION_TRACER", "FTRACE", "PERF_EVENTS", "KEXEC"),
)
_TABLES = (".orc_unwind", ".orc_unwind_ip", ".altinstructions", ".data", ".rodata")


def main() -> int:
    """Print what differs; the exit code says whether anything does."""
    with TemporaryDirectory() as folder:
        tree = Path(folder, "linux")
        guest.unpack(tree)
        fragment = _fragment(Path(folder, "fragment"))
        guest.configure(tree, fragment)
        before = dict(_objects(tree))
        guest.prepare(tree)
        guest.configure(tree, fragment)
        after = dict(_objects(tree))
    return _report(before, after)


def _fragment(path: Path) -> Path:
    rows = guest.FRAGMENT.read_text().splitlines()
    wanted = [row for row in rows if row != OPTION]
    path.write_text("\n".join([*wanted, *(f"CONFIG_{name}=y" for name in BESIDE)]))
    return path


def _objects(tree: Path) -> Iterator[tuple[str, str]]:
    """Build; each object's name and all of it that the CPU or the kernel reads."""
    jobs = len(os.sched_getaffinity(0))
    run(["make", f"-j{jobs}", *FOLDERS], cwd=tree, env=guest.REPRODUCIBLE)
    for folder in FOLDERS:
        for path in sorted((tree / folder).rglob("*.o")):
            yield str(path.relative_to(tree)), _contents(path)


def _contents(path: Path) -> str:
    code = _objdump("--disassemble", "--reloc", path=path)
    sections = [word for name in _TABLES for word in ("--section", name)]
    tables = _objdump("--full-contents", "--reloc", *sections, path=path)
    return re.sub(rf"^{re.escape(str(path))}:", "", code + tables, flags=re.MULTILINE)


def _objdump(*options: str, path: Path) -> str:
    done = subprocess.run(
        ["objdump", *options, path], capture_output=True, text=True, check=True
    )
    return done.stdout


def _report(before: dict[str, str], after: dict[str, str]) -> int:
    names = sorted(before.keys() | after.keys())
    different = [name for name in names if before.get(name) != after.get(name)]
    for name in different:
        print(f"{name} differs")
    print(f"{len(names)} objects compared, {len(different)} differ")
    return 1 if different or not names else 0


if __name__ == "__main__":
    sys.exit(main())
