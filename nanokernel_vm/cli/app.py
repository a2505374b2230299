# SPDX-License-Identifier: GPL-2.0-or-later
"""Every subcommand of ``nk``, its options, its exit code.

Exit codes: 0 reached or asked to stop, 2 usage or configuration, 3 timeout, 4 a
partition failed, or what was waited for can no longer come.  Each but 0 comes with
one line on stderr.
"""

import logging
import math
import sys
from pathlib import Path
from typing import Any

import click

from nanokernel_vm.cli.outlet import drop_output
from nanokernel_vm.errors import MachineError
from stub.errors import StubError

USAGE, TIMEOUT, FAILED = 2, 3, 4

_EXAMPLE = Path(__file__).parents[2] / "examples" / "two-linuxes.toml"
_FILE = click.Path(path_type=Path)
_SERVED = "HOST:PORT|unix:PATH"


def _patience(
    _context: click.Context, _option: click.Parameter, seconds: float | None
) -> float | None:
    """How long to wait: NaN and what lies in the past are nobody's wish."""
    if seconds is not None and (math.isnan(seconds) or seconds < 0):
        raise click.BadParameter(f"{seconds:g} s; write how many seconds to wait")
    return seconds


_machine = click.argument(
    "machine", metavar="[MACHINE.toml]", type=_FILE, default=_EXAMPLE
)
_json = click.option("--json", is_flag=True, help="As JSON.")


class _Commands(click.Group):
    """The subcommands; of output that nobody reads on, click would make code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run one; what it printed has left when it returns."""
        try:
            code = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:
            drop_output()
            return 0  # who read the output has seen enough
        return code


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def app() -> None:
    """Two real Linux kernels on one emulated PC, each an inferior of stock gdb."""


@app.command(
    epilog="Example: nk run examples/host-only.toml --until 'host:host# ' --digest"
)
@_machine
@click.option("--gdb", default="", metavar=f"{_SERVED}|stdio", help="Where to serve.")
@click.option("--no-gdb", is_flag=True, help="No debug server.")
@click.option(
    "--allow-remote",
    is_flag=True,
    help="Serve gdb to other computers, too: whoever connects rules the machine.",
)
@click.option(
    "--read-only",
    is_flag=True,
    help="Let clients look, but not write, run, break or kill.",
)
@click.option("--freeze", is_flag=True, help="Wait for gdb before the first step.")
@click.option("--warp", is_flag=True, help="Skip idle time instead of sleeping.")
@click.option(
    "--until",
    multiple=True,
    metavar="PARTITION:TEXT",
    help="Stop when all of these were printed (repeatable), or can never be.",
)
@click.option(
    "--timeout",
    type=float,
    callback=_patience,
    metavar="SECONDS",
    help="Give up after that.",
)
@click.option(
    "--console",
    "consoles",
    multiple=True,
    metavar="PARTITION=stdio|pty|FILE",
    help="Where a console goes (repeatable).",
)
@click.option("--digest", is_flag=True, help="Print SHA-256 of all state at the end.")
@_json
def run(gdb: str, no_gdb: bool, **others: Any) -> int:
    """Boot the machine and serve gdb.

    MACHINE.toml describes it; two Linuxes if none is given.
    """
    from nanokernel_vm.cli.run import Options, run_machine

    return run_machine(Options(gdb=None if no_gdb else gdb, **others))


@app.command(epilog="Example: nk build --refresh")
@click.option("--refresh", is_flag=True, help="Ask Debian for newer packages.")
@click.option("--quiet", is_flag=True, help="Do not list what is there.")
def build(refresh: bool, quiet: bool) -> None:
    """Download and build what is missing.

    That is every kernel, initrd and symbol file that a machine may need.
    """
    from nanokernel_vm.build import ARTIFACTS, ON_DEMAND, ensure

    for name in [name for name in ARTIFACTS if name not in ON_DEMAND]:
        path = ensure(name, refresh=refresh)
        if not quiet:
            click.echo(f"{name:24} {path}")


@app.command(epilog="Example: nk info examples/two-linuxes.toml --json")
@_machine
@_json
def info(machine: Path, json: bool) -> None:
    """Show versions, the cache, and what each partition would boot."""
    from nanokernel_vm.cli.info import show

    show(machine, json)


@app.command(
    epilog="Example: nk gdb --connect localhost:1234 -- -batch -ex 'info inferiors'",
    context_settings={"ignore_unknown_options": True},
)
@click.option(
    "--connect",
    default="localhost:1234",
    show_default=True,
    metavar=_SERVED,
    help="Where nk run serves.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- GDB ARGS]")
def gdb(connect: str, arguments: tuple[str, ...]) -> None:
    """Start stock gdb, attached to a running machine."""
    from nanokernel_vm.cli.gdb import start

    start(connect, list(arguments))


@app.command(
    epilog="Examples: nk triage; nk triage --live unix:/tmp/nk --html report.html; "
    "nk triage --core vmcore --json"
)
@click.option(
    "--live",
    metavar=_SERVED,
    help="Where nk run serves; localhost:1234 if neither this nor --core.",
)
@click.option("--core", type=_FILE, metavar="FILE", help="An ELF vmcore instead.")
@click.option(
    "--symbols",
    type=_FILE,
    metavar="FILE",
    help="The core's symbols; else a cached file's of its build.",
)
@_json
@click.option(
    "--html",
    type=_FILE,
    metavar="FILE",
    help="Also as a page that needs no other file.",
)
def triage(**asked: Any) -> int:
    """Say what has happened to each kernel.

    The report has cause and place, stacks, the last interrupts.  A running
    machine is stopped for as long as it takes to look, then goes on.

    Exit codes: 0 nothing is wrong, 2 there is nothing to look at, 3 no answer in time,
    4 something is wrong, or there is no telling because no Linux is to be seen or its
    memory makes no sense.
    """
    from nanokernel_vm.cli.triage import Options
    from nanokernel_vm.cli.triage import triage as run_triage

    return run_triage(Options(**asked))


def main() -> None:
    """Run the command line: no traceback for what a user can mend."""
    logging.basicConfig(format="nk: %(message)s", level=logging.WARNING)
    try:
        sys.exit(app.main(prog_name="nk", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(USAGE)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "nk"
        _fail(f"{error.format_message()} ({command} --help tells more)")
    except (MachineError, StubError) as error:
        _fail(str(error))
    except OSError as error:
        drop_output()
        why = error.strerror or str(error)
        _fail(f"{error.filename}: {why}" if error.filename else why)


def _fail(why: str) -> None:
    """Say it; what a file's name may hold shall neither move the cursor nor colour."""
    text = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in why)
    print(f"nk: {text}", file=sys.stderr)
    sys.exit(USAGE)
