// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * All adopted engines, from the opening to the close.  What runs is found through `running`;
 * the list is for calls from outside a run, as when a hook is deleted.
 */
#include <pthread.h>

#include "engine.h"

__thread struct engine *running;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct engine *engines;	/* the youngest first: an address may be used again */

static int flush_tlb(struct engine *e)
{
	return original.ctl(e->uc, (int)CTL_TLB_FLUSH);
}

/*
 * Take charge of an engine that has just been opened: the library makes most of it now.
 * Which CPUState it has is learnt from a flush of its TLB; it has none afterwards if the
 * library's calls do not come here.
 */
int adopt(struct engine *engine, void *uc)
{
	int status;

	engine->uc = uc;
	status = contained(engine, flush_tlb);
	if (status || !engine->cpu)
		return status;
	pthread_mutex_lock(&lock);
	engine->next = engines;
	engines = engine;
	pthread_mutex_unlock(&lock);
	return 0;
}

static int start(struct engine *e)
{
	return original.emu_start(e->uc, e->rip, UINT64_MAX, 0, 0);
}

int run(struct engine *engine, uint64_t rip)
{
	engine->rip = rip;
	return contained(engine, start);
}

static int free_all(struct engine *e)
{
	return original.close(e->uc);
}

/* Free what the library has of it; DIED: of that, too, and the rest stays behind. */
int close_engine(struct engine *engine)
{
	return contained(engine, free_all);
}

void abandon(struct engine *engine)
{
	struct engine **place;

	pthread_mutex_lock(&lock);
	for (place = &engines; *place; place = &(*place)->next)
		if (*place == engine) {
			*place = engine->next;
			break;
		}
	pthread_mutex_unlock(&lock);
}

static struct engine *find(const void *uc, const void *cpu)
{
	struct engine *e;

	pthread_mutex_lock(&lock);
	for (e = engines; e; e = e->next)
		if (e->uc == uc || e->cpu == cpu)
			break;
	pthread_mutex_unlock(&lock);
	return e;
}

struct engine *find_by_cpu(const void *cpu)
{
	return find(NULL, cpu);
}

struct engine *find_by_uc(const void *uc)
{
	return find(uc, NULL);
}

void tlb_flush_x86_64(void *cpu)
{
	if (running && !running->cpu)
		running->cpu = cpu;
	original.flush(cpu);
}
