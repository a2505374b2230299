# SPDX-License-Identifier: GPL-2.0-or-later
"""Real gdbs against the server and a small machine of two inferiors.

The machine is a fake, the symbol files are real: what is proved here is that
gdb understands the server, not that a kernel runs.
"""

import asyncio
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from stub.endpoint import Tcp
from stub.server import Server, serve
from tests.fakes import FakeInferior, MonitoredMachine
from tests.live.mi import GDBS, available
from tests.raw_client import RawClient

pytestmark = pytest.mark.gdb

SOURCE = """
int NAME_counter = START;
static int helper(int x) { return x + 1; }
int NAME_work(int x) { NAME_counter += helper(x); return NAME_counter; }
void _start(void) { for (;;) NAME_work(1); }
"""
FLAGS = ["-g", "-ffreestanding", "-nostdlib", "-static", "-no-pie"]
BUSY = "another client is debugging this machine; it must detach first"
PATIENCE = 300
PATIENT = ("-iex", "set remotetimeout 60")  # seconds; gdb's 2 are nothing if it is busy


Gdb = Callable[..., Awaitable[str]]


@pytest.fixture(scope="module")
def elves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Compile one small ELF file for each inferior."""
    folder = tmp_path_factory.mktemp("elves")
    for name, start in (("host", "4711"), ("guest", "42")):
        source = SOURCE.replace("NAME", name).replace("START", start)
        (folder / f"{name}.c").write_text(source)
        command = ["gcc", *FLAGS, "-o", f"{name}.elf", f"{name}.c"]
        subprocess.run(command, cwd=folder, check=True)
    return {name: folder / f"{name}.elf" for name in ("host", "guest")}


def load(pid: int, name: str, path: Path) -> FakeInferior:
    """Put a file's segments into an inferior that will run round its code."""
    inferior = FakeInferior(pid, name, str(path))
    with path.open("rb") as file:
        elf = ELFFile(file)
        for segment in elf.iter_segments("PT_LOAD"):
            data = bytearray(segment.data().ljust(segment["p_memsz"], b"\0"))
            inferior.memory[segment["p_vaddr"]] = data
        entry = elf.header["e_entry"]
        symbols = elf.get_section_by_name(".symtab")
        assert isinstance(symbols, SymbolTableSection)
        for work in symbols.get_symbol_by_name(f"{name}_work") or ():
            inferior.jumps = {entry + 8: work["st_value"]}
    inferior.memory[0x1000] = bytearray(0x1000)
    inferior.set("rip", entry)
    inferior.set("rsp", 0x1F00)
    inferior.set("rbp", 0x1F80)
    inferior.set("cr3", 0x1000 * pid)
    return inferior


@pytest.fixture
def machine(elves: dict[str, Path]) -> MonitoredMachine:
    return MonitoredMachine(
        load(1, "host", elves["host"]), load(2, "guest", elves["guest"])
    )


@pytest.fixture
async def server(machine: MonitoredMachine) -> AsyncIterator[Server]:
    server = await serve(machine, Tcp("127.0.0.1", 0))
    yield server
    server.close()
    async with asyncio.timeout(PATIENCE):
        await server.wait_closed()


@pytest.fixture(params=GDBS)
def gdb(request: pytest.FixtureRequest, server: Server) -> Gdb:
    """Run a gdb's commands after ``target remote``; return all it prints.

    Once ``interrupt`` is true the user presses Ctrl-C.
    """

    program = GDBS[request.param]
    if not available(program):
        pytest.skip(f"no gdb at {program}")

    async def run(*commands: str, interrupt: Callable[[], bool] | None = None) -> str:
        words = [w for c in commands for w in ("-ex", c)]
        connect = f"target remote {server.address}"
        process = await asyncio.create_subprocess_exec(
            program,
            *("-nx", "-batch", "-iex", "set width 0", *PATIENT, "-ex", connect, *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE):
            while interrupt is not None and not interrupt():
                await asyncio.sleep(0)
            if interrupt is not None:
                process.send_signal(signal.SIGINT)
            output, _ = await process.communicate()
        return output.decode()

    return run


async def test_plain_target_remote_shows_every_partition(
    gdb: Gdb, elves: dict[str, Path]
) -> None:
    text = await gdb("info inferiors", "info threads")
    for pid, name in ((1, "host"), (2, "guest")):
        assert f"process {pid} " in text
        assert f"target:{elves[name]}" in text
        assert f'Thread {pid}.1 "{name}/cpu0" (running)' in text
    assert "warning: while parsing" not in text


async def test_each_has_its_own_symbols_registers_and_memory(gdb: Gdb) -> None:
    text = await gdb(
        *("p host_counter", "p $rsp", "p $part", "p $cr3", "info registers rip"),
        *("set var host_counter = 7", "p host_counter"),
        *("inferior 2", "p guest_counter", "p/x $rip", "p $part", "x/i $pc"),
        *("unset tdesc filename", "p $part", "p/x $cr3"),
    )
    assert "$1 = 4711" in text
    assert "$3 = 1\n" in text
    assert "$4 = 4096" in text
    assert "<_start>" in text
    assert "$5 = 7" in text
    assert "$6 = 42" in text
    assert "$9 = 2\n" in text
    assert "$10 = 0x2000" in text
    assert "reply is too long" not in text


async def test_every_register_is_described(gdb: Gdb) -> None:
    text = await gdb(
        *("p $st0", "p $xmm0", "p $mxcsr", "p $eflags = 0x202", "p $efer"),
        *("p $cr0 = 0x80010001UL", "info registers", "info registers fs_base"),
    )
    assert "v4_float" in text
    assert "[ IF ]" in text
    assert "[ PE WP PG ]" in text
    for name in ("fs_base", "k_gs_base", "cr4", "gdtr_limit", "tr_selector", "part"):
        assert f"\n{name} " in text
    assert "Could not fetch" not in text


async def test_a_breakpoint_is_of_one_inferior(gdb: Gdb) -> None:
    text = await gdb(
        *("inferior 2", "break guest_work", "continue", "info inferiors", "stepi"),
        *("tbreak *$pc+2", "continue", "bt 1"),
    )
    assert "Breakpoint 1, " in text
    assert "guest_work (x=" in text
    assert "* 2    process 2" in text
    assert "Temporary breakpoint 2, " in text


async def test_ctrl_c_stops_a_run(gdb: Gdb, machine: MonitoredMachine) -> None:
    text = await gdb(
        *("inferior 2", "continue"),
        interrupt=lambda: machine.log[-1:] == ["resume c:p2.-1"],
    )
    assert "received signal SIGINT" in text
    assert "interrupt" in machine.log


async def test_watching(gdb: Gdb, machine: MonitoredMachine) -> None:
    host = machine.inferior(1)
    counter = next(
        base for base, data in host.memory.items() if data[:2] == b"\x67\x12"
    )
    host.touches = {host.get("rip") + 2: counter}
    text = await gdb("rwatch host_counter", "continue")
    assert "Value = 4711" in text


async def test_all_run_if_the_user_wants_that(
    gdb: Gdb, machine: MonitoredMachine
) -> None:
    await gdb("break host_work", "continue")
    assert "resume c:p1.-1" in machine.log
    text = await gdb("set schedule-multiple on", "break guest_work", "continue")
    assert "guest_work (x=" in text
    assert "resume c:p-1.-1" in machine.log


async def test_tables_and_commands(gdb: Gdb) -> None:
    text = await gdb("info os processes", "inferior 2", "monitor say it")
    assert "alive" in text
    assert "2: say it" in text


async def test_unmapped_memory_is_an_error_not_an_end(gdb: Gdb) -> None:
    text = await gdb("x/x 0x123456", "set var *(char *)0 = 1", "p host_counter")
    assert text.count("Cannot access memory at address 0x") == 2
    assert "$1 = 4711" in text


async def test_searching_and_comparing(gdb: Gdb) -> None:
    text = await gdb(
        "find &host_counter, +3, (char)0x12", "compare-sections .text", "p 1"
    )
    assert "1 pattern found" in text
    assert ".text" in text
    assert "matched" in text
    assert "MIS-MATCHED" not in text


async def test_a_search_goes_on_behind_a_hole(
    gdb: Gdb, machine: MonitoredMachine
) -> None:
    machine.inferior(1).memory[0x7_0000_0000] = bytearray(b"......behind the hole")
    text = await gdb("find 0x1000, 0x700001000, 'b', 'e', 'h', 'i', 'n', 'd'")
    assert "0x700000006" in text
    assert "1 pattern found" in text
    text = await gdb("find 0x1000, 0x700001000, 'n', 'o', 'n', 'e'", "p host_counter")
    assert "Pattern not found" in text
    assert "$1 = 4711" in text


async def test_run_of_what_is_not_there_is_refused_and_all_stays_in_step(
    gdb: Gdb, machine: MonitoredMachine, server: Server
) -> None:
    text = await gdb(
        *("disconnect", f"target extended-remote {server.address}"),
        *("set remote exec-file /bin/true", "run", "inferior 2", "p guest_counter"),
    )
    assert re.search("on the remote target failed|can be started here", text)
    assert "$1 = 42" in text
    # What gdb asks about, "start it from the beginning?", is a vKill before the vRun.
    assert [inferior.alive for inferior in machine.all] == [False, True]


async def test_run_starts_what_it_has_killed(
    gdb: Gdb, machine: MonitoredMachine, server: Server
) -> None:
    text = await gdb(
        *("disconnect", f"target extended-remote {server.address}"),
        *("inferior 2", "break guest_work", "run", "p guest_counter", "inferior 1"),
        "p host_counter",
    )
    assert "$1 = 42" in text
    assert "$2 = 4711" in text
    assert [word for word in machine.log if re.match("kill|start", word)] == [
        "kill 2",
        "start 2",
    ]


async def test_who_may_only_look(
    machine: MonitoredMachine, server: Server, gdb: Gdb
) -> None:
    server._read_only = True
    text = await gdb(
        *("p host_counter", "stepi", "continue", "set var host_counter = 1", "kill"),
        *("break host_work", "continue", "p $rip = 1", "monitor say it"),
        *("p host_counter", "inferior 2", "p guest_counter", "detach"),
    )
    assert "$1 = 4711" in text
    assert "4711" in text.partition("say it")[2]
    assert "= 42" in text
    assert [inferior.alive for inferior in machine.all] == [True, True]
    assert not [word for word in machine.log if re.match("resume|kill", word)]


async def test_detach_and_come_back(gdb: Gdb, machine: MonitoredMachine) -> None:
    text = await gdb("detach inferiors 2", "info inferiors", "p host_counter")
    assert "[Inferior 2 (process 2) detached]" in text
    assert "$1 = 4711" in text
    assert machine.log == ["attach", "detach 2", "detach 1", "detach None"]
    assert "process 2" in await gdb("info inferiors")


async def test_kill_ends_that_partition_only(
    gdb: Gdb, machine: MonitoredMachine
) -> None:
    text = await gdb("inferior 2", "kill", "inferior 1", "p host_counter")
    assert "[Inferior 2 (process 2) killed]" in text
    assert "$1 = 4711" in text
    assert [i.alive for i in machine.all] == [True, False]
    text = await gdb("info inferiors")
    assert "process 1" in text
    assert "process 2" not in text


async def test_a_second_gdb_is_told_why(gdb: Gdb, server: Server) -> None:
    async with RawClient.connected(server.address) as first:
        await first.hello()
        assert BUSY in await gdb("info inferiors")
        assert await first.ask(b"qC") == b"QCp1.1"
    assert "process 2" in await gdb("info inferiors")


async def test_a_gdb_that_is_killed_leaves_the_machine_running(
    gdb: Gdb, machine: MonitoredMachine, server: Server
) -> None:
    await gdb("shell kill -9 $PPID")
    async with asyncio.timeout(PATIENCE):
        while machine.log[-1] != "detach None":
            await asyncio.sleep(0)
    assert "process 2" in await gdb("info inferiors")


async def test_the_end_of_one_is_not_the_end_of_all(
    gdb: Gdb, machine: MonitoredMachine
) -> None:
    machine.inferior(2).last_instruction = machine.inferior(2).get("rip") + 3
    text = await gdb(
        *("set schedule-multiple on", "continue", "info inferiors"),
        *("inferior 1", "p host_counter", "p $part"),
    )
    assert "[Inferior 2 (process 2) exited normally]" in text
    assert "$1 = 4711" in text
    assert "$2 = 1" in text
