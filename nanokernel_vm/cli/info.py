# SPDX-License-Identifier: GPL-2.0-or-later
"""``nk info``: what there is to run, and where it comes from."""

import json as json_module
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import click

from nanokernel_vm import build
from nanokernel_vm.build.cache import root
from nanokernel_vm.config import Artifact, PartitionConfig, Source, load
from nanokernel_vm.symbols import symbol_source

_LIBRARIES = ("nanokernel-vm", "unicorn", "construct", "drgn")


def show(machine: Path, json: bool) -> None:
    """Print everything, as text or JSON."""
    config = load(machine)
    report = {
        "versions": {name: version(name) for name in _LIBRARIES} | {"gdb": _gdb()},
        "cache": str(root()),
        "machine": str(machine),
        "partitions": {p.name: _partition(p) for p in config.partitions},
    }
    if json:
        click.echo(json_module.dumps(report, indent=2))
        return
    for key, value in report.items():
        _print(key, value, 0)


def _print(key: str, value: object, depth: int) -> None:
    if isinstance(value, dict):
        click.echo(f"{'  ' * depth}{key}:")
        for inner, item in value.items():
            _print(inner, item, depth + 1)
    else:
        click.echo(f"{'  ' * depth}{key}: {value}")


def _partition(config: PartitionConfig) -> dict[str, str]:
    return {
        "window": f"{config.base:#x}-{config.end - 1:#x}",
        "image": _place(config.kernel),
        "symbols": _place(symbol_source(config.kernel)),
        "initrd": _place(config.initrd),
        "command_line": config.cmdline,
        "devices": ", ".join(d.chip for d in config.devices),
    }


def _place(source: Source | None) -> str:
    if source is None:
        return "none"
    if isinstance(source, Artifact):
        found = build.cached(source.name)
        return str(found) if found else f"{source} (not built; run: nk build)"
    return str(source)


def _gdb() -> str:
    if shutil.which("gdb") is None:
        return "not installed"
    shown = subprocess.run(
        ["gdb", "--version"],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return shown.stdout.partition("\n")[0]
