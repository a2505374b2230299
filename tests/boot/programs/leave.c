// SPDX-License-Identifier: GPL-2.0-or-later
/* The smallest program: exit(42). */
void _start(void)
{
	asm volatile("syscall" : : "a" (60), "D" (42) : "rcx", "r11");
	__builtin_unreachable();
}
