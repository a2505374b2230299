# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m tests.mirror``: which modules have no test module, or one elsewhere.

That of ``stub/handlers/memory.py`` is ``tests/unit/stub/handlers/test_memory.py``, that
of ``nanokernel_vm/devices/pit.py`` is ``tests/unit/devices/test_pit.py``.
"""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "tests/unit"


def modules() -> Iterator[Path]:
    """The product's modules that have something to test."""
    for folder in ("stub", "nanokernel_vm", "gdb_scripts/nk"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "def " in path.read_text() and path.stem != "__main__":
                yield path.relative_to(ROOT)


def mirrored(module: Path) -> Path:
    """Where the test module of a module belongs."""
    folder = Path(*(part for part in module.parent.parts if part != "nanokernel_vm"))
    stem = module.parent.name if module.stem == "__init__" else module.stem
    return UNIT / folder / f"test_{stem}.py"


def elsewhere(module: Path) -> list[Path]:
    """Test modules that have the name, or end in it, in another folder."""
    stem = mirrored(module).stem.removeprefix("test_")
    return sorted(
        path.relative_to(ROOT)
        for pattern in (f"test_{stem}.py", f"test_*_{stem}.py")
        for path in UNIT.rglob(pattern)
    )


def main() -> None:
    """Print both lists."""
    lost = [module for module in modules() if not mirrored(module).exists()]
    for module in lost:
        found = ", ".join(map(str, elsewhere(module)))
        print(f"{module}  {found or '-'}")
    none = [module for module in lost if not elsewhere(module)]
    total = sum(1 for _ in modules())
    print(
        f"{total} modules, {len(lost)} not mirrored, of these {len(none)} without any"
    )


if __name__ == "__main__":
    main()
