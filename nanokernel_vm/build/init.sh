#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The first process of both partitions.  The kernel command line's partition=NAME
# arrives here as an environment variable.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

: "${partition:=linux}"
hostname "$partition"
export HOME=/root TERM=vt102 PS1="$partition# "
cd /root

echo "nanokernel: $partition ready, Linux $(uname -r)"
while :; do
	# cttyhack opens the real console, so that Ctrl-C and job control work
	setsid cttyhack sh
done
