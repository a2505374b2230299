// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * All adopted engines.  What runs is found through `running`; the list is for calls from
 * outside a run, as when a hook is deleted.
 */
#include <pthread.h>

#include "engine.h"

__thread struct engine *running;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct engine *engines;	/* the youngest first: an address may be used again */
static __thread struct engine *adopting;

/*
 * Learn which CPUState an engine has: it is the one whose TLB the library flushes when
 * the engine's is to be flushed.  False if the library's calls do not come here.
 */
bool adopt(struct engine *engine, void *uc)
{
	engine->uc = uc;
	adopting = engine;
	original.ctl(uc, (int)CTL_TLB_FLUSH);
	adopting = NULL;
	if (!engine->cpu)
		return false;
	pthread_mutex_lock(&lock);
	engine->next = engines;
	engines = engine;
	pthread_mutex_unlock(&lock);
	return true;
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
	if (adopting)
		adopting->cpu = cpu;
	original.flush(cpu);
}
