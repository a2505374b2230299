// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Watchpoints, as the debug registers have them (SDM vol. 3, 18.2.4): they are about linear
 * addresses, in whichever address space is in force.  And, beyond that, about the memory that
 * lies there: an access through another address of the same bytes (Linux's direct map, a
 * second mapping) counts as long as the page tables lead from the watched address to them.
 *
 * QEMU's own watchpoints are hollow in Unicorn: cpu_watchpoint_address_matches() and
 * cpu_check_watchpoint() do nothing, but they are asked.  By the first, the TLB entry of a
 * page with watched bytes makes all its accesses slow; by the second, each is seen before it
 * is done.  What touches nothing that is watched costs nothing.
 *
 * An access must be told after its instruction and before the next.  So the instruction that
 * is about to touch leaves its block, of which it has done nothing yet, and is run again in a
 * block of its own; there what it touches is noted, and the next block's entry is the place to
 * stop.  The first time, more than the true access may be taken for it (Unicorn reads two
 * words for one that is not aligned): this costs a block, and the second time is exact.
 *
 * Entries that are in the TLB already are marked where they stand: a flush would set accessed
 * bits anew, which the guest can see.
 */
#include <stdlib.h>
#include <string.h>

#include "engine.h"

#define CROSSING 16	/* bytes that an access may have, or more */
#define ROW 5		/* words of a row before its places */
/* Of CR3, what tells a process: Linux's user and kernel copies of a table differ in bit 12 */
#define CR3_SPACE 0x000fffffffffe000

static bool of_kernel(const struct watch *row)
{
	return row->begin >> 63;
}

/*
 * A user's addresses mean what they meant when the watch was set, or what they mean now; a
 * kernel's what they mean to the kernel, which the tables of user mode may lack.
 */
static bool leads_to(const struct engine *e, const struct watch *row, uint64_t va, uint64_t page)
{
	uint64_t cr3 = control(e, 3);

	return walk(e, cr3, va) == page ||
	       walk(e, of_kernel(row) ? cr3 & ~PAGE_SIZE : row->home, va) == page;
}

static uint64_t page_of_row(const struct watch *row, size_t i)
{
	return PAGE_OF(row->begin) + i * PAGE_SIZE;
}

/* The bytes from `at`, cut to what the row watches: the first one, or NOWHERE. */
static uint64_t overlap(const struct watch *row, uint64_t at, uint64_t length)
{
	if (at - row->begin < row->length)
		return at;
	return row->begin - at < length ? row->begin : NOWHERE;
}

/* How accesses to a page must be seen, it being at `va` and leading to `pa`. */
int kinds_of_page(const struct watches *w, uint64_t va, uint64_t pa)
{
	int found = 0;
	size_t r, i;

	for (r = 0; r < w->count; r++)
		for (i = 0; i < w->rows[r].pages; i++)
			if (page_of_row(&w->rows[r], i) == va || w->rows[r].places[i] == pa)
				found |= w->rows[r].kinds;
	return found;
}

/*
 * An address enters the TLB: the way in which a remapped page becomes known, without a look
 * at any page table meanwhile.
 */
void watch_fill(struct engine *e, uint64_t va, uint64_t pa)
{
	struct watches *w = &e->watches;
	bool moved = false;
	size_t r, i;

	w->filling = PAGE_OF(pa);
	for (r = 0; r < w->count; r++) {
		struct watch *row = &w->rows[r];

		i = (PAGE_OF(va) - PAGE_OF(row->begin)) / PAGE_SIZE;
		if (i >= row->pages || row->places[i] == PAGE_OF(pa))
			continue;
		if (of_kernel(row) || !((control(e, 3) ^ row->home) & CR3_SPACE)) {
			row->places[i] = PAGE_OF(pa);
			moved = true;
		}
	}
	if (moved)
		tlb_mark(e);
}

int cpu_watchpoint_address_matches_x86_64(void *cpu, uint64_t va, uint64_t length)
{
	struct engine *e = engine_of_cpu(cpu);

	(void)length;
	return e && e->watches.count ? kinds_of_page(&e->watches, va, e->watches.filling) : 0;
}

/* The first watched byte that an access touches, as the row's address; or NOWHERE. */
static uint64_t touched(const struct engine *e, const struct watch *row, uint64_t va,
			uint64_t length, uint64_t page)
{
	uint64_t at = overlap(row, va, length);
	size_t i;

	for (i = 0; at == NOWHERE && i < row->pages; i++)
		if (row->places[i] == page && page_of_row(row, i) != PAGE_OF(va)) {
			uint64_t same = page_of_row(row, i) + (va & (PAGE_SIZE - 1));

			at = overlap(row, same, length);
			if (at != NOWHERE && !leads_to(e, row, same, page))
				at = NOWHERE;
		}
	return at;
}

static void access(struct engine *e, uint64_t va, uint64_t length, bool write, uintptr_t retaddr)
{
	struct watches *w = &e->watches;
	uint64_t at, page = tlb_page(e, va);
	size_t r;

	for (r = 0; r < w->count; r++) {
		if (!(w->rows[r].kinds & (write ? BP_MEM_WRITE : BP_MEM_READ)))
			continue;
		at = touched(e, &w->rows[r], va, length, page);
		if (at == NOWHERE)
			continue;
		if (retaddr && original.restore_state(e->cpu, retaddr, true) &&
		    w->begin_anew(w->ticker))
			original.recompile(e->cpu, retaddr);	/* does not return */
		w->note(w->ticker, r, at, write);
	}
}

/*
 * Before an access to a page with watched bytes.  A load that is not aligned comes as the two
 * aligned ones around it.  Such a store first comes with a length that means nothing, if it
 * stays in its page (no power of two, as it happens), and then byte by byte.
 */
void cpu_check_watchpoint_x86_64(void *cpu, uint64_t va, uint64_t length, MemTxAttrs attrs,
				 int flags, uintptr_t retaddr)
{
	struct engine *e = running;
	uint64_t end = va + length;

	(void)attrs;
	if (!e || e->cpu != cpu || !e->watches.count)
		return;
	if (flags & BP_MEM_WRITE) {
		if (length > 8 || length & (length - 1))
			length = e->watches.is_alone(e->watches.ticker) ? 0 : CROSSING;
	} else if (e->watches.loading == retaddr && e->watches.load < end &&
		   e->watches.load_end > va) {
		va = va > e->watches.load ? va : e->watches.load;
		length = (end < e->watches.load_end ? end : e->watches.load_end) - va;
	}
	if (length)
		access(e, va, length, flags & BP_MEM_WRITE, retaddr);
}

/*
 * What a load is about, before it is taken apart; a part may come here, too.  One that
 * faults ends in cpu_loop_exit().
 */
uint64_t watch_load(load_fn *original_load, uint64_t length, void *env, uint64_t va, uint32_t oi,
		    uintptr_t retaddr)
{
	struct watches *w = running ? &running->watches : NULL;
	uint64_t value;

	if (!w || !w->count || w->loading)
		return original_load(env, va, oi, retaddr);
	w->load = va;
	w->load_end = va + length;
	w->loading = retaddr;
	value = original_load(env, va, oi, retaddr);
	w->loading = 0;
	return value;
}

uint64_t helper_le_lduw_mmu_x86_64(void *env, uint64_t va, uint32_t oi, uintptr_t retaddr)
{
	return watch_load(original.load_2, 2, env, va, oi, retaddr);
}

uint64_t helper_le_ldul_mmu_x86_64(void *env, uint64_t va, uint32_t oi, uintptr_t retaddr)
{
	return watch_load(original.load_4, 4, env, va, oi, retaddr);
}

/*
 * Watch these rows and no others: words in the order of struct watch, then a place for each
 * page.  False: no memory.
 */
bool watch_set(struct engine *e, const uint64_t *words, size_t count)
{
	struct watches *w = &e->watches;
	const uint64_t *end = words + count;

	watch_free(w);
	w->rows = calloc(count / ROW + 1, sizeof(*w->rows));
	if (!w->rows)
		return false;
	for (; words < end; words += ROW + w->rows[w->count++].pages) {
		struct watch *row = &w->rows[w->count];

		*row = (struct watch){ .begin = words[0], .length = words[1],
				       .kinds = words[2], .home = words[3],
				       .pages = words[4] };
		row->places = malloc(row->pages * sizeof(*row->places));
		if (!row->places)
			return false;
		memcpy(row->places, words + ROW, row->pages * sizeof(*row->places));
	}
	tlb_mark(e);
	return true;
}

void watch_free(struct watches *w)
{
	while (w->count)
		free(w->rows[--w->count].places);
	free(w->rows);
	w->rows = NULL;
}

static void store_in_page(struct engine *e, uint64_t pa, uint64_t length)
{
	struct watches *w = &e->watches;
	size_t r, i;

	for (r = 0; r < w->count; r++)
		for (i = 0; w->rows[r].kinds & BP_MEM_WRITE && i < w->rows[r].pages; i++) {
			uint64_t va = page_of_row(&w->rows[r], i) + (pa & (PAGE_SIZE - 1));
			uint64_t at = overlap(&w->rows[r], va, length);

			if (at != NOWHERE && leads_to(e, &w->rows[r], va, PAGE_OF(pa)))
				w->note(w->ticker, r, at, true);
		}
}

/* Bytes have been stored by somebody else than the processor. */
void watch_store(struct engine *e, uint64_t pa, uint64_t length)
{
	while (length && e->watches.count) {
		uint64_t left = PAGE_SIZE - (pa & (PAGE_SIZE - 1));
		uint64_t part = length < left ? length : left;

		store_in_page(e, pa, part);
		pa += part;
		length -= part;
	}
}
