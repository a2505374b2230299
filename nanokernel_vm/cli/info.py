# SPDX-License-Identifier: GPL-2.0-or-later
"""``nk info``: what there is to run, and where it comes from; what a kernel has."""

import json as json_module
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import click

from nanokernel_vm import build
from nanokernel_vm.build import user_kernel, user_symbols
from nanokernel_vm.build.cache import root
from nanokernel_vm.config import Artifact, PartitionConfig, Source, load
from nanokernel_vm.linux.contents import contents
from nanokernel_vm.linux.elf import ElfImage
from nanokernel_vm.symbols import kernel_file, symbol_source

_LIBRARIES = ("nanokernel-vm", "unicorn", "construct", "drgn")


def show(file: Path, json: bool) -> None:
    """Print everything about a machine or a kernel, as text or JSON."""
    report = _kernel(file) if user_kernel.is_kernel(file) else _machine(file)
    if json:
        click.echo(json_module.dumps(report, indent=2))
        return
    for key, value in report.items():
        _print(key, value, 0)


def _kernel(file: Path) -> dict[str, object]:
    image = kernel_file(file)
    return {
        "kernel": str(file),
        "format": "vmlinux" if image == file else "bzImage",
        **contents(ElfImage.open(image)),
        "symbols": _made(file),
    }


def _machine(machine: Path) -> dict[str, object]:
    config = load(machine)
    return {
        "versions": {name: version(name) for name in _LIBRARIES} | {"gdb": _gdb()},
        "cache": str(root()),
        "machine": str(machine),
        "partitions": {p.name: _partition(p) for p in config.partitions},
    }


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
        "symbols": _symbols(config),
        "initrd": _place(config.initrd),
        "command_line": config.cmdline,
        "devices": ", ".join(d.chip for d in config.devices),
    }


def _symbols(config: PartitionConfig) -> str:
    source = config.symbols or symbol_source(config.kernel)
    if source != config.kernel or isinstance(source, Artifact):
        return _place(source)
    return _made(source) if source.is_file() else f"there is no {source}"


def _made(kernel: Path) -> str:
    return str(user_symbols.cached(kernel) or "made when a machine runs it")


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
