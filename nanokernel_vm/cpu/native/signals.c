// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Faults of the library's code, of the code that it makes, and of this module's, in a thread
 * that runs an engine.  All others are passed on, as if nobody had been here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "engine.h"

#define STACK (64 << 10)
#define DEPTH 64	/* frames between a fault and the code that was made of a guest's */

static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };
#define SIGNALS (sizeof(signals) / sizeof(*signals))
static struct sigaction before[SIGNALS];	/* whose turn it is when it is not ours */
static bool passed_on[SIGNALS];

struct range {
	uintptr_t start, end;
};
static struct range library_code, own_code;

static bool within(struct range range, uintptr_t pc)
{
	return range.start <= pc && pc < range.end;
}

static bool is_made(const struct translation *t, uintptr_t pc)
{
	return t->low && within((struct range){ t->low, t->high + LARGEST_BLOCK }, pc);
}

static bool is_engine(const struct engine *e, uintptr_t pc)
{
	return within(library_code, pc) || within(own_code, pc) || is_made(&e->translation, pc);
}

/*
 * Where in the block a call from made code returned to.  The slow path of a load stands behind
 * all instructions' code and calls from there; the instruction's own place is what it hands
 * over last (tcg/i386/tcg-target.inc.c, tcg_out_qemu_ld_slow_path: lea place(%rip), %rcx).
 */
static uintptr_t place_of(const struct translation *t, uintptr_t call)
{
	const uint8_t *code = (const uint8_t *)call - (((const uint8_t *)call)[-5] == 0xE8 ? 5 : 6);
	int32_t offset;
	uintptr_t place;

	if (code[-7] != 0x48 || code[-6] != 0x8D || code[-5] != 0x0D)
		return call;
	memcpy(&offset, code - 4, sizeof(offset));
	place = (uintptr_t)code + offset;
	return is_made(t, place) && place < call ? place : call;
}

/*
 * Let the processor's state be that before the instruction that was being executed: made
 * code keeps rip and flags up to date only where it must.
 */
static void locate(struct engine *e, uintptr_t pc)
{
	void *frames[DEPTH];
	int n, count;

	if (e->landing.locating || e->translation.block)
		return;
	e->landing.locating = true;
	if (is_made(&e->translation, pc)) {
		original.restore_state(e->cpu, pc + GETPC_ADJ, true);
		return;
	}
	count = backtrace(frames, DEPTH);
	for (n = 0; n < count; n++)
		if (is_made(&e->translation, (uintptr_t)frames[n])) {
			pc = place_of(&e->translation, (uintptr_t)frames[n]);
			original.restore_state(e->cpu, pc, true);
			return;
		}
}

/*
 * Where the fault is the engine's: its code, or what that called where there is no code.  In
 * the second case the call is taken back, so that its place can be found.
 */
static bool in_engine(const struct engine *e, greg_t *registers, uintptr_t address)
{
	uintptr_t pc = registers[REG_RIP], caller;

	if (is_engine(e, pc))
		return true;
	caller = *(uintptr_t *)registers[REG_RSP];
	if (pc != address || !is_engine(e, caller))
		return false;
	registers[REG_RIP] = caller;
	registers[REG_RSP] += sizeof(caller);
	return true;
}

static void pass_on(size_t n, const siginfo_t *info)
{
	struct sigaction standard = { .sa_handler = SIG_DFL };

	sigaction(signals[n], passed_on[n] ? &standard : &before[n], NULL);
	passed_on[n] = true;
	if (info->si_code <= 0)
		raise(signals[n]);	/* nothing else brings it again: it was sent */
}

static void on_fault(int number, siginfo_t *info, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	uintptr_t pc = registers[REG_RIP], address = (uintptr_t)info->si_addr;
	struct engine *e = running;
	size_t n = 0;

	if (e && !e->landing.outside && info->si_code > 0 && in_engine(e, registers, address)) {
		locate(e, registers[REG_RIP]);
		land(number, pc, address);
	}
	while (signals[n] != number)
		n++;
	pass_on(n, info);
}

/* Others may have taken a signal since the last run, as Python's faulthandler does. */
static void take_signals(void)
{
	struct sigaction ours = { .sa_sigaction = on_fault,
				  .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	struct sigaction found;
	size_t n;

	for (n = 0; n < SIGNALS; n++) {
		sigaction(signals[n], NULL, &found);
		if (found.sa_flags & SA_SIGINFO && found.sa_sigaction == on_fault)
			continue;
		before[n] = found;
		passed_on[n] = false;
		sigaction(signals[n], &ours, NULL);
	}
}

/* A thread may fault for want of stack: give it another one for its handlers. */
static pthread_key_t stacks;
static __thread bool prepared;

static void free_stack(void *stack)
{
	stack_t none = { .ss_flags = SS_DISABLE };

	sigaltstack(&none, NULL);
	free(stack);
}

static void prepare_thread(void)
{
	stack_t found, ours = { .ss_size = STACK };

	if (prepared)
		return;
	prepared = true;
	if (sigaltstack(NULL, &found) || !(found.ss_flags & SS_DISABLE))
		return;
	ours.ss_sp = malloc(STACK);
	if (ours.ss_sp && !sigaltstack(&ours, NULL))
		pthread_setspecific(stacks, ours.ss_sp);
}

/* Get ready for a run in this thread. */
void arm(void)
{
	prepare_thread();
	take_signals();
}

struct wanted {
	uintptr_t base;
	struct range *code;
};

static int find_segment(struct dl_phdr_info *info, size_t size, void *data)
{
	struct wanted *wanted = data;
	int n;

	(void)size;
	if (info->dlpi_addr != wanted->base)
		return 0;
	for (n = 0; n < info->dlpi_phnum; n++)
		if (info->dlpi_phdr[n].p_type == PT_LOAD && info->dlpi_phdr[n].p_flags & PF_X) {
			wanted->code->start = info->dlpi_addr + info->dlpi_phdr[n].p_vaddr;
			wanted->code->end = wanted->code->start + info->dlpi_phdr[n].p_memsz;
		}
	return 1;
}

static bool find_segment_of(uintptr_t base, struct range *code)
{
	struct wanted wanted = { base, code };

	return dl_iterate_phdr(find_segment, &wanted) && code->end;
}

/* Where the library's code and this module's lie; false if that is not to be seen. */
bool find_code(void *library)
{
	struct link_map *map;
	Dl_info own;

	void *frame;

	backtrace(&frame, 1);	/* the first call loads what it needs: not in a handler */
	if (dlinfo(library, RTLD_DI_LINKMAP, &map) || !dladdr((void *)find_code, &own))
		return false;
	return !pthread_key_create(&stacks, free_stack) &&
	       find_segment_of(map->l_addr, &library_code) &&
	       find_segment_of((uintptr_t)own.dli_fbase, &own_code);
}
