// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Raises the exceptions that a program can raise, one after another, without end;
 * and survives them.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf survived;

static void divide(void)
{
	asm volatile("xor %%ecx, %%ecx; xor %%edx, %%edx; div %%ecx"
		     : : : "rax", "rcx", "rdx");
}

static void debug(void)
{
	asm volatile("pushf; orl $0x100, (%%rsp); popf; nop" : : : "memory", "cc");
}

static void breakpoint(void)
{
	asm volatile("int3");
}

static void invalid(void)
{
	asm volatile("ud2");
}

static void protection(void)
{
	asm volatile("hlt");
}

static void page(void)
{
	*(volatile char *)8 = 1;
}

static void floating(void)
{
	unsigned short control = 0x37b;	/* division by zero is not masked */

	asm volatile("fninit; fldcw %0; fld1; fldz; fdivrp; fwait" : : "m" (control));
}

static void spoil(int number, siginfo_t *info, void *context)
{
	ucontext_t *at = context;

	(void)number, (void)info;
	at->uc_mcontext.gregs[REG_CSGSFS] &= ~0xffffL;
	at->uc_mcontext.gregs[REG_CSGSFS] |= 0x3b;	/* no code segment: IRET faults */
}

static void bad_return(void)
{
	kill(getpid(), SIGUSR1);
}

static void old_call(void)
{
	asm volatile("int $0x80" : : "a" (20) : "r8", "r9", "r10", "r11");
}

static void (*const all[])(void) = {
	divide, debug, breakpoint, invalid, protection, page,
	floating, bad_return, old_call,
};

static void survive(int number)
{
	(void)number;
	siglongjmp(survived, 1);
}

int main(void)
{
	static const int signals[] = {
		SIGFPE, SIGTRAP, SIGILL, SIGSEGV, SIGBUS,
	};
	static char other[65536];
	stack_t there = { .ss_sp = other, .ss_size = sizeof(other) };
	struct sigaction act = {
		.sa_handler = survive, .sa_flags = SA_NODEFER | SA_ONSTACK,
	};

	sigaltstack(&there, NULL);
	for (unsigned i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		sigaction(signals[i], &act, NULL);
	act.sa_sigaction = spoil;
	act.sa_flags = SA_SIGINFO;
	sigaction(SIGUSR1, &act, NULL);
	puts("trapping");
	fflush(stdout);
	for (;;)
		for (unsigned i = 0; i < sizeof(all) / sizeof(*all); i++)
			if (!sigsetjmp(survived, 1))
				all[i]();
}
