# SPDX-License-Identifier: GPL-2.0-or-later
"""What gdb knows of a kernel: where its tables are, per program space.

Symbols are looked up when an object file appears, never while a frame is unwound:
gdb would ask for the selected frame first.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import gdb

from nk import edges, orc
from nk.callers import Registers
from nk.described import described
from nk.ending import USER_SPACE, ending_file
from nk.orc import Read, Rule, Table

_SYSCALL = ("entry_SYSCALL_64", "syscall_return_via_sysret")
_ENTRY_CODE = ("__entry_text_start", "__entry_text_end")
_NAMES = (*orc.BOUNDS, *_SYSCALL, *_ENTRY_CODE, "_end")
_MODULES = "modules"  # not every kernel has any


class Kernel:
    """One kernel.

    Args:
        path: Its symbol file, if it can be read here.
        symbols: Addresses by name.

    Attributes:
        described: The code that gdb has call frame information for.
        entry_code: The entries and exits, in assembler.
    """

    def __init__(self, path: str | None, symbols: dict[str, int]) -> None:
        self.described = described(path)
        self.entry_code = range(*(symbols[name] for name in _ENTRY_CODE))
        self._symbols = symbols
        self._table: Table | None = None
        self._modules: list[tuple[range, Table]] = []

    def rule(self, read: Read, pc: int) -> Rule | None:
        """ORC's rule; ValueError if there are no tables that can be understood."""
        own = pc < self._symbols["_end"]
        table = self._own(read) if own else self._module(read, pc)
        return orc.rule_at(table, read, pc) if table else None

    def _own(self, read: Read) -> Table:
        if self._table is None:
            self._table = orc.kernel_table(read, self._symbols)
        return self._table

    def _module(self, read: Read, pc: int) -> Table | None:
        for code, table in self._modules:
            if pc in code:
                return table
        if _MODULES in self._symbols:
            self._modules = list(_modules(read, self._symbols[_MODULES]))
        return next((table for code, table in self._modules if pc in code), None)

    def forget_modules(self) -> None:
        """They may come and go while the kernel runs."""
        self._modules = []

    def user_at_edge(
        self, pc: int, register: Registers, read: Read
    ) -> dict[str, int] | None:
        """User space's registers, where the kernel's first or last ones are live."""
        start, end = (self._symbols[name] for name in _SYSCALL)
        user = edges.after_return(register, read)
        if user is None and start <= pc < end:
            code = read(start, pc - start)
            return edges.before_syscall(code, register, read)
        return user


def _modules(read: Read, head: int) -> Iterator[tuple[range, Table]]:
    """The code and the table of each module that is loaded: linux/module.h."""
    module = gdb.lookup_type("struct module").pointer()
    place = _offset("struct module", "list")
    entry = int.from_bytes(read(head, 8), "little")
    while entry != head:
        it = gdb.Value(entry - place).cast(module).dereference()
        arch = it["arch"]
        table = Table(
            read, int(arch["orc_unwind_ip"]), int(arch["orc_unwind"]),
            int(arch["num_orcs"]),
        )  # fmt: skip
        for code in _code(it):
            yield code, table
        entry = int.from_bytes(read(entry, 8), "little")


def _code(module: gdb.Value) -> Iterator[range]:
    """Where a module's code is, which also runs to initialize it.

    v6.1 has two layouts, v6.4 an array of areas: MOD_TEXT is 0, MOD_INIT_TEXT 4.
    """
    if "core_layout" in [field.name for field in module.type.fields()]:
        layouts = [module["core_layout"], module["init_layout"]]
    else:
        layouts = [module["mem"][0], module["mem"][4]]
    for layout in layouts:
        base = int(layout["base"])
        yield range(base, base + int(layout["size"]))


def _offset(structure: str, name: str) -> int:
    fields = gdb.lookup_type(structure).fields()
    return next((f.bitpos or 0) // 8 for f in fields if f.name == name)


_kernels: dict[gdb.Progspace, Kernel] = {}
_files = TemporaryDirectory(prefix="nk-gdb-")  # gdb opens a file again and again


def kernel(space: gdb.Progspace) -> Kernel | None:
    """The kernel of a program space, if its symbols are those of one."""
    return _kernels.get(space)


def _look(_: object = None) -> None:
    space = gdb.current_progspace()
    if space is None or space in _kernels or not space.filename:
        return
    found = {name: _address(name) for name in (*_NAMES, _MODULES)}
    symbols = {name: value for name, value in found.items() if value is not None}
    if symbols.keys() >= set(_NAMES):
        known = Kernel(space.filename.removeprefix("target:"), symbols)
        _kernels[space] = known
        if USER_SPACE.start not in known.described:
            _add_ending()
        gdb.invalidate_cached_frames()


def _add_ending() -> None:
    path = Path(_files.name, "user-space")
    path.write_bytes(ending_file())
    gdb.execute(f"add-symbol-file {path} 0", to_string=True)


def _address(name: str) -> int | None:
    try:
        return int(gdb.parse_and_eval(f"(unsigned long) &{name}"))
    except gdb.error:
        return None


def _clear(event: gdb.ClearObjFilesEvent) -> None:
    _kernels.pop(event.progspace, None)


def _continue(_: object) -> None:
    for known in _kernels.values():
        known.forget_modules()


def _look_everywhere() -> None:
    """At program spaces that were there before the scripts."""
    here = gdb.selected_inferior().num
    for inferior in gdb.inferiors():
        if inferior.num != gdb.selected_inferior().num:
            gdb.execute(f"inferior {inferior.num}", to_string=True)
        _look()
    if gdb.selected_inferior().num != here:
        gdb.execute(f"inferior {here}", to_string=True)


def register() -> None:
    """Follow what gdb loads."""
    gdb.events.new_objfile.connect(_look)
    gdb.events.clear_objfiles.connect(_clear)
    gdb.events.cont.connect(_continue)
    _look_everywhere()
