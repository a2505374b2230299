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

static void enter(struct engine *e)
{
	arm();
	e->landing.outside = 0;
	e->landing.locating = false;
	e->landing.death.cause = 0;
	running = e;
}

/* uc_emu_start()'s status; -1: it died */
int run(struct engine *engine, uint64_t rip)
{
	volatile int status = -1;

	enter(engine);
	if (!sigsetjmp(engine->landing.jump, 0))
		status = original.emu_start(engine->uc, rip, UINT64_MAX, 0, 0);
	running = NULL;
	return status;
}

/* Free what the library has of the engine; false if that died, too: the rest stays behind. */
bool close_engine(struct engine *engine)
{
	volatile bool closed = false;

	enter(engine);
	if (!sigsetjmp(engine->landing.jump, 0)) {
		original.close(engine->uc);
		closed = true;
	}
	running = NULL;
	return closed;
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
