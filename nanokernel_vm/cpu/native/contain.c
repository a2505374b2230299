// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A run of an engine that the process outlives.  Whatever ends the library in there, a call
 * of abort() or exit() or a fault of its code or of the code that it made, ends the run; the
 * engine is then good for nothing but to be looked at and closed.
 *
 * Not so where a jump would leave something of others undone: in a callback into Python, in
 * the C library (whose heap may be what is broken), in any other thread.
 */
#include "engine.h"

/* What `work` returns; DIED: it did not, see `death`. */
int contained(struct engine *e, int (*work)(struct engine *))
{
	struct landing *l = &e->landing;
	volatile int status = DIED;

	arm();
	l->outside = 0;
	l->locating = false;
	l->death.cause = 0;
	running = e;
	if (!sigsetjmp(l->jump, 0))
		status = work(e);
	running = NULL;
	return status;
}

/*
 * Code for a whole block could not be made.  Which instruction is to blame is seen when each
 * is a block of its own: the one that fails alone.  Nothing of the block has been executed.
 */
static bool try_one_by_one(struct engine *e)
{
	struct translation *t = &e->translation;

	if (!t->block || t->count < 2)
		return false;
	t->careful = t->count;
	return true;
}

void land(int cause, uintptr_t host_pc, uintptr_t address)
{
	struct engine *e = running;
	struct translation *t = &e->translation;

	if (cause == ABORTED && try_one_by_one(e))
		original.loop_exit_noexc(e->cpu);
	e->landing.death = (struct death){
		.cause = cause,
		.translating = t->block,
		.at = t->active ? t->instruction.pc : t->first,
		.host_pc = host_pc,
		.address = address,
	};
	siglongjmp(e->landing.jump, 1);
}
