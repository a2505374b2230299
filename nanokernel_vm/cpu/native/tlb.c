// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The TLB of an engine, and the page tables behind it, as they stand: looked at and marked,
 * never filled or flushed.  The guest can see what a TLB holds, by the accessed bits that
 * are set when it is filled.
 *
 * The layout is private to Unicorn 2.1.4; proof.py looks a page up before it is leant on.
 */
#include "engine.h"

/* qemu/include/exec/cpu-all.h; an address of an entry that is not in use is -1 */
#define TLB_WATCHPOINT 0x100
#define TLB_MMIO 0x200
#define TLB_NOTDIRTY 0x400	/* stores are slow */
#define TLB_INVALID 0x800

/* qemu/include/exec/cpu-defs.h: CPUTLBEntry, CPUTLBDescFast, CPUTLBDesc.vtable */
struct entry {
	uint64_t read, write, code, pa;
	uint64_t unused[4];
};

struct table {
	uint64_t mask;		/* (entries - 1) << 6 */
	struct entry *entries;
};

#define MODES 3			/* NB_MMU_MODES */
#define VICTIMS 8
#define ENV 0x128		/* CPUState.env_ptr */
/* before env, in CPUNegativeOffsetState */
#define TABLES 0x40
#define VICTIM_TABLES 0x840
#define VICTIM_STRIDE 0x2b8
#define CR 424			/* behind env: state.py */

#define PRESENT 1
#define LARGE 0x80
#define ENTRY_ADDRESS 0x000ffffffffff000
#define CR0_PG (1ul << 31)
#define LARGEST 30		/* pages of 1 GiB */

static uint8_t *env_of(const struct engine *e)
{
	return *(uint8_t **)((uint8_t *)e->cpu + ENV);
}

uint64_t control(const struct engine *e, int number)
{
	return *(uint64_t *)(env_of(e) + CR + 8 * number);
}

static struct table *tables_of(const struct engine *e)
{
	return (struct table *)(env_of(e) - TABLES);
}

static struct entry *victims_of(const struct engine *e, int mode)
{
	return (struct entry *)(env_of(e) - VICTIM_TABLES + mode * VICTIM_STRIDE);
}

static uint64_t any_address(const struct entry *entry)
{
	return entry->read != NOWHERE ? entry->read :
	       entry->write != NOWHERE ? entry->write : entry->code;
}

static void mark_address(uint64_t *address, bool watched)
{
	if (*address != NOWHERE)
		*address = (*address & ~(uint64_t)TLB_WATCHPOINT) |
			   (watched ? TLB_WATCHPOINT : 0);
}

static void mark(struct engine *e, struct entry *entry, uint64_t unused)
{
	uint64_t any = any_address(entry);
	const struct watches *w = &e->watches;
	int kinds;

	(void)unused;

	if (any == NOWHERE)
		return;
	kinds = kinds_of_page(w, PAGE_OF(any), PAGE_OF(entry->pa));
	mark_address(&entry->read, kinds & BP_MEM_READ);
	mark_address(&entry->write, kinds & BP_MEM_WRITE);
}

static void slow(struct engine *e, struct entry *entry, uint64_t pa)
{
	(void)e;
	if (PAGE_OF(entry->pa) == pa && !(entry->write & (TLB_INVALID | TLB_MMIO)))
		entry->write |= TLB_NOTDIRTY;
}

/* As tlb_set_dirty() has it: what is slow for any other reason stays. */
static void fast(struct engine *e, struct entry *entry, uint64_t pa)
{
	(void)e;
	if (PAGE_OF(entry->pa) == pa && (entry->write & (PAGE_SIZE - 1)) == TLB_NOTDIRTY)
		entry->write &= ~(uint64_t)TLB_NOTDIRTY;
}

typedef void entry_fn(struct engine *e, struct entry *entry, uint64_t argument);

static void for_each(struct engine *e, entry_fn *function, uint64_t argument)
{
	struct table *tables = tables_of(e);
	int mode;
	size_t i;

	for (mode = 0; mode < MODES; mode++) {
		struct entry *victims = victims_of(e, mode);

		for (i = 0; i <= tables[mode].mask / sizeof(struct entry); i++)
			function(e, &tables[mode].entries[i], argument);
		for (i = 0; i < VICTIMS; i++)
			function(e, victims + i, argument);
	}
}

/* Make accesses to pages with watched bytes slow, and no others: what is in the TLB now. */
void tlb_mark(struct engine *e)
{
	for_each(e, mark, 0);
}

/* Make stores to a physical page slow, or fast: through what is in the TLB now. */
void tlb_slow_stores(struct engine *e, uint64_t pa, bool is_slow)
{
	for_each(e, is_slow ? slow : fast, PAGE_OF(pa));
}

/* Whether a store to an address would be fast. */
bool tlb_has_fast_stores(const struct engine *e, uint64_t va)
{
	struct table *tables = tables_of(e);
	int mode, i;

	for (mode = 0; mode < MODES; mode++) {
		size_t last = tables[mode].mask / sizeof(struct entry);
		const struct entry *victims = victims_of(e, mode);

		if (tables[mode].entries[va >> PAGE_SHIFT & last].write == PAGE_OF(va))
			return true;
		for (i = 0; i < VICTIMS; i++)
			if (victims[i].write == PAGE_OF(va))
				return true;
	}
	return false;
}

/* The physical page of an address that has just been accessed; or NOWHERE. */
uint64_t tlb_page(const struct engine *e, uint64_t va)
{
	struct table *tables = tables_of(e);
	int mode;

	for (mode = 0; mode < MODES; mode++) {
		size_t last = tables[mode].mask / sizeof(struct entry);
		const struct entry *entry = &tables[mode].entries[va >> PAGE_SHIFT & last];

		if (PAGE_OF(entry->read) == PAGE_OF(va) || PAGE_OF(entry->write) == PAGE_OF(va))
			return PAGE_OF(entry->pa);
	}
	return NOWHERE;
}

static uint64_t word(const struct watches *w, uint64_t pa)
{
	return pa - w->base < w->size ? *(uint64_t *)(w->ram + pa) : 0;
}

/* The page that an address leads to by the tables at `cr3`; NOWHERE: none (paging.py). */
uint64_t walk(const struct engine *e, uint64_t cr3, uint64_t va)
{
	uint64_t entry, within, table = cr3 & ENTRY_ADDRESS;
	int shift;

	if (!(control(e, 0) & CR0_PG))
		return PAGE_OF(va);
	for (shift = 39;; shift -= 9) {
		entry = word(&e->watches, table + (va >> shift & 0x1ff) * 8);
		if (!(entry & PRESENT))
			return NOWHERE;
		if (shift == PAGE_SHIFT || (shift <= LARGEST && entry & LARGE))
			break;
		table = entry & ENTRY_ADDRESS;
	}
	within = (1ul << shift) - 1;
	return PAGE_OF((entry & ENTRY_ADDRESS & ~within) | (va & within));
}
