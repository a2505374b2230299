# SPDX-License-Identifier: GPL-2.0-or-later
from nanokernel_vm.nanokernel.log import LENGTH, Delivered, Log, Violation


def test_the_logs_are_bounded_and_the_counts_are_not() -> None:
    log = Log()
    for n in range(LENGTH + 10):
        log.delivery(Delivered(n, 0x20, 0, 0, 0, 0))
        log.violation(Violation(n, "port", 0x80, 1, None, 0))
    assert len(log.deliveries) == len(log.violations) == LENGTH
    assert log.delivered == log.violated == LENGTH + 10
    assert log.deliveries[0].time == log.violations[0].time == 10
    assert log.deliveries[-1].time == log.violations[-1].time == LENGTH + 9
