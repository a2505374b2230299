# SPDX-License-Identifier: GPL-2.0-or-later
"""The C side of the interface, by compiling what is generated."""

import re
import subprocess
from pathlib import Path

import pytest

from nanokernel_vm.abi import frame, layout
from nanokernel_vm.abi.__main__ import GENERATED
from nanokernel_vm.abi.cheader import WIDTH, header

EXPECTED = {
    "NK_REVISION": layout.REVISION,
    "NK_CPUID_SIGNATURE_LEAF": layout.CPUID_SIGNATURE_LEAF,
    "NK_CPUID_ABI_LEAF": layout.CPUID_ABI_LEAF,
    "NK_PORT_HYPERCALL": layout.PORT_HYPERCALL,
    "NK_PORT_COM2": layout.PORT_COM2,
    "NK_PORT_RETURN": layout.PORT_RETURN,
    "NK_FRAME_REVISION": frame.FRAME_REVISION,
    "NK_FRAME_HARDWARE_SIZE": frame.HARDWARE_SIZE,
    "NK_FRAME_SIZE": frame.FRAME_SIZE,
    "NK_FRAME_WORDS": len(frame.Words._fields),
    "NK_PT_REGS_IP": frame.PT_REGS_IP,
    **{
        f"NK_FRAME_{name.upper()}": offset
        for name, offset in frame.WORD_OFFSETS._asdict().items()
    },
    "NK_IRQ_LINES": layout.IRQ_LINES,
    "NK_IRQ_VECTOR_BASE": layout.IRQ_VECTOR_BASE,
    **{f"NK_HC_{call.name}": int(call) for call in layout.Hypercall},
    **{f"NK_ERROR_{error.name}": int(error) for error in layout.Error},
    **{f"NK_IRQ_{line.name}": int(line) for line in layout.IrqLine},
    **{f"NK_GATE_{name}_MASK": field.mask for name, field in layout.GATE_WORD.items()},
    **{
        f"NK_GATE_{name}_SHIFT": field.shift for name, field in layout.GATE_WORD.items()
    },
}


@pytest.fixture
def include(tmp_path: Path) -> Path:
    """A directory with the header."""
    (tmp_path / "nanokernel_abi.h").write_text(header())
    return tmp_path


def gcc(include: Path, language: str, source: str, *options: str) -> str:
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-x", language, "-I", str(include)]
    done = subprocess.run(
        [*command, *options, "-"], input=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_generated_files_are_fresh(path: Path) -> None:
    assert path.read_text() == GENERATED[path](), "run python -m nanokernel_vm.abi"


def test_c_has_the_values_of_the_declarations(include: Path) -> None:
    program = include / "values"
    prints = "".join(f'printf("{n} %lld\\n", (long long){n});' for n in EXPECTED)
    source = '#include <stdio.h>\n#include "nanokernel_abi.h"\n'
    gcc(include, "c", f"{source}int main(void) {{ {prints} }}", "-o", str(program))
    lines = subprocess.check_output([program], text=True).splitlines()
    assert {name: int(value) for name, value in map(str.split, lines)} == EXPECTED


def test_nothing_is_defined_that_is_not_compared() -> None:
    defined = set(re.findall(r"^#define (NK_\w+) ", header(), re.MULTILINE))
    assert defined == {*EXPECTED, "NK_SIGNATURE"}


def test_c_has_the_signature(include: Path) -> None:
    check = f'_Static_assert(sizeof(NK_SIGNATURE) == {len(layout.SIGNATURE)} + 1, "");'
    gcc(include, "c", f'#include "nanokernel_abi.h"\n{check}', "-fsyntax-only")
    assert f'"{layout.SIGNATURE.decode()}"' in header()


def test_the_assembler_takes_it(include: Path) -> None:
    code = '#include "nanokernel_abi.h"\noutb %al, $NK_PORT_HYPERCALL\n'
    options = ("-D__ASSEMBLY__", "-c", "-o", str(include / "out.o"))
    gcc(include, "assembler-with-cpp", code, *options)


def test_a_word_elsewhere_does_not_compile(include: Path) -> None:
    path = include / "nanokernel_abi.h"
    text = path.read_text()
    swapped = text.replace(
        "\tunsigned long built_at;", "\tunsigned long one, built_at;"
    )
    assert swapped != text
    path.write_text(swapped)
    with pytest.raises(AssertionError, match="built_at is where the nanokernel"):
        gcc(include, "c", '#include "nanokernel_abi.h"\n', "-fsyntax-only")


def test_a_packed_gate_word_comes_apart_again(include: Path) -> None:
    program = include / "gate"
    source = """
        #include <stdio.h>
        #include "nanokernel_abi.h"
        int main(void) {
            printf("%d", 0xf << NK_GATE_TYPE_SHIFT | 3 << NK_GATE_DPL_SHIFT |
                         5 << NK_GATE_IST_SHIFT);
        }"""
    gcc(include, "c", source, "-o", str(program))
    word = int(subprocess.check_output([program]))
    assert {name: field.of(word) for name, field in layout.GATE_WORD.items()} == {
        "TYPE": 0xF,
        "DPL": 3,
        "IST": 5,
    }


def test_lines_are_as_short_as_the_kernel_s() -> None:
    assert max(map(len, header().splitlines())) <= WIDTH
