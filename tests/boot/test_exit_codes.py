# SPDX-License-Identifier: GPL-2.0-or-later
"""How ``nk run`` ends: its exit code, one clear line, no traceback.  Tiny guests."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest

from tests.guests import link
from tests.unit.vm.test_turns import PROGRAMS

NK = Path(sys.executable).with_name("nk")
PATIENCE = 300  # seconds; bounds every wait, measures nothing

PRINT = """
    mov $0x3f8, %edx
    lea text(%rip), %rsi
1:  lodsb
    test %al, %al
    jz 2f
    out %al, %dx
    jmp 1b
text: .asciz "hello from a tiny guest\\r\\n"
2:
"""
GOES_ON = "main:" + PRINT + "sti\n3: hlt\njmp 3b"
SPINS = "main:" + PRINT + "3: jmp 3b"
HALTS = "main:" + PRINT + "die"
FAILS = "main:" + PRINT + "lidt nothing(%rip)\nud2\nnothing: .word 0; .quad 0"
LEAVES = "main:" + PRINT + "mov $0x40000000, %eax\njmp *%rax"

FAULTS = """
    gate 6, f, 0x8e, 1
    gate 14, f, 0x8e, 1
    movl $0x7fff, idt+16*6+8(%rip)
    movl $0x7fff, idt+16*14+8(%rip)
f:  ud2
"""
STRAIGHT = PROGRAMS["NOPs"].replace("main:", "")

Write = Callable[..., Path]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Describe a machine of one partition that boots ``source``."""

    def machine(source: str | bytes, extra: str = "", size: int = 2 << 20) -> Path:
        kernel = source if isinstance(source, bytes) else link(source)
        (tmp_path / "kernel").write_bytes(kernel)
        path = tmp_path / "machine.toml"
        path.write_text(f"""
[machine]
gdb = ""

[partition.tiny]
pid = 1
base = 0
size = {size:#x}
kernel = "kernel"
device = [{{ chip = "uart", port = 0x3f8, irq = 4 }}]
{extra}
""")
        return path

    return machine


@pytest.fixture
def start() -> Iterator[Start]:
    """Start ``nk run`` with arguments; what still runs in the end is killed."""
    processes = []

    def run(
        *arguments: str | Path,
        before: tuple[str, ...] = (),
        stdout: IO[str] | int = subprocess.PIPE,
    ) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*before, NK, "run", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def end(process: "subprocess.Popen[str]") -> tuple[int, str, list[str]]:
    """The exit code, what was printed, and the lines said on stderr."""
    out, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in err, err
    said = [
        line for line in err.splitlines() if not re.match("nk: (console|gdb)", line)
    ]
    return process.returncode, out, said


def wait_for(process: "subprocess.Popen[str]", text: str) -> None:
    """Read its output up to ``text``."""
    assert process.stdout is not None
    came = ""
    deadline = time.monotonic() + PATIENCE
    while text not in came:
        assert select.select([process.stdout], [], [], deadline - time.monotonic())[0]
        came += process.stdout.readline()


def test_what_was_waited_for_came(start: Start, write: Write) -> None:
    code, out, said = end(
        start(write(GOES_ON), "--until", "tiny:tiny guest", "--timeout", "inf")
    )
    assert (code, said) == (0, [])
    assert "[tiny] hello from a tiny guest" in out


def test_the_end_as_json(start: Start, write: Write) -> None:
    code, out, _ = end(
        start(write(GOES_ON), "--until", "tiny:guest", "--json", "--digest")
    )
    row = json.loads(out)["tiny"]
    assert code == 0
    assert row["condition"] in ("running", "idle")
    assert re.fullmatch("[0-9a-f]{64}", row["ram"])


@pytest.mark.parametrize(
    "source",
    [GOES_ON, SPINS, "main:" + PRINT + FAULTS, "main:" + PRINT + STRAIGHT],
    ids=["idle", "busy", "faults for ever", "no jump"],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop(
    start: Start, write: Write, source: str, number: signal.Signals
) -> None:
    process = start(write(source))
    wait_for(process, "tiny guest")
    process.send_signal(number)
    code, _, said = end(process)
    assert (code, said) == (0, [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6])
def test_asked_to_stop_at_any_moment_of_the_start(
    start: Start, write: Write, delay: float, number: signal.Signals
) -> None:
    """The signal ends it, or from when there is a machine to end, nk does.

    Which of them depends on how busy the computer is; nothing else may come of it.
    """
    process = start(write(GOES_ON))
    with suppress(subprocess.TimeoutExpired):
        process.wait(delay)
    process.send_signal(number)
    code, _, said = end(process)
    assert (code, said) in ((0, []), (-number, []))


def test_asked_to_stop_again_and_again(start: Start, write: Write) -> None:
    """Until it has ended: no moment of the end is one at which Python complains."""
    process = start(write(GOES_ON), "--json")
    assert process.stderr is not None
    process.stderr.readline()  # of the console
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
    code, _, said = end(process)
    assert (code, said) in ((0, []), (-signal.SIGINT, []))


@pytest.mark.parametrize("source", [GOES_ON, SPINS], ids=["idle", "busy"])
def test_a_timeout(start: Start, write: Write, source: str) -> None:
    arguments = ("--until", "tiny:never", "--timeout", "0.3")
    code, _, said = end(start(write(source), *arguments))
    assert code == 3
    assert said == ["nk: timeout after 0.3 s: tiny has not printed 'never'"]


def test_a_timeout_without_a_goal(start: Start, write: Write) -> None:
    code, _, said = end(start(write(SPINS), "--timeout", "0.3"))
    assert code == 3
    assert said == ["nk: timeout after 0.3 s: the machine was still running"]


def test_a_partition_that_fails(start: Start, write: Write) -> None:
    code, out, said = end(start(write(FAILS)))
    assert code == 4
    assert "hello" in out
    assert len(said) == 1
    assert re.match(r"nk: partition tiny failed: triple fault at 0x\w+: ", said[0])


def test_a_partition_that_runs_out_of_its_memory(start: Start, write: Write) -> None:
    code, _, said = end(start(write(LEAVES)))
    assert code == 4
    assert len(said) == 1
    assert "executed outside all memory at 0x40000000" in said[0]


def test_a_goal_that_can_no_longer_be_reached(start: Start, write: Write) -> None:
    code, _, said = end(start(write(HALTS), "--until", "tiny:never"))
    assert code == 4
    assert said == ["nk: every partition has ended: tiny has not printed 'never'"]


def test_a_machine_that_has_ended_by_itself(start: Start, write: Write) -> None:
    code, _, said = end(start(write(HALTS)))
    assert (code, said) == (0, ["nk: every partition has ended"])


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (b"no kernel at all", "not an ELF file"),
        (b"", "not an ELF file"),
        (link(GOES_ON)[:1000], "truncated"),
    ],
)
def test_a_kernel_that_is_none(
    start: Start, write: Write, kernel: bytes, words: str
) -> None:
    code, out, said = end(start(write(kernel)))
    assert (code, out) == (2, "")
    assert len(said) == 1
    assert words in said[0]
    assert "kernel" in said[0]


def test_an_initrd_larger_than_the_window(
    start: Start, write: Write, tmp_path: Path
) -> None:
    (tmp_path / "initrd").write_bytes(bytes(3 << 20))
    machine = write(GOES_ON)
    machine.write_text(
        machine.read_text().replace("device =", 'initrd = "initrd"\ndevice =')
    )
    code, _, said = end(start(machine))
    assert code == 2
    assert len(said) == 1
    assert "3145728 bytes do not fit" in said[0]


def test_a_kernel_that_is_not_there(start: Start, write: Write, tmp_path: Path) -> None:
    machine = write(GOES_ON)
    (tmp_path / "kernel").unlink()
    code, _, said = end(start(machine))
    assert code == 2
    assert len(said) == 1
    assert "machine.toml" in said[0]
    assert "kernel" in said[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--until", "nobody:text"),
        ("--until", "tiny"),
        ("--console", "nobody=pty"),
        ("--console", "tiny"),
        ("--console", "tiny=/nonexistent/file"),
        ("--gdb", "nonsense"),
        ("--gdb", "127.0.0.1:99999"),
        ("--gdb", f"a:{'9' * 5000}"),
        ("--gdb", "no.such.host.invalid:1"),
        ("--gdb", "a..b:1"),
        ("--gdb", f"{'é' * 60}:1"),
        ("--gdb", f"unix:{'x' * 200}"),
        ("--gdb", "unix:/nonexistent/socket"),
        ("--until", os.fsdecode(b"\xff:text")),
        ("--console", os.fsdecode(b"tiny=/nonexistent/\xff\x1b")),
        ("--console", "tiny=/proc/self/fd/nothing"),
        ("--timeout", "soon"),
        ("--timeout", "-1"),
        ("--timeout", "nan"),
        ("--frobnicate",),
    ],
)
def test_wrong_usage(start: Start, write: Write, arguments: tuple[str, ...]) -> None:
    code, _, said = end(start(write(GOES_ON), *arguments))
    assert code == 2
    assert len(said) == 1
    assert said[0].isprintable()


def test_a_console_that_nobody_reads(
    start: Start, write: Write, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    code, _, said = end(start(write(GOES_ON), "--console", f"tiny={tmp_path}/fifo"))
    assert code == 2
    assert len(said) == 1
    assert "nobody reads this FIFO" in said[0]


def test_a_console_whose_reader_is_there(
    start: Start, write: Write, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    code, _, said = end(
        start(write(GOES_ON), "--console", f"tiny={fifo}", "--until", "tiny:guest")
    )
    assert (code, said) == (0, [])
    assert os.read(reader, 100).startswith(b"hello from a tiny guest")
    os.close(reader)


def test_a_goal_of_any_bytes(start: Start, write: Write) -> None:
    machine = write(GOES_ON.replace("tiny guest", "\\377 guest"))
    goal = os.fsdecode(b"tiny:\xff guest")
    assert end(start(machine, "--until", goal, "--timeout", "inf"))[0] == 0


@pytest.mark.parametrize("missing", ["HOME", "PATH", "LANG"])
def test_an_environment_without(missing: str, write: Write, tmp_path: Path) -> None:
    """Of a cron job, or a container."""
    environment = {k: v for k, v in os.environ.items() if k != missing}
    done = subprocess.run(
        [NK, "run", write(GOES_ON), "--until", "tiny:guest"],
        env=environment | {"NK_CACHE": str(tmp_path / "no cache")},
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr


def test_a_description_that_is_not_there(start: Start, tmp_path: Path) -> None:
    code, _, said = end(start(tmp_path / "machine.toml"))
    assert code == 2
    assert len(said) == 1
    assert "machine.toml" in said[0]


def test_a_port_in_use(start: Start, write: Write) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, said = end(start(write(GOES_ON), "--gdb", address))
    assert code == 2
    assert len(said) == 1
    assert address.rpartition(":")[2] in said[0]
    assert "in use" in said[0]


@pytest.mark.parametrize("where", ["option", "file"])
def test_other_computers_are_not_let_in_unasked(
    start: Start, write: Write, where: str
) -> None:
    """Nor does the file decide that: somebody else may have written it."""
    machine, arguments = write(GOES_ON), ["--gdb", "0.0.0.0:0"]
    if where == "file":
        arguments = []
        row = re.compile("^gdb = .*$", re.MULTILINE)
        text, found = row.subn('gdb = "0.0.0.0:0"', machine.read_text())
        assert found == 1
        machine.write_text(text)
    code, _, said = end(start(machine, *arguments))
    assert (code, len(said)) == (2, 1)
    assert "will not serve gdb on 0.0.0.0:0" in said[0]
    assert "say --allow-remote" in said[0]
    code, _, said = end(start(machine, *arguments, "--allow-remote", "--timeout", "0"))
    assert (code, said) == (3, ["nk: timeout after 0 s: the machine was still running"])


# -- consoles that lose output -------------------------------------------------------

PRINTS = "main:\n4:\n" + PRINT + "jmp 4b"


def said_by(process: "subprocess.Popen[str]", words: str) -> str:
    """Read stderr up to a line with ``words`` in it."""
    assert process.stderr is not None
    for line in process.stderr:
        assert "Traceback" not in line
        if words in line:
            return line.rstrip()
    raise AssertionError(f"nk has ended without a word of {words!r}")


def test_a_reader_that_goes_away(start: Start, write: Write) -> None:
    """As in ``nk run | head -1``: the machine goes on, and says once what is lost."""
    process = start(write(PRINTS))
    wait_for(process, "tiny guest")
    assert process.stdout is not None
    process.stdout.close()
    said = said_by(process, "lost")
    assert said == "nk: stdout: Broken pipe: the output is lost from here on"
    assert process.poll() is None
    process.terminate()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("where", ["stdio", "/dev/full"])
def test_a_console_that_is_full(start: Start, write: Write, where: str) -> None:
    """Two of them: the kernel prints on, to its goal on the other."""
    goal = ("--until", "tiny:hello", "--timeout", str(PATIENCE))
    with open("/dev/full", "w") as full:
        process = start(
            *(write(PRINTS), "--console", f"tiny={where}", *goal), stdout=full
        )
        code, _, said = end(process)
    name = "stdout" if where == "stdio" else where
    lost = f"nk: {name}: No space left on device: the output is lost from here on"
    assert (code, said) == (0, [lost])


def test_a_console_that_is_closed(start: Start, write: Write) -> None:
    nobody = ("-c", 'exec "$@" >&- <&-', "sh")
    process = start(
        *(write(PRINTS), "--console", "tiny=stdio", "--until", "tiny:hello"),
        before=("sh", *nobody),
    )
    code, _, said = end(process)
    assert (code, said) == (0, ["nk: stdout is closed: the output is lost"])


def test_a_reader_that_sleeps(start: Start, write: Write) -> None:
    """A pipe that is full keeps neither the machine nor Ctrl-C waiting."""
    process = start(write(PRINTS), "--console", "tiny=stdio")
    said = said_by(process, "lost")
    assert said.startswith("nk: stdout: is not read fast enough")
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0


def test_a_fifo_that_nobody_reads(start: Start, write: Write, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    code, _, said = end(start(write(GOES_ON), "--console", f"tiny={tmp_path / 'fifo'}"))
    assert (code, len(said)) == (2, 1)
    assert "fifo: nobody reads this FIFO; start its reader before" in said[0]


@pytest.mark.parametrize("report", ["--json", "--digest"])
def test_a_report_that_nobody_reads(start: Start, write: Write, report: str) -> None:
    """The exit code is still that of the run."""
    process = start(write(FAILS), "--no-gdb", report, "--console", "tiny=/dev/null")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read().splitlines()
    assert process.wait(PATIENCE) == 4
    assert len(said) == 1
    assert "triple fault" in said[0]


def test_a_line_without_an_end(start: Start, write: Write) -> None:
    """It is printed in pieces."""
    source = PRINTS.replace("\\r\\n", "")
    process = start(write(source), "--until", f"tiny:{'hello from a tiny guest' * 300}")
    code, out, _ = end(process)
    pieces = out.splitlines()
    assert code == 0
    assert {len(piece) for piece in pieces} == {len("[tiny] ") + 4096}


# -- goals that can no longer be reached ---------------------------------------------

PANIC = """
[    1.5] Kernel panic - not syncing: No working init found.\r
[    1.6] ---[ end Kernel panic - not syncing: No working init found. ]---\r
"""
PANICS = "main:" + PRINT.replace("hello from a tiny guest\\r\\n", PANIC.strip() + "\\n")
LONG = "3: .rept 8000; mov (%rsp), %rcx; .endr; jmp 3b"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (PANICS + "sti\n3: jmp 3b", r"has panicked \(No working init found\.\)"),
        ("main:" + PRINT + LONG, r"hangs \(interrupts off for 10 s, at 0x\w+\)"),
        ("main:" + PRINT + FAULTS, r"hangs \(only faults, at 0x\w+\)"),
    ],
    ids=["panic", "interrupts off", "faults"],
)
def test_a_kernel_that_lives_and_is_dead(
    start: Start, write: Write, source: str, why: str
) -> None:
    code, _, said = end(start(write(source), "--until", "tiny:never"))
    assert code == 4
    assert len(said) == 1
    assert re.fullmatch(f"nk: tiny {why}: tiny has not printed 'never'", said[0])


@pytest.mark.parametrize(
    "command", [("info",), ("run", "--no-gdb", "--timeout", "0", "--json")]
)
def test_output_that_nobody_can_take(command: tuple[str, ...], write: Write) -> None:
    verb, *options = command
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [NK, verb, write(GOES_ON), *options],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )
    said = [line for line in done.stderr.splitlines() if "console of" not in line]
    assert (done.returncode, said) == (2, ["nk: No space left on device"])


def test_a_library_that_is_not_installed() -> None:
    """As after an update that brought a new one."""
    script = "import sys; sys.modules['click'] = None; import nanokernel_vm.cli as nk"
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; nk.main()"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode != 0
    assert done.stderr == "nk: click is not installed: run make setup\n"
