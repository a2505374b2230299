/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What this module knows of one engine.  Nothing of it is shared between engines, and
 * nothing is known of an engine that nobody has adopted: Unicorn's own behaviour is left
 * to those.
 *
 * A thread runs one engine at a time and an engine is run by one thread at a time; several
 * threads may each run one.  What is in here belongs to the thread that runs the engine or,
 * between runs, to the one that uses it.
 */
#ifndef NK_ENGINE_H
#define NK_ENGINE_H

#include <setjmp.h>

#include "account.h"
#include "decode.h"
#include "library.h"
#include "stops.h"
#include "ticker.h"

/* pages.c: the rule by which stores find translated code, by physical page */
struct pages {
	uint8_t *fetched;	/* set of pages that have ever been fetched from */
	uint8_t *translated;	/* set of pages with translated code, perhaps */
	uint8_t *dirty;		/* set of pages to which stores may be fast somewhere */
	enum { UNKNOWN, DATA, FETCH } access_now;
	uint64_t looked_up;	/* the last physical address asked for */
};

/* translate.c: the block that is being translated, and the instruction */
struct translation {
	bool block;		/* from its first instruction to its last byte of host code */
	bool active;		/* an instruction */
	bool judged;		/* whether it has been read, and what is undefined replaced */
	bool aligned;		/* whether its next access must be aligned to 16 bytes */
	uint64_t first;		/* linear address of the block */
	unsigned count;		/* instructions, this one included */
	unsigned careful;	/* blocks yet to be translated one instruction at a time */
	bool follows;		/* another instruction of the same block */
	bool cut;		/* it begins a new block instead */
	bool counted;		/* the block counts its entries, and asks there whether to stop */
	uint32_t hflags;
	struct instruction instruction;
	translate_fn *translate_insn;
	uintptr_t low, high;	/* where host code has been put: TranslationBlocks lie in between */
};

#define DIED (-1)		/* in the place of one of the library's status values */

/* contain.c: what a call of the library died of */
enum { ABORTED = -1, EXITED = -2 };

struct death {
	int cause;		/* a signal's number, ABORTED, EXITED; 0: it lives */
	bool translating;
	uint64_t at;		/* linear address of what was translated, instruction or block */
	uintptr_t host_pc;
	uintptr_t address;	/* that a signal is about; the status of an exit */
};

struct landing {
	sigjmp_buf jump;
	int outside;		/* depth of callbacks into Python: no jump over those */
	bool locating;		/* the instruction; a fault in that is let be */
	struct death death;
};

/* watch.c: what is watched */
struct watch {
	uint64_t begin, length;	/* linear */
	int kinds;		/* BP_MEM_READ | BP_MEM_WRITE */
	uint64_t home;		/* CR3 when it was set */
	size_t pages;
	uint64_t *places;	/* physical page of each, as it was last seen; NOWHERE */
};

struct watches {
	struct watch *rows;
	size_t count;
	uint64_t filling;	/* physical page that enters the TLB */
	uint64_t load, load_end;	/* the load that is being done ... */
	uintptr_t loading;	/* ... and where in translated code; 0: none */
	/* physical memory: `ram` is the place of address 0, base and size are the engine's */
	uint8_t *ram;
	uint64_t base, size;
	/* the ticker, which stops the engine */
	void *ticker;
	note_fn *note;
	begin_anew_fn *begin_anew;
	is_alone_fn *is_alone;
};

struct engine {
	struct engine *next;
	void *uc, *cpu;
	uint64_t rip;		/* where the next run begins */
	bool lenient;		/* decode what is #UD as Unicorn does */
	uint64_t base;		/* physical address of its RAM, one block */
	struct stops *stops;
	struct account *account;
	void *on_block;		/* the hook that all blocks call; or only where they must ... */
	bool inlining;		/* ... (entry.c) */
	struct pages pages;
	struct translation translation;
	struct landing landing;
	struct watches watches;
};

/* The engine that this thread runs, opens or closes. */
extern __thread struct engine *running __attribute__((tls_model("initial-exec")));

/* contain.c */
int contained(struct engine *engine, int (*work)(struct engine *));
void land(int cause, uintptr_t host_pc, uintptr_t address) __attribute__((noreturn));

/* slots.c, signals.c */
bool redirect_calls(void *library);
bool find_code(void *library);
void arm(void);

/* engines.c */
int adopt(struct engine *engine, void *uc);
int run(struct engine *engine, uint64_t rip);
int close_engine(struct engine *engine);
void abandon(struct engine *engine);
struct engine *find_by_cpu(const void *cpu);
struct engine *find_by_uc(const void *uc);

/* tlb.c */
uint64_t control(const struct engine *engine, int number);
void tlb_mark(struct engine *engine);
void tlb_slow_stores(struct engine *engine, uint64_t pa, bool slow);
bool tlb_has_fast_stores(const struct engine *engine, uint64_t va);
uint64_t tlb_page(const struct engine *engine, uint64_t va);
uint64_t walk(const struct engine *engine, uint64_t cr3, uint64_t va);

/* watch.c */
bool watch_set(struct engine *engine, const uint64_t *words, size_t count);
void watch_free(struct watches *watches);
void watch_fill(struct engine *engine, uint64_t va, uint64_t pa);
void watch_store(struct engine *engine, uint64_t pa, uint64_t length);
uint64_t watch_load(load_fn *load, uint64_t length, void *env, uint64_t va, uint32_t oi,
		    uintptr_t retaddr);
int kinds_of_page(const struct watches *watches, uint64_t va, uint64_t pa);

/* pages.c */
bool pages_init(struct pages *pages);
void pages_free(struct pages *pages);
void pages_written(const struct engine *e, uint64_t pa, uint64_t length);

static inline struct engine *engine_of_cpu(const void *cpu)
{
	struct engine *e = running;

	return e && e->cpu == cpu ? e : find_by_cpu(cpu);
}

static inline struct engine *engine_of_uc(const void *uc)
{
	struct engine *e = running;

	return e && e->uc == uc ? e : find_by_uc(uc);
}

#endif
