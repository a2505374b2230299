# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors of the machine that a user can cause; each message says what to do.

* MachineError
    * ConfigError: machine.toml is wrong (file, table and key named)
    * BusError: two devices claim one port
    * LoadError: a kernel or initrd cannot be loaded
    * BuildError: a download, a tool or a kernel build failed
    * EngineError: the installed Unicorn is not the one this machine knows

Faults of a guest are values, never exceptions; anything else that is raised is a bug.
"""


class MachineError(Exception):
    """Base of all errors whose text is meant for the user."""


class ConfigError(MachineError):
    """The machine description is wrong."""


class BusError(MachineError):
    """Devices overlap on a bus."""


class LoadError(MachineError):
    """An image does not fit or is not what it should be."""


class BuildError(MachineError):
    """An artifact could not be made."""


class EngineError(MachineError):
    """The emulator library is not one that this machine can drive."""
