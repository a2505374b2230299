# SPDX-License-Identifier: GPL-2.0-or-later
"""Every subcommand of ``nk``, its options, its exit code.

Exit codes: 0 reached or asked to stop, 2 usage or configuration, 3 timeout, 4 a
partition failed.  Each but 0 comes with one line on stderr.
"""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from nanokernel_vm.errors import MachineError
from stub.errors import StubError

USAGE, TIMEOUT, FAILED = 2, 3, 4

app = typer.Typer(
    name="nk",
    help="Two real Linux kernels on one emulated PC, each an inferior of stock gdb.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_EXAMPLE = Path(__file__).parents[2] / "examples" / "two-linuxes.toml"
_MachineFile = Annotated[
    Path, typer.Argument(metavar="MACHINE.toml", help="The machine's description.")
]


@app.command(
    epilog="Example: nk run examples/host-only.toml --until 'host:host# ' --digest"
)
def run(
    machine: _MachineFile = _EXAMPLE,
    gdb: Annotated[
        str,
        typer.Option(metavar="HOST:PORT|unix:PATH|stdio", help="Where gdb connects."),
    ] = "",
    no_gdb: Annotated[bool, typer.Option("--no-gdb", help="No debug server.")] = False,
    freeze: Annotated[
        bool,
        typer.Option("--freeze", help="Wait for gdb before the first instruction."),
    ] = False,
    warp: Annotated[
        bool, typer.Option("--warp", help="Skip idle time instead of sleeping.")
    ] = False,
    until: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PARTITION:TEXT", help="Stop when all of these were printed."
        ),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Give up after this time.")
    ] = None,
    console: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PARTITION=stdio|pty|FILE",
            help="Where a console goes (repeatable).",
        ),
    ] = None,
    digest: Annotated[
        bool, typer.Option("--digest", help="Print SHA-256 of RAM and CPU at the end.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The end as JSON.")] = False,
) -> None:
    """Boot the machine and serve gdb."""
    from nanokernel_vm.cli.run import Options, run_machine

    options = Options(
        machine=machine,
        gdb=None if no_gdb else gdb,
        freeze=freeze,
        warp=warp,
        until=tuple(until or ()),
        timeout=timeout,
        consoles=tuple(console or ()),
        digest=digest,
        json=json,
    )
    raise typer.Exit(run_machine(options))


@app.command(epilog="Example: nk build --refresh")
def build(
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Ask Debian for newer packages.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Do not list what is there.")
    ] = False,
) -> None:
    """Download and build every kernel, initrd and symbol file that is missing."""
    from nanokernel_vm.build import ARTIFACTS, ON_DEMAND, ensure

    for name in [name for name in ARTIFACTS if name not in ON_DEMAND]:
        path = ensure(name, refresh=refresh)
        if not quiet:
            typer.echo(f"{name:24} {path}")


@app.command(epilog="Example: nk info examples/two-linuxes.toml --json")
def info(
    machine: _MachineFile = _EXAMPLE,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show versions, the cache, and what each partition would boot."""
    from nanokernel_vm.cli.info import show

    show(machine, json)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Example: nk gdb --connect localhost:1234 -- -batch -ex 'info inferiors'",
)
def gdb(
    context: typer.Context,
    connect: Annotated[
        str, typer.Option(metavar="HOST:PORT|unix:PATH", help="Where nk run serves.")
    ] = "localhost:1234",
) -> None:
    """Start stock gdb, attached to a running machine."""
    from nanokernel_vm.cli.gdb import start

    start(connect, context.args)


@app.command(
    epilog="Examples: nk triage; nk triage --live unix:/tmp/nk --html report.html; "
    "nk triage --core vmcore --json"
)
def triage(
    live: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT|unix:PATH",
            help="Where nk run serves; localhost:1234 if neither this nor --core.",
        ),
    ] = None,
    core: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An ELF vmcore instead.")
    ] = None,
    symbols: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The core's symbols; else a cached file's of its build.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also as a page that needs no other file."),
    ] = None,
) -> None:
    """Say what has happened to each kernel: cause, place, stacks, last interrupts.

    A running machine is stopped for as long as it takes to look, then goes on.

    Exit codes: 0 nothing is wrong, 2 there is nothing to look at, 3 no answer in time,
    4 something is wrong, or there is no telling because no Linux is to be seen or its
    memory makes no sense.
    """
    from nanokernel_vm.cli.triage import Options
    from nanokernel_vm.cli.triage import triage as run_triage

    options = Options(live, core, symbols, json, html)
    raise typer.Exit(run_triage(options))


def main() -> None:
    """Run the command line: no traceback for what a user can mend."""
    logging.basicConfig(format="nk: %(message)s", level=logging.WARNING)
    try:
        app()
    except (MachineError, StubError) as error:
        print(f"nk: {error}", file=sys.stderr)
        sys.exit(USAGE)
