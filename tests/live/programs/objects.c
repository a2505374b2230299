// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Objects in the life of a process: what gdb watches and where it stops.  Static, and not
 * position independent, so that addresses are the file's.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile char late[1 << 20] __attribute__((aligned(4096)));
volatile long shared = 1;

#define PLACE(name) __attribute__((noinline, used)) void name(void) { asm volatile("") ; }
PLACE(before_touch)
PLACE(after_touch)
PLACE(before_fork)
PLACE(after_fork)

/* A page that nothing has touched before. */
static __attribute__((noinline)) void touch(void)
{
	before_touch();
	late[0x80000] = 7;
	late[0x80000] = 8;
	after_touch();
}

/* Copy on write: the parent's stores go to a page of its own after the first. */
static __attribute__((noinline)) void split(void)
{
	pid_t child;

	shared = 2;
	before_fork();
	child = fork();
	if (!child)
		pause();
	shared = 3;
	shared = 4;
	after_fork();
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void caught(int signal)
{
	(void)signal;
	write(1, "jumped\n", 7);
	_exit(0);
}

/* A jump to where nothing is. */
static __attribute__((noinline)) void jump(void)
{
	void (*volatile nowhere)(void) = NULL;

	signal(SIGSEGV, caught);
	nowhere();
}

int main(int count, char **words)
{
	if (count < 2)
		return 2;
	if (!strcmp(words[1], "touch"))
		touch();
	if (!strcmp(words[1], "split"))
		split();
	if (!strcmp(words[1], "jump"))
		jump();
	return 0;
}
