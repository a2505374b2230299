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

import pytest

from tests.guests import link

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

    def run(*arguments: str | Path) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [NK, "run", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
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


@pytest.mark.parametrize("source", [GOES_ON, SPINS], ids=["idle", "busy"])
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
    assert (code, said) == (0, [])


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


def test_a_reader_that_goes_away(start: Start, write: Write) -> None:
    """As in ``nk run | head -1``."""
    process = start(write("main:\n4:\n" + PRINT + "jmp 4b"))
    wait_for(process, "tiny guest")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(PATIENCE) == 0
    assert "Traceback" not in err, err
    assert "Exception" not in err, err


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
