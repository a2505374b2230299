// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * As init or any other program, with no library: execute each of the instructions that are linked in, and print
 * "U" for one that is #UD, "R" for one that is refused otherwise, "W" for one that works.
 *
 * Each has 32 bytes, filled up with HLT, which a program may not execute: the fault that
 * follows tells how far it came.  Before that, what CPUID answers is printed: EAX, ECX, then
 * the four registers, in hexadecimal.
 */
#include <cpuid.h>
#include <stddef.h>
#include <stdint.h>

#define SLOT 32
#define SYS_write 1
#define SYS_rt_sigaction 13
#define SYS_pause 34
#define SYS_getpid 39
#define SYS_exit 60
#define SIGILL 4
#define SIGTRAP 5
#define SIGBUS 7
#define SIGFPE 8
#define SIGSEGV 11
#define SA_SIGINFO 4
#define SA_RESTORER 0x04000000
#define SA_NODEFER 0x40000000

/* arch/x86/include/uapi/asm/sigcontext.h, its beginning, within struct ucontext */
struct ucontext {
	uint64_t flags, link, stack[3];
	uint64_t r8[8], di, si, bp, bx, dx, ax, cx, sp, ip;
};

struct action {
	void (*handler)(int, void *, struct ucontext *);
	unsigned long flags;
	void (*restorer)(void);
	unsigned long mask;
};

extern char slots[], slots_end[];	/* of the instructions */
extern char displacement[];		/* of their operand from a page's beginning */
extern char resume[];
void restorer(void);
void execute(void *slot, void *memory);

static char memory[8192] __attribute__((aligned(4096)));
static char results[1024];	/* printed at once: the kernel reports faults meanwhile */
static char result;
static void *running;

static long call(long number, long a, long b, long c, long d)
{
	register long r10 asm("r10") = d;
	long value;

	asm volatile("syscall"
		     : "=a"(value)
		     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
		     : "rcx", "r11", "memory");
	return value;
}

static void print(const char *text, size_t length)
{
	call(SYS_write, 1, (long)text, length, 0);
}

static void number(uint32_t value, char last)
{
	char text[9];
	int i;

	for (i = 0; i < 8; i++)
		text[i] = "0123456789abcdef"[value >> (28 - 4 * i) & 15];
	text[8] = last;
	print(text, sizeof(text));
}

static void cpuid(uint32_t leaf, uint32_t subleaf)
{
	uint32_t a, b, c, d;

	__cpuid_count(leaf, subleaf, a, b, c, d);
	print("cpuid ", 6);
	number(leaf, ' ');
	number(subleaf, ' ');
	number(a, ' ');
	number(b, ' ');
	number(c, ' ');
	number(d, '\n');
}

static void on_signal(int signal, void *info, struct ucontext *context)
{
	(void)info;
	if ((void *)context->ip != running)
		result = 'W';
	else
		result = signal == SIGILL ? 'U' : 'R';
	context->ip = (uint64_t)resume;
	context->sp = context->bp;
}

asm("restorer: mov $15, %eax\n\tsyscall\n"
    "execute: push %rbx\n\tpush %rbp\n\tpush %r12\n\tpush %r13\n\tpush %r14\n\tpush %r15\n\t"
    "mov %rsp, %rbp\n\tmov %rsi, %rax\n\tmov %rsi, %rdx\n\tmov %rdi, %r8\n\tmov %rsi, %rdi\n\t"
    "mov %rsi, %rbx\n\txor %ecx, %ecx\n\tjmp *%r8\n"
    "resume: fninit\n\tpop %r15\n\tpop %r14\n\tpop %r13\n\tpop %r12\n\tpop %rbp\n\tpop %rbx\n\t"
    "cld\n\tret\n"
    ".globl _start\n_start: and $-16, %rsp\n\tcall run\n");

__attribute__((used)) static void run(void)
{
	static const int signals[] = { SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV };
	static const uint32_t leaves[] = { 0, 1, 2, 4, 5, 6, 7, 0xB, 0xD, 0x14, 0x80000000, 0x80000001,
					   0x80000008, 0x8000FFFF };
	struct action action = { on_signal, SA_SIGINFO | SA_RESTORER | SA_NODEFER, restorer, 0 };
	size_t i, subleaf;
	char *slot;

	for (i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		call(SYS_rt_sigaction, signals[i], (long)&action, 0, 8);
	for (i = 0; i < sizeof(leaves) / sizeof(*leaves); i++)
		for (subleaf = 0; subleaf < 3; subleaf++)
			cpuid(leaves[i], subleaf);
	for (slot = slots, i = 0; slot < slots_end && i < sizeof(results); slot += SLOT) {
		running = slot;
		execute(slot, memory + (uintptr_t)displacement);
		results[i++] = result;
	}
	print("results ", 8);
	print(results, i);
	print("\nprogram done\n", 14);
	while (call(SYS_getpid, 0, 0, 0, 0) == 1)
		call(SYS_pause, 0, 0, 0, 0);
	call(SYS_exit, 0, 0, 0, 0);
}
