// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * As init, 32 bits and no library: system calls by INT 0x80 and by the vDSO, which is SYSENTER
 * on a processor of Intel's; a signal, its return, and one that a #UD is the cause of.
 */
#include <stddef.h>
#include <stdint.h>

#define SYS_write 4
#define SYS_getpid 20
#define SYS_pause 29
#define SYS_kill 37
#define SYS_rt_sigaction 174
#define SIGILL 4
#define SIGUSR1 10
#define AT_SYSINFO 32
#define SA_SIGINFO 4

struct action {
	void (*handler)(int, void *, void *);
	unsigned long flags;
	void (*restorer)(void);
	unsigned long mask[2];
};

static uint32_t vdso;
static volatile int caught;

static long by_interrupt(long number, long a, long b, long c, long d)
{
	long value;

	asm volatile("int $0x80"
		     : "=a"(value)
		     : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d)
		     : "memory");
	return value;
}

static long by_vdso(long number, long a, long b, long c, long d)
{
	long value;

	asm volatile("call *%6"
		     : "=a"(value)
		     : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(vdso)
		     : "memory");
	return value;
}

static void say(const char *text)
{
	size_t length = 0;

	while (text[length])
		length++;
	by_interrupt(SYS_write, 1, (long)text, length, 0);
}

static void check(const char *what, int good)
{
	say(what);
	say(good ? ": good\n" : ": bad\n");
}

static void on_signal(int number, void *info, void *context)
{
	uint32_t *registers = (uint32_t *)context + 5;	/* struct ucontext, uc_mcontext */

	(void)info;
	caught = number;
	if (number == SIGILL)
		registers[14] += 2;	/* eip, behind UD2 */
}

static int handles(int number)
{
	struct action action = { on_signal, SA_SIGINFO, NULL, { 0, 0 } };

	return by_vdso(SYS_rt_sigaction, number, (long)&action, 0, 8) == 0;
}

asm(".globl _start\n_start: mov %esp, %eax\n\tand $-16, %esp\n\tsub $12, %esp\n\tpush %eax\n\tcall run\n");

__attribute__((used)) void run(uint32_t *stack)
{
	uint32_t i = stack[0] + 2, before, after;
	long pid;

	while (stack[i++])
		;
	for (; stack[i]; i += 2)
		if (stack[i] == AT_SYSINFO)
			vdso = stack[i + 1];
	pid = by_interrupt(SYS_getpid, 0, 0, 0, 0);
	check("int 0x80", pid == 1);
	check("vdso", vdso != 0);
	asm volatile("mov %%esp, %0" : "=r"(before));
	check("sysenter", by_vdso(SYS_getpid, 0, 0, 0, 0) == pid);
	asm volatile("mov %%esp, %0" : "=r"(after));
	check("stack", before == after);
	for (i = 0; i < 1000; i++)
		if (by_vdso(SYS_write, -1, 0, 0, 0) != -9)
			break;
	check("a thousand", i == 1000);
	check("sigaction", handles(SIGUSR1) && handles(SIGILL));
	by_vdso(SYS_kill, pid, SIGUSR1, 0, 0);
	check("signal", caught == SIGUSR1);
	asm volatile("ud2");
	check("fault", caught == SIGILL);
	say("program done\n");
	for (;;)
		by_vdso(SYS_pause, 0, 0, 0, 0);
}
