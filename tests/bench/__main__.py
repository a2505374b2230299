# SPDX-License-Identifier: GPL-2.0-or-later
"""Print the table: our figure beside each peer's, as measured in this run."""

import shutil
from collections.abc import Callable
from statistics import median

from nanokernel_vm import build
from tests.bench import peers, plain_guest
from tests.bench.packets import Figures

BOOTS = 5

_ROWS: tuple[tuple[str, Callable[[Figures], float], str], ...] = (
    ("g, median us", lambda f: f.g_us, "at most 100"),
    ("8-byte m, median us", lambda f: f.m8_us, "at most 100"),
    ("m, MB/s", lambda f: f.read_mb_s, "at least 40"),
    ("raw steps/s", lambda f: f.steps_s, "at least 10,000"),
    ("  of a sleeping client", lambda f: f.slept_steps_s, ""),
)


def boots() -> None:
    """Boot the stock kernel to its shell, ours and QEMU's in turn."""
    if shutil.which("qemu-system-x86_64") is None:
        print("boot: qemu-system-x86_64 is not installed")
        return
    peers.boot_seconds(peers.ours_boot())  # the page cache is warm for both
    pairs = [
        (peers.boot_seconds(peers.ours_boot()), peers.boot_seconds(peers.qemu()))
        for _ in range(BOOTS)
    ]
    ratio = median(ours / theirs for ours, theirs in pairs)
    for name, index in (("ours", 0), ("QEMU TCG", 1)):
        times = sorted(pair[index] for pair in pairs)
        print(f"boot to shell, {name:9} {median(times):6.2f} s  ", end="")
        print(f"({times[0]:.2f} to {times[-1]:.2f})")
    print(f"ours / QEMU: {ratio:.2f}  (at most 1.5)")


def packets() -> None:
    """Time packets on every server there is."""
    servers = {
        "ours": peers.ours(),
        "QEMU": peers.qemus(),
        "gdbserver": peers.gdbservers(),
        "udbserver": peers.udbservers(),
    }
    print(f"{'':24}" + "".join(f"{name:>12}" for name in servers))
    for title, figure, aim in _ROWS:
        cells = "".join(
            f"{figure(f):12.1f}" if f else f"{'-':>12}" for f in servers.values()
        )
        print(f"{title:24}{cells}   {aim}")


def frames() -> None:
    """Boot the guest to its shell with extended frames and without, in turn."""
    kernels = {"extended": build.ensure("guest"), "plain": plain_guest.kernel()}
    times: dict[str, list[float]] = {name: [] for name in kernels}
    for _ in range(BOOTS):
        for name, kernel in kernels.items():
            times[name].append(plain_guest.boot_seconds(kernel))
    ratio = median(
        ours / theirs
        for ours, theirs in zip(times["extended"], times["plain"], strict=True)
    )
    for name, seconds in times.items():
        print(f"guest to shell, {name} frames {median(seconds):6.2f} s  ", end="")
        print(f"({min(seconds):.2f} to {max(seconds):.2f})")
    print(f"extended / plain: {ratio:.2f}  (at most 1.3)")


boots()
frames()
packets()
