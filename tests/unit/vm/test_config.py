# SPDX-License-Identifier: GPL-2.0-or-later
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from nanokernel_vm.config import (
    DEFAULT_QUANTUM_MS,
    Artifact,
    DeviceConfig,
    Entry,
    Interrupts,
    MachineConfig,
    PartitionConfig,
    load,
    parse,
)
from nanokernel_vm.devices.chips import CHIPS
from nanokernel_vm.errors import ConfigError

SOURCE = Path("/somewhere/pair.toml")
PAIR = """
[machine]
epoch = 2026-01-01T00:00:00Z
quantum_ms = 2
gdb = "unix:/run/nk"

[partition.host]
pid = 1
base = 0x0000_0000
size = 0x1000_0000
kernel = "@debian-cloud"
initrd = "@initrd"
cmdline = '''
console=ttyS0
  quiet
'''
device = [
    { chip = "pic" },
    { chip = "cmos" },
    { chip = "uart", port = 0x3f8, irq = 4 },
]

[partition.guest]
pid = 2
base = 0x1000_0000
size = 0x0800_0000
kernel = "images/vmlinux"
interrupts = "registered"

[[partition.guest.device]]
chip = "uart"
port = 0x2f8
irq = 3
"""


def test_everything_is_read() -> None:
    assert parse(PAIR, SOURCE) == MachineConfig(
        partitions=(
            PartitionConfig(
                name="host",
                pid=1,
                base=0,
                size=256 << 20,
                kernel=Artifact("debian-cloud"),
                initrd=Artifact("initrd"),
                cmdline="console=ttyS0 quiet",
                entry=Entry.LINUX64,
                interrupts=Interrupts.HARDWARE,
                devices=(
                    DeviceConfig("pic", CHIPS["pic"].ports, None),
                    DeviceConfig("cmos", (range(0x70, 0x72),), 8),
                    DeviceConfig("uart", (range(0x3F8, 0x400),), 4),
                ),
            ),
            PartitionConfig(
                name="guest",
                pid=2,
                base=256 << 20,
                size=128 << 20,
                kernel=Path("/somewhere/images/vmlinux"),
                initrd=None,
                cmdline="",
                entry=Entry.LINUX64,
                interrupts=Interrupts.REGISTERED,
                devices=(DeviceConfig("uart", (range(0x2F8, 0x300),), 3),),
            ),
        ),
        epoch=1_767_225_600,
        quantum_ms=2,
        gdb="unix:/run/nk",
    )


def test_symbols_of_the_users_own_lie_beside_the_description() -> None:
    text = PAIR.replace(
        'kernel = "images/vmlinux"', 'kernel = "k"\nsymbols = "k.debug"'
    )
    host, guest = parse(text, SOURCE).partitions
    assert (host.symbols, guest.symbols) == (None, Path("/somewhere/k.debug"))
    with pytest.raises(ConfigError, match="symbols: it is empty"):
        parse(text.replace("k.debug", ""), SOURCE)


def test_derived_numbers() -> None:
    machine = parse(PAIR, SOURCE)
    host, guest = machine.partitions
    assert machine.ram_size == 384 << 20
    assert (host.end, guest.end) == (0x1000_0000, 0x1800_0000)
    assert [d.port for d in host.devices] == [0x20, 0x70, 0x3F8]
    assert str(host.kernel) == "@debian-cloud"


def test_values_are_frozen() -> None:
    machine = parse(PAIR, SOURCE)
    with pytest.raises(FrozenInstanceError):
        machine.epoch = 0  # type: ignore[misc]  # that it fails is the point


def test_defaults_and_order_of_pids() -> None:
    text = PAIR[PAIR.index("[partition.host]") :]
    text = text.replace("pid = 1", "pid = 7")
    machine = parse(text, SOURCE)
    assert [p.pid for p in machine.partitions] == [2, 7]
    assert machine.epoch == 1_767_225_600
    assert machine.quantum_ms == DEFAULT_QUANTUM_MS
    assert machine.gdb == "127.0.0.1:1234"


GUEST = "[partition.guest]"
DEVICE = "[partition.guest.device #1]"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # the file
        ("[machine]", "[machine", "not TOML: Expected ']' at the end of a table"),
        ("[machine]", "[engine]", "engine: unknown key; known are machine, partition"),
        # the machine
        ("quantum_ms = 2", "quantum = 2", "[machine] quantum: unknown key; known are"),
        (
            *("quantum_ms = 2", "quantum_ms = 0"),
            "[machine] quantum_ms: 0 is not within 1 to 1000",
        ),
        (
            *("quantum_ms = 2", "quantum_ms = true"),
            "[machine] quantum_ms: True is not an integer",
        ),
        (
            *("00:00Z", "00:00"),
            "[machine] epoch: 2026-01-01T00:00:00 has no time zone; append Z for UTC",
        ),
        (
            *("2026-01-01T00:00:00Z", "1969-12-31T23:59:59Z"),
            "[machine] epoch: 1969-12-31T23:59:59+00:00 is not within 1970 to 2099",
        ),
        (
            *("2026-01-01T00:00:00Z", "5"),
            "[machine] epoch: 5 is not a date and time like 2026-01-01T00:00:00Z",
        ),
        *[
            ("unix:/run/nk", gdb, f"[machine] gdb: '{gdb}' is not \"HOST:PORT\", ")
            for gdb in ("unix:", "1234", "host:", "host:x", "host:65536", "a..b:1")
        ],
        # a partition
        ("pid = 2", "pid = 1", f"{GUEST} pid: 1 is [partition.host]'s already"),
        ("pid = 2", "pid = 0", f"{GUEST} pid: 0 is not within 1 to 9999"),
        ("pid = 2", "", f"{GUEST} pid: missing; an integer is needed"),
        (
            "pid = 2",
            "pid = 2\ncolor = 1",
            f"{GUEST} color: unknown key; known are pid,",
        ),
        (
            "partition.guest",
            "partition.'a b'",
            "[partition.a b]: 'a b' is not one word",
        ),
        (
            *("base = 0x1000_0000", "base = 0x0800_0000"),
            f"{GUEST} base: 0x8000000 overlaps [partition.host] 0x0-0xfffffff; "
            "move it to 0x10000000 or above",
        ),
        (
            *("base = 0x1000_0000", "base = 0x1000_1000"),
            f"{GUEST} base: 0x10001000 is not a multiple of 0x200000 (2 MiB)",
        ),
        (
            *("size = 0x0800_0000", "size = 0x0810_0000"),
            f"{GUEST} size: 0x8100000 is not a multiple of 0x200000 (2 MiB)",
        ),
        (
            *("size = 0x0800_0000", "size = 0"),
            f"{GUEST} size: 0 is not within 0x200000 to 0x100000000",
        ),
        (
            *("size = 0x0800_0000", "size = 0xf800_0000"),
            f"{GUEST} size: the window ends at 0x108000000, beyond 4 GiB",
        ),
        (
            '"@initrd"',
            '"@initd"',
            "[partition.host] initrd: nothing is built by the name",
        ),
        ('"images/vmlinux"', '""', f"{GUEST} kernel: it is empty; name a file or"),
        ('"images/vmlinux"', "5", f"{GUEST} kernel: 5 is not a string"),
        ("quiet", "q" * 2048, "[partition.host] cmdline: 2062 bytes, Linux takes 2047"),
        ("quiet", "\u00e9", "[partition.host] cmdline: it is not printable ASCII"),
        (
            *('"registered"', '"soft"'),
            f"{GUEST} interrupts: 'soft' is not one of hardware, registered",
        ),
        (
            *('interrupts = "registered"', 'entry = "multiboot"'),
            f"{GUEST} entry: 'multiboot' is not one of linux64",
        ),
        # devices
        ('chip = "uart"\n', "", f"{DEVICE} chip: missing; a string is needed"),
        (
            'chip = "uart"\n',
            'chip = "ne2k"\n',
            f"{DEVICE} chip: 'ne2k' is not one of pic",
        ),
        ("irq = 3", "", f"{DEVICE} irq: missing; an integer is needed"),
        ("irq = 3", "irq = 16", f"{DEVICE} irq: 16 is not within 0 to 15"),
        ("irq = 3", "irq = 2", f"{DEVICE} irq: 2 is the second interrupt controller's"),
        ("irq = 3", "irq = 3\nbaud = 9600", f"{DEVICE} baud: unknown key; known are"),
        ("0x2f8", "0xfff9", f"{DEVICE} port: 0xfff9 is not within 0 to 0xfff8"),
        (
            *('{ chip = "pic" }', '{ chip = "pic", port = 0x20 }'),
            "[partition.host.device #1] port: unknown key; known are chip",
        ),
        (
            *('{ chip = "cmos" }', '{ chip = "pic" }'),
            "[partition.host.device #2] chip: a machine has one 'pic', and it is given "
            "to [partition.host.device #1]",
        ),
        (
            *("0x2f8", "0x3fc"),
            f"{DEVICE} port: 0x3fc-0x403 overlaps 0x3f8-0x3ff of "
            "[partition.host.device #3]",
        ),
        (
            *("0x2f8", "0x70"),
            f"{DEVICE} port: 0x70-0x77 overlaps 0x70-0x71 of "
            "[partition.host.device #2]",
        ),
        (
            *("irq = 3", "irq = 8"),
            f"{DEVICE} irq: line 8 is given to [partition.host.device #2]",
        ),
        ("device = [", "device = 5\nd = [", "[partition.host] d: unknown key"),
    ],
)
def test_mistakes_are_named(old: str, new: str, message: str) -> None:
    assert old in PAIR
    with pytest.raises(ConfigError) as caught:
        parse(PAIR.replace(old, new, 1), SOURCE)
    assert str(caught.value).startswith(f"pair.toml: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "bad.toml: partition: missing; a table [partition] is needed"),
        ("partition = 5", "bad.toml: partition: 5 is not a table [partition]"),
        ("partition.a = 5", "bad.toml: [partition] a: 5 is not a table [partition.a]"),
        ("[partition]", "bad.toml: [partition]: it is empty; add a table"),
        (
            "[partition.a]\ndevice = 5\n",
            "bad.toml: [partition.a] pid: missing; an integer is needed",
        ),
    ],
)
def test_shapes_are_checked(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, Path("bad.toml"))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("devices", ["5", "[5]"])
def test_devices_are_tables(devices: str) -> None:
    text = PAIR[: PAIR.index("device = [")] + f"device = {devices}\n"
    with pytest.raises(
        ConfigError, match=r"\[partition.host\] device: .*5.* is not a "
    ):
        parse(text, SOURCE)


def test_files_must_be_there(tmp_path: Path) -> None:
    description = tmp_path / "pair.toml"
    description.write_text(PAIR)
    image = tmp_path / "images" / "vmlinux"
    with pytest.raises(ConfigError) as caught:
        load(description)
    assert str(caught.value) == f"pair.toml: {GUEST} kernel: there is no file {image}"
    image.parent.mkdir()
    image.write_bytes(b"")
    assert load(description).partitions[1].kernel == image


def test_description_must_be_readable(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    with pytest.raises(ConfigError) as caught:
        load(missing)
    assert str(caught.value) == f"{missing}: cannot be read: No such file or directory"
    missing.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read: it is not UTF-8"):
        load(missing)


EXAMPLES = Path(__file__).parents[3] / "examples"


def test_examples_describe_the_pair_and_the_host_of_the_pair() -> None:
    pair = load(EXAMPLES / "two-linuxes.toml")
    assert [(p.name, p.pid, p.base, p.size >> 20) for p in pair.partitions] == [
        ("host", 1, 0, 256),
        ("guest", 2, 0x1000_0000, 128),
    ]
    alone = load(EXAMPLES / "host-only.toml")
    assert alone.partitions == pair.partitions[:1]
    assert alone.epoch == pair.epoch


def test_examples_use_every_chip() -> None:
    pair = load(EXAMPLES / "two-linuxes.toml")
    assert {d.chip for p in pair.partitions for d in p.devices} == set(CHIPS)


MANY = "9" * 5000
EVERY_KEY = (
    *("machine.epoch", "machine.quantum_ms", "machine.gdb", "machine", "partition"),
    *("partition.guest", "partition.guest.pid", "partition.guest.base"),
    *("partition.guest.size", "partition.guest.kernel", "partition.guest.initrd"),
    *("partition.guest.cmdline", "partition.guest.entry", "partition.guest.interrupts"),
    *("partition.guest.device", "partition.guest.device.chip"),
    *("partition.guest.device.port", "partition.guest.device.irq"),
)
# Values of each type of TOML, at its edges: no key takes any of them
EVERY_VALUE = {
    "no integer": "1.5",
    "infinite": "-inf",
    "not a number": "nan",
    "true": "true",
    "negative": "-1",
    "wide": str(1 << 64),
    "wide in hex": f"0x{'f' * 5000}",
    "digits": MANY,
    "long": f'"{"x" * 100_000}"',
    "unprintable": '"\\u0000\\u001b[31m\\n"',
    "list": "[[[1, 2], []]]",
    "deep": "[" * 5000 + "]" * 5000,
    "table": "{ a = { b = 1 } }",
    "list of what is no table": f"[0x{'f' * 5000}]",
    "date": "2026-01-01",
    "time": "12:00:00",
    "first moment": "0001-01-01T00:00:00+23:59",
    "last moment": "9999-12-31T23:59:59-23:59",
}


def with_value(key: str, value: str) -> str:
    """A description in which a key has another value."""
    *tables, name = key.split(".")
    values: dict[str, dict[str, str]] = {
        "machine": {},
        "partition.guest": {
            "pid": "1",
            "base": "0",
            "size": "0x20_0000",
            "kernel": '"@guest"',
            "device": "[{ chip = 'uart', port = 0x2f8, irq = 3 }]",
        },
    }
    if tables[-1:] == ["device"]:
        row = {"chip": "'uart'", "port": "0x2f8", "irq": "3", name: value}
        fields = ", ".join(f"{k} = {v}" for k, v in row.items())
        values["partition.guest"]["device"] = f"[{{ {fields} }}]"
    elif tables:
        values.setdefault(".".join(tables), {})[name] = value
    kept = {n: rows for n, rows in values.items() if not f"{n}.".startswith(f"{key}.")}
    top = "" if tables else f"{name} = {value}\n"
    if key == "partition.guest":
        kept = {"partition": {"guest": value}}
    return top + "".join(
        f"[{table}]\n" + "".join(f"{k} = {v}\n" for k, v in rows.items())
        for table, rows in kept.items()
    )


@pytest.mark.parametrize("key", EVERY_KEY)
@pytest.mark.parametrize("kind", EVERY_VALUE)
def test_any_value_of_any_key_is_refused_in_one_line(key: str, kind: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(with_value(key, EVERY_VALUE[kind]), SOURCE)
    said = str(caught.value)
    assert said.startswith("pair.toml: ")
    assert said.isprintable()
    assert len(said) < 500
    if kind not in ("digits", "deep"):  # which TOML's reader does not get through
        assert key.rpartition(".")[2] in said


def test_the_values_are_what_is_wrong() -> None:
    assert parse(with_value("machine.quantum_ms", "4"), SOURCE)
    assert parse(with_value("partition.guest.device.irq", "3"), SOURCE)


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:59:59.999999+02:00", None),
        ("1970-01-01T02:00:00.5+02:00", 0),
        ("2099-12-31T23:59:59.9Z", 4_102_444_799),
        ("2100-01-01T00:00:00Z", None),
        ("2099-12-31T23:59:59-00:01", None),
    ],
)
def test_epochs_at_the_edge(moment: str, seconds: int | None) -> None:
    text = with_value("machine.epoch", moment)
    if seconds is None:
        with pytest.raises(ConfigError, match="is not within 1970 to 2099"):
            parse(text, SOURCE)
    else:
        assert parse(text, SOURCE).epoch == seconds


@pytest.mark.parametrize(
    ("devices", "interrupts", "message"),
    [
        ("{chip='portb'}", "hardware", '#1] chip: a "portb" is the pit\'s gate; add'),
        ("{chip='pic'}", "registered", "#1] chip: registered handlers get their"),
        *[
            (f"{{chip='uart',port={port:#x},irq=3}}", "registered", f"port: {port:#x}-")
            for port in (0xD9, 0xE0, 0xE1)
        ],
    ],
)
def test_devices_that_do_not_go_together(
    devices: str, interrupts: str, message: str
) -> None:
    text = with_value("partition.guest.interrupts", f"'{interrupts}'")
    uart = "{ chip = 'uart', port = 0x2f8, irq = 3 }"
    with pytest.raises(ConfigError) as caught:
        parse(text.replace(uart, devices), SOURCE)
    assert message in str(caught.value)


def test_a_number_that_is_too_long_is_found() -> None:
    text = PAIR.replace("pid = 2", f"pid = {MANY}")
    with pytest.raises(ConfigError) as caught:
        parse(text, SOURCE)
    line = text[: text.index(MANY)].count("\n") + 1
    assert f"line {line}: a number of 5000 digits" in str(caught.value)
