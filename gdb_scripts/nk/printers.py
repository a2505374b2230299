# SPDX-License-Identifier: GPL-2.0-or-later
"""Pretty printers for what one meets every minute in Linux."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import gdb
import gdb.printing

from nk import shapes

_SHOWN = 50  # children of a list

Children = Iterator[tuple[str, gdb.Value]]


class Text:
    """A value that is one line."""

    def __init__(self, text: str) -> None:
        self._text = text

    def to_string(self) -> str:
        """Return the line."""
        return self._text


class Nodes:
    """A list: how many nodes, then their addresses."""

    def __init__(self, value: gdb.Value, found: Callable[[], Iterator[int]]) -> None:
        self._value, self._found = value, found
        self._node = gdb.lookup_type("struct list_head").pointer()

    def to_string(self) -> str:
        """Return how many there are, or where it breaks."""
        try:
            return shapes.count(sum(1 for _ in self._found()), "node")
        except (shapes.BrokenList, gdb.MemoryError) as error:
            return f"broken list: {error}"

    def children(self) -> Children:
        """Yield the nodes' addresses, as far as the list holds."""
        try:
            for number, node in enumerate(islice(self._found(), _SHOWN)):
                yield f"[{number}]", gdb.Value(node).cast(self._node)
        except (shapes.BrokenList, gdb.MemoryError):
            return

    def display_hint(self) -> str:
        """Return that children have numbers."""
        return "array"


def _word(address: int) -> int:
    kind = gdb.lookup_type("unsigned long").pointer()
    return int(gdb.Value(address).cast(kind).dereference())


def _pair(address: int) -> tuple[int, int]:
    return _word(address), _word(address + 8)


def _list(value: gdb.Value) -> object:
    head = int(value.address) if value.address is not None else 0
    if not head:
        return None
    if not int(value["next"]):
        return Text("list not initialized")
    return Nodes(value, lambda: shapes.nodes(head, _pair))


def _hlist(value: gdb.Value) -> object:
    return Nodes(value, lambda: shapes.chain(int(value["first"]), _word))


def _counter(value: gdb.Value) -> object:
    return Text(str(int(value["counter"])))


def _refcount(value: gdb.Value) -> object:
    return Text(str(int(value["refs"]["counter"])))


def _spinlock_word(value: gdb.Value) -> object:
    """The lock word inside; on one CPU there is none."""
    for path in (("rlock", "raw_lock"), ("raw_lock",), ()):
        inner = value
        for name in path:
            if not _has(inner, name):
                break
            inner = inner[name]
        else:
            if _has(inner, "val"):
                return Text(shapes.spinlock(int(inner["val"]["counter"])))
            if path and not inner.type.strip_typedefs().fields():
                return Text("no lock on one CPU")
    return None


def _has(value: gdb.Value, name: str) -> bool:
    kind = value.type.strip_typedefs()
    if kind.code not in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
        return False
    return any(
        field.name == name
        or (not field.name and field.type and _type_has(field.type, name))
        for field in kind.fields()
    )


def _type_has(kind: gdb.Type, name: str) -> bool:
    return any(field.name == name for field in kind.strip_typedefs().fields())


def _mutex(value: gdb.Value) -> object:
    if _has(value, "rtmutex"):
        return _rt_mutex(value["rtmutex"])
    if not _has(value["owner"], "counter"):
        return None
    task = shapes.owner(int(value["owner"]["counter"]))
    if not task:
        return Text("unlocked mutex")
    text = f"mutex of {_task_text(task)}"
    head, first = value["wait_list"].address, int(value["wait_list"]["next"])
    waits = head is not None and first not in (0, int(head))
    return Text(f"{text}, others wait" if waits else text)


def _rt_mutex(base: gdb.Value) -> object:
    """Under PREEMPT_RT; the lowest bit of the owner says that others wait."""
    word = int(base["owner"])
    if not word & ~1:
        return Text("unlocked mutex")
    waits = ", others wait" if word & 1 else ""
    return Text(f"mutex of {_task_text(word & ~1)}{waits}")


def _rwsem(value: gdb.Value) -> object:
    if not _has(value, "owner") or not _has(value["owner"], "counter"):
        return None
    task = shapes.owner(int(value["owner"]["counter"]))
    state = shapes.rwsem(int(value["count"]["counter"]))
    last = f", last taken by {_task_text(task)}" if task else ""
    return Text(f"{state}{last}")


def _task_text(address: int) -> str:
    kind = gdb.lookup_type("struct task_struct").pointer()
    try:
        return _describe(gdb.Value(address).cast(kind).dereference())
    except gdb.MemoryError:
        return f"{address:#x}, which is no task"


def _describe(task: gdb.Value) -> str:
    name = task["comm"].string(errors="replace").partition("\0")[0]
    field = "__state" if _has(task, "__state") else "state"
    letter = shapes.state(int(task[field]), int(task["exit_state"]))
    return f"{int(task['pid'])} ({name}) {letter}"


def _task(value: gdb.Value) -> object:
    if not int(value):
        return None
    return Text(f"{int(value):#x} {_task_text(int(value))}")


def _cpumask(value: gdb.Value) -> object:
    bits = value["bits"]
    low, high = bits.type.range()
    words = [int(bits[number]) for number in range(low, high + 1)]
    return Text("CPUs " + shapes.cpu_list(words, _cpus()))


def _cpus() -> int | None:
    """How many CPUs Linux has room for; what masks say beyond them means nothing."""
    try:
        return int(gdb.parse_and_eval("(unsigned int) nr_cpu_ids"))
    except gdb.error:  # a constant, in a kernel for one CPU
        return None


class Registers:
    """A ``pt_regs``: where it came from, then the fields."""

    def __init__(self, value: gdb.Value) -> None:
        self._value = value

    def to_string(self) -> str:
        """Return what made it, and where."""
        ip, cs = int(self._value["ip"]), int(self._value["cs"])
        made = shapes.origin(int(self._value["orig_ax"]), cs)
        symbol = "" if cs & 3 else _symbol(ip)
        flags = shapes.flags(int(self._value["flags"]))
        return f"{made} at {ip:#x}{symbol}, flags {flags}"

    def children(self) -> Iterator[tuple[str, gdb.Value | str]]:
        """Yield the registers, in hexadecimal."""
        for field in self._value.type.strip_typedefs().fields():
            member = self._value[field]
            integer = member.type.strip_typedefs().code == gdb.TYPE_CODE_INT
            yield str(field.name), f"{int(member):#x}" if integer else member


def _symbol(address: int) -> str:
    text = gdb.execute(f"info symbol {address:#x}", to_string=True)
    name, found, _ = text.partition(" in section")
    return f" <{name.replace(' + ', '+')}>" if found else ""


_PRINTERS: dict[str, Callable[[gdb.Value], object]] = {
    "list_head": _list,
    "hlist_head": _hlist,
    "atomic_t": _counter,
    "atomic64_t": _counter,
    "atomic_long_t": _counter,
    "refcount_t": _refcount,
    "refcount_struct": _refcount,
    "spinlock_t": _spinlock_word,
    "spinlock": _spinlock_word,
    "raw_spinlock_t": _spinlock_word,
    "raw_spinlock": _spinlock_word,
    "qspinlock": _spinlock_word,
    "mutex": _mutex,
    "rw_semaphore": _rwsem,
    "cpumask": _cpumask,
    "pt_regs": Registers,
}


class Lookup(gdb.printing.PrettyPrinter):
    """Finds the printer of a value by any name that its type goes by."""

    def __init__(self) -> None:
        super().__init__("nanokernel")

    def __call__(self, value: gdb.Value) -> Any:
        """Return a printer, or None."""
        if value.type.strip_typedefs().code == gdb.TYPE_CODE_PTR:
            target = value.type.strip_typedefs().target().unqualified()
            return _task(value) if target.tag == "task_struct" else None
        for name in _names(value.type):
            printer = _PRINTERS.get(name)
            if printer is not None:
                return _careful(printer, value)
        return None


def _careful(printer: Callable[[gdb.Value], object], value: gdb.Value) -> object:
    try:
        return printer(value)
    except (gdb.error, KeyError):  # another kernel's idea of the type
        return None


def _names(kind: gdb.Type) -> Iterator[str]:
    kind = kind.unqualified()
    while kind.code == gdb.TYPE_CODE_TYPEDEF:
        yield str(kind.name)
        kind = kind.target().unqualified()
    if kind.code == gdb.TYPE_CODE_STRUCT and kind.tag:
        yield kind.tag


def register() -> None:
    """Let gdb print with them."""
    gdb.printing.register_pretty_printer(None, Lookup(), replace=True)
