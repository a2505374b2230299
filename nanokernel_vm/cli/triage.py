# SPDX-License-Identifier: GPL-2.0-or-later
"""``nk triage``: what has happened to each kernel of a machine, or to a core's."""

import json as json_module
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from nanokernel_vm import files
from nanokernel_vm.build import ARTIFACTS, cached
from nanokernel_vm.build.cache import root
from nanokernel_vm.debug.client import Client, ConnectionFailed, NoAnswer
from nanokernel_vm.errors import ConfigError, LoadError
from nanokernel_vm.linux.awareness import Awareness, Cpu, NoLinuxError, find_vmcoreinfo
from nanokernel_vm.linux.elf import ElfImage, SectionType, notes
from nanokernel_vm.triage import Report, Subject, examine
from nanokernel_vm.triage.core import Core
from nanokernel_vm.triage.html import page
from nanokernel_vm.triage.text import lines
from stub.endpoint import parse_endpoint

WELL, TIMEOUT, WRONG = 0, 3, 4
_USUAL = "localhost:1234"
_BUILD_ID = b"BUILD-ID="


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for; neither ``live`` nor ``core``: where ``nk run`` serves."""

    live: str | None
    core: Path | None
    symbols: Path | None
    json: bool
    html: Path | None


def triage(options: Options) -> int:
    """Make the reports and show them; the exit code.

    Raises:
        MachineError: There is nothing to make one of.
    """
    if options.live is not None and options.core is not None:
        raise ConfigError("--live and --core: give one of them")
    if options.symbols is not None:
        _check(options.symbols)  # drgn would wait for a FIFO's other end
    try:
        reports = _of_core(options) if options.core else _live(options.live or _USUAL)
    except NoAnswer as error:
        print(f"nk: {error}", file=sys.stderr)
        return TIMEOUT
    _show(reports, options)
    return WELL if all(report.well for report in reports) else WRONG


def _check(symbols: Path) -> None:
    try:
        files.opened(symbols).close()
    except OSError as error:
        raise ConfigError(f"--symbols {symbols}: {error.strerror}") from None


def _live(where: str) -> list[Report]:
    with Client(parse_endpoint(where)) as client:
        names = [row["name"] for row in client.rows("partitions")]
        rows = [client.rows(f"triage {name}") for name in names]
    try:
        return [Report.from_dict(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise ConnectionFailed(
            f"{where}: its reports are not of this version ({error!r})"
        ) from None


def _of_core(options: Options) -> list[Report]:
    path = options.core
    if path is None:
        raise AssertionError("asked for without a core")
    core = Core(path)
    cpu = Cpu(core.registers)
    subject = Subject(path.name, _kernel(core, path, options.symbols), cpu)
    return [examine(subject)]


def _kernel(core: Core, path: Path, symbols: Path | None) -> Awareness:
    text = find_vmcoreinfo(core)
    if text is None:
        raise NoLinuxError(f"{path}: no Linux has introduced itself in this memory")
    return Awareness(core, symbols or _cached_symbols(path, text))


def _cached_symbols(core: Path, vmcoreinfo: bytes) -> Path:
    """The symbol file that was made for the very kernel that a core is of."""
    rows = (row for row in vmcoreinfo.splitlines() if row.startswith(_BUILD_ID))
    build_id = next(rows, _BUILD_ID).removeprefix(_BUILD_ID).decode(errors="replace")
    for file in _symbol_files():
        if build_id and _has_build_id(file, build_id):
            return file
    release = vmcoreinfo.partition(b"\n")[0].removeprefix(b"OSRELEASE=")
    raise ConfigError(
        f"{core} is of Linux {release.decode(errors='replace')}, build "
        f"{build_id or 'unknown'}: no symbol file in {root()} is; give --symbols FILE"
    )


def _symbol_files() -> Iterator[Path]:
    """Those of today's kernels, then all that were made before, the last one first."""
    for name in ARTIFACTS:
        if name.endswith("-symbols") and (file := cached(name)) is not None:
            yield file
    before = root().glob("*-symbols/*/vmlinux.debug")
    yield from sorted(before, key=_made, reverse=True)


def _made(file: Path) -> float:
    """When a file was made; 0: it has gone meanwhile."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0


def _has_build_id(file: Path, build_id: str) -> bool:
    try:
        sections = ElfImage.open(file).sections
    except LoadError:
        return False
    rows = (notes(s.data) for s in sections if s.type == SectionType.NOTE)
    return any(
        row.name == b"GNU" and row.description.hex() == build_id
        for row in chain.from_iterable(rows)
    )


def _show(reports: Sequence[Report], options: Options) -> None:
    if options.html is not None:
        try:
            options.html.write_text(page(reports), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--html {options.html}: {error.strerror}") from None
    if options.json:
        print(json_module.dumps([row.to_dict() for row in reports], indent=2))
    elif options.html is not None:
        for report in reports:
            print(f"{report.partition}: {report.verdict}")
    else:
        print("\n\n".join("\n".join(lines(report)) for report in reports))
