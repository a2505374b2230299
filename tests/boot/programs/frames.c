// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The first and only program of a guest: does on request what moves and rewrites
 * interrupt frames, a given number of times, and says what it has done.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static void require(int fine, const char *what)
{
	if (!fine) {
		printf("FAILED: %s\n", what);
		for (;;)
			pause();
	}
}

static int collect(pid_t child)
{
	int status;

	require(child > 0, "fork");
	require(waitpid(child, &status, 0) == child, "waitpid");
	return status;
}

static long do_fork(long n)
{
	long done = 0;

	while (done < n) {
		pid_t child = fork();

		if (!child)
			_exit(7);
		done += collect(child) == 7 << 8;
	}
	return done;
}

static long do_exec(long n)
{
	char *argv[] = { "leave", NULL };
	long done = 0;

	while (done < n) {
		pid_t child = fork();

		if (!child) {
			execv("/leave", argv);
			_exit(1);
		}
		done += collect(child) == 42 << 8;
	}
	return done;
}

static volatile long handled;

static void count(int number)
{
	(void)number;
	handled++;
}

static long do_signal(long n)
{
	signal(SIGUSR1, count);
	handled = 0;
	for (long i = 0; i < n; i++)
		kill(getpid(), SIGUSR1);
	return handled;
}

static void *thread(void *arg)
{
	return arg;
}

static long do_thread(long n)
{
	long done = 0;

	while (done < n) {
		pthread_t id;
		void *result;

		require(!pthread_create(&id, NULL, thread, &done), "pthread_create");
		require(!pthread_join(id, &result), "pthread_join");
		done += result == &done;
	}
	return done;
}

static long do_pingpong(long n)
{
	int there[2], back[2];
	long done = 0;
	char ball = 0;
	pid_t child;

	require(!pipe(there) && !pipe(back), "pipe");
	child = fork();
	if (!child) {
		close(there[1]);
		while (read(there[0], &ball, 1) == 1)
			if (write(back[1], &ball, 1) != 1)
				_exit(1);
		_exit(0);
	}
	while (done < n && write(there[1], &ball, 1) == 1 && read(back[0], &ball, 1) == 1)
		done++;
	close(there[0]);
	close(there[1]);
	require(collect(child) == 0, "the other player");
	close(back[0]);
	close(back[1]);
	return done;
}

static long do_touch(long n)
{
	long page = sysconf(_SC_PAGESIZE), done = 0;
	struct rusage before, after;
	char *memory = mmap(NULL, n * page, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	require(memory != MAP_FAILED, "mmap");
	getrusage(RUSAGE_SELF, &before);
	while (done < n)
		((volatile char *)memory)[page * done++] = 1;
	getrusage(RUSAGE_SELF, &after);
	munmap(memory, n * page);
	return after.ru_minflt - before.ru_minflt;
}

static void skip(int number, siginfo_t *info, void *context)
{
	ucontext_t *at = context;

	(void)number, (void)info;
	handled++;
	at->uc_mcontext.gregs[REG_RIP] += 2;
}

static void on_fault(int number, void (*action)(int, siginfo_t *, void *))
{
	struct sigaction act = { .sa_sigaction = action, .sa_flags = SA_SIGINFO };

	sigaction(number, &act, NULL);
}

static long do_fault(long n)
{
	on_fault(SIGSEGV, skip);
	handled = 0;
	for (long i = 0; i < n; i++)
		asm volatile("movb %%al, (%%rdx)" : : "d" (0L) : "memory");
	return handled;
}

static long do_trap(long n)
{
	signal(SIGTRAP, count);
	handled = 0;
	for (long i = 0; i < n; i++)
		asm volatile("int3" : : : "memory");
	return handled;
}

static long do_invalid(long n)
{
	on_fault(SIGILL, skip);
	handled = 0;
	for (long i = 0; i < n; i++)
		asm volatile("ud2" : : : "memory");
	return handled;
}

static void spoil(int number, siginfo_t *info, void *context)
{
	ucontext_t *at = context;

	(void)number, (void)info;
	at->uc_mcontext.gregs[REG_CSGSFS] &= ~0xffffL;
	at->uc_mcontext.gregs[REG_CSGSFS] |= 0x3b;	/* no code segment */
}

/* Each child returns from a handler to a code segment that is none: IRET faults. */
static long do_badreturn(long n)
{
	long done = 0;

	while (done < n) {
		pid_t child = fork();

		if (!child) {
			signal(SIGSEGV, SIG_DFL);
			on_fault(SIGUSR1, spoil);
			kill(getpid(), SIGUSR1);
			_exit(0);
		}
		done += WTERMSIG(collect(child)) == SIGSEGV;
	}
	return done;
}

/* A traced child's flags are set while it is stopped. */
static long do_ptrace(long n)
{
	long done = 0;

	while (done < n) {
		struct user_regs_struct regs;
		pid_t child = fork();
		int status;

		if (!child) {
			ptrace(PTRACE_TRACEME, 0, NULL, NULL);
			kill(getpid(), SIGSTOP);
			_exit(3);
		}
		require(waitpid(child, &status, 0) == child && WIFSTOPPED(status), "stop");
		ptrace(PTRACE_GETREGS, child, NULL, &regs);
		regs.eflags ^= 1;	/* carry */
		ptrace(PTRACE_SETREGS, child, NULL, &regs);
		ptrace(PTRACE_CONT, child, NULL, NULL);
		done += collect(child) == 3 << 8;
	}
	return done;
}

/* One child, stepped. */
static long do_step(long n)
{
	long done = 0;
	pid_t child = fork();
	int status;

	if (!child) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		kill(getpid(), SIGSTOP);
		for (volatile long i = 0; i < n; i++)
			;
		_exit(3);
	}
	require(waitpid(child, &status, 0) == child && WIFSTOPPED(status), "stop");
	while (done < n) {
		ptrace(PTRACE_SINGLESTEP, child, NULL, NULL);
		require(waitpid(child, &status, 0) == child && WIFSTOPPED(status) &&
			WSTOPSIG(status) == SIGTRAP, "step");
		done++;
	}
	ptrace(PTRACE_CONT, child, NULL, NULL);
	require(collect(child) == 3 << 8, "end of the stepped child");
	return done;
}

static const struct {
	const char *name;
	long (*run)(long n);
} phases[] = {
	{ "fork", do_fork }, { "exec", do_exec }, { "signal", do_signal },
	{ "thread", do_thread }, { "pingpong", do_pingpong }, { "touch", do_touch },
	{ "fault", do_fault }, { "trap", do_trap }, { "invalid", do_invalid },
	{ "badreturn", do_badreturn }, { "ptrace", do_ptrace },
	{ "step", do_step },
};

int main(void)
{
	char line[80], name[40];
	long n;

	setvbuf(stdout, NULL, _IONBF, 0);
	printf("ready\n");
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%39s %ld", name, &n) != 2)
			continue;
		for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
			if (!strcmp(name, phases[i].name))
				printf("did %s %ld\nready\n", name, phases[i].run(n));
	}
	return 0;
}
