# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages that build modules for the host."""

from nanokernel_vm.build.host_headers import names


def test_the_packages_are_named_by_the_kernels_release() -> None:
    assert names("6.1.0-56-cloud-amd64") == (
        "linux-headers-6.1.0-56-cloud-amd64",
        "linux-headers-6.1.0-56-common",
        "linux-kbuild-6.1",
    )
