# SPDX-License-Identifier: GPL-2.0-or-later
"""The ``nk`` commands that are views of the server's ``monitor`` commands.

gdb 13.1 does not tell the server which inferior the user has selected until it needs
something of it, so the partition's number goes with every question.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

JSON = "-j"


class View(NamedTuple):
    """One command.

    Attributes:
        name: Behind ``nk``, and behind ``monitor``.
        usage: Its arguments.
        summary: One line, a sentence.
        help: What else there is to say.
        words: What a completion may offer, besides -j.
        partition: Whether it is about one, the current inferior's.
    """

    name: str
    usage: str
    summary: str
    help: str = ""
    words: tuple[str, ...] = ()
    partition: bool = True

    @property
    def doc(self) -> str:
        """The text of ``help nk NAME``."""
        usage = " ".join(filter(None, ("nk", self.name, "[-j]", self.usage)))
        about = "\nWith -j the rows come as JSON."
        return f"{self.summary}\nUsage: {usage}\n{self.help}{about}"


VIEWS = (
    View("partitions", "", "All partitions and their state.", partition=False),
    View(
        "irqlog", "[N]", "The last N interrupts and exceptions that came.",
        "As the nanokernel delivered them, with virtual time.",
    ),
    View(
        "handlers", "", "Handlers in force, beside those the kernel believes in.",
        "In force are the guest's registrations, or what the host's IDTR points to.",
    ),
    View("dmesg", "[N]", "The kernel's log, or its last N lines."),
    View(
        "ps", "", "All tasks: state, since when, and what they wait for.",
        "SINCE is the kernel's clock, as in its log, when the task last had the CPU.",
    ),
    View(
        "bt", "[-a | PID]", "The kernel's stack of the CPU, of a task, or of all (-a).",
        "A task need not run: where it sleeps is told by its stack.", ("-a",),
    ),
    View(
        "modules", "[DIRECTORY]", "Kernel modules, where they lie, who has symbols.",
        "With a directory, the symbols of NAME.ko found anywhere below it are loaded.",
    ),
    View(
        "locks", "", "Locks that tasks wait for: owners, waiters, deadlocks.",
        "Spinlocks, too, if the CPU spins on one.",
    ),
    View("irq", "", "Interrupt lines: chip, actions, counts."),
    View("runq", "", "Who runs and who could."),
    View("meminfo", "", "Memory: how much is free, and who has the rest."),
    View(
        "pte", "ADDRESS [PID]", "An address through the page tables, level by level.",
        "ADDRESS is an expression without blanks, or in quotes.  With PID the tables\n"
        "are that task's.  It ends with the reason if it leads nowhere.",
    ),
    View("sysinfo", "", "Version, uptime, load, command line, taint."),
    View(
        "triage", "", "What has happened to the kernel, and where.",
        "The cause, backtraces, last interrupts, memory, the log's end, a signature.",
    ),
)  # fmt: skip


def question(view: View, partition: int, words: Sequence[str], as_json: bool) -> str:
    """The ``monitor`` command for a view, without that word."""
    line = [view.name]
    if as_json:
        line.append(JSON)
    if view.partition:
        line += ["-p", str(partition)]
    return " ".join([*line, *words])


def packet(line: str) -> str:
    """The remote protocol's packet of a ``monitor`` command."""
    return f"qRcmd,{line.encode().hex()}"


def answer(reply: bytes | None) -> str | None:
    """The text in the reply to it; None: the server knows no such commands."""
    if not reply or reply[:1] == b"E":
        return None
    return "" if reply == b"OK" else bytes.fromhex(reply.decode()).decode()


def options(words: Sequence[str]) -> tuple[bool, list[str]]:
    """Take -j out of the words of a command line."""
    return JSON in words, [word for word in words if word != JSON]


def offers(view: View, text: str, word: str | None) -> list[str]:
    """What may stand where the user asks for a completion.

    Args:
        view: The command.
        text: What was typed behind its name.
        word: The part of it to be completed; None while gdb looks where that begins.
    """
    if word is None:
        return []
    typed = text.split()[: None if text.endswith(" ") else -1]
    start = text.rpartition(" ")[2]
    left = [w for w in (JSON, *view.words) if w not in typed and w.startswith(start)]
    # gdb breaks words at "-": it wants what follows the break.
    return [w[len(start) - len(word) :] for w in left]


def symbol_command(path: str, module: dict[str, Any]) -> str:
    """The command by which gdb loads a module's symbols.

    Args:
        path: Its file.
        module: A row of ``monitor modules -j``.
    """
    sections = dict(module["sections"])
    text = sections.pop(".text", module["address"])
    others = (
        f"-s {name} {address:#x}"
        for name, address in sections.items()
        if name.startswith((".data", ".bss", ".rodata", ".init.text", ".exit.text"))
    )
    return " ".join((f'add-symbol-file "{path}" {text:#x}', *others))


def module_line(module: dict[str, Any], symbols: str) -> str:
    """One module as text; ``symbols`` names the file that gdb has loaded, if any."""
    place = f"{module['address']:#018x} {module['size']:8} bytes"
    state = f"{module['state']}, {module['references']} users"
    return f"{module['name']:24} {place}  {state}, symbols: {symbols or 'none'}"
