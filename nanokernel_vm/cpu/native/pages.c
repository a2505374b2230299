// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The rule of QEMU's softmmu, from which Unicorn departed: a store to a page with
 * translated code takes the slow path, which drops that code; no other store does.
 * Unicorn asks instead whether the virtual page may be executed.  So every store to a
 * page that is writable and executable is slow, as all of a kernel's data is until it has
 * protected itself; and a store through a mapping that is not executable, of which there
 * is one of each page in Linux's direct map, leaves stale translations behind.
 *
 * Physical pages that have been fetched from are remembered, for good.  All others enter
 * the TLB as not executable, until they are fetched from.  What is in the TLB can be seen by
 * a program, and so must not depend on what is translated, which a debugger changes.
 *
 * Whether stores are slow cannot be seen, and is decided by what is translated: they are fast
 * again from the first one on that finds no code left in its page.
 */
#include <stdlib.h>

#include "engine.h"

#define PAGES (1ul << 20)	/* 4 GiB; pages above count as fetched from */

bool pages_init(struct pages *pages)
{
	pages->fetched = calloc(PAGES / 8, 1);
	pages->translated = calloc(PAGES / 8, 1);
	pages->dirty = calloc(PAGES / 8, 1);
	return pages->fetched && pages->translated && pages->dirty;
}

void pages_free(struct pages *pages)
{
	free(pages->fetched);
	free(pages->translated);
	free(pages->dirty);
}

static bool test(const uint8_t *set, uint64_t pa)
{
	uint64_t page = pa >> PAGE_SHIFT;

	return page >= PAGES || set[page >> 3] >> (page & 7) & 1;
}

static void add(uint8_t *set, uint64_t pa)
{
	uint64_t page = pa >> PAGE_SHIFT;

	if (page < PAGES)
		set[page >> 3] |= 1 << (page & 7);
}

static void drop(uint8_t *set, uint64_t pa)
{
	uint64_t page = pa >> PAGE_SHIFT;

	if (page < PAGES)
		set[page >> 3] &= ~(1 << (page & 7));
}

/* Bytes of RAM were written by someone else: what was translated from them is dropped. */
void pages_written(const struct engine *e, uint64_t pa, uint64_t length)
{
	uint64_t page, start = pa - e->base;

	for (page = pa >> PAGE_SHIFT; page << PAGE_SHIFT < pa + length; page++)
		if (test(e->pages.fetched, page << PAGE_SHIFT)) {
			original.invalidate(e->uc, start, start + length);
			return;
		}
}

bool x86_cpu_tlb_fill_x86_64(void *cpu, uint64_t va, int size, int access, int mmu_idx, bool probe,
			     uintptr_t retaddr)
{
	struct engine *e = engine_of_cpu(cpu);
	bool filled;

	if (e)
		e->pages.access_now = access == MMU_INST_FETCH ? FETCH : DATA;
	filled = original.tlb_fill(cpu, va, size, access, mmu_idx, probe, retaddr);
	if (e)
		e->pages.access_now = UNKNOWN;
	return filled;
}

/* A page is fetched from for the first time: no store to it may be fast any more. */
static void protect(struct pages *pages, void *cpu, uint64_t pa)
{
	if (test(pages->dirty, pa))
		original.flush(cpu);
	add(pages->fetched, pa);
}

void tlb_set_page_with_attrs_x86_64(void *cpu, uint64_t va, uint64_t pa, MemTxAttrs attrs, int prot,
				    int mmu_idx, uint64_t size)
{
	struct engine *e = engine_of_cpu(cpu);

	if (e)
		watch_fill(e, va, pa);
	if (e && !test(e->pages.fetched, pa)) {
		if (e->pages.access_now == DATA)
			prot &= ~PAGE_EXEC;
		else
			protect(&e->pages, cpu, pa);
	}
	original.set_page(cpu, va, pa, attrs, prot, mmu_idx, size);
}

/* Unicorn asks where an address lies just before it declares the page there dirty. */
void *find_memory_mapping_x86_64(void *uc, uint64_t pa)
{
	struct engine *e = engine_of_uc(uc);

	if (e)
		e->pages.looked_up = pa;
	return original.mapping(uc, pa);
}

void tlb_set_dirty_x86_64(void *cpu, uint64_t va)
{
	struct engine *e = engine_of_cpu(cpu);

	if (e) {
		if (test(e->pages.translated, e->pages.looked_up))
			return;
		add(e->pages.dirty, e->pages.looked_up);
	}
	original.set_dirty(cpu, va);
}

/*
 * Unicorn looks through the whole TLB for each block that it translates, to make stores to
 * the block's page slow, by its virtual address.  tlb_protect_code() does, by whatever address.
 */
void tlb_reset_dirty_by_vaddr_x86_64(void *cpu, uint64_t va, uint64_t length)
{
	if (!engine_of_cpu(cpu))
		original.reset_dirty(cpu, va, length);
}

/* A page has its first block: stores that were fast for want of one are slow from now on. */
void tlb_protect_code_x86_64(void *uc, uint64_t start)
{
	struct engine *e = engine_of_uc(uc);

	if (e && !test(e->pages.translated, start + e->base)) {
		add(e->pages.translated, start + e->base);
		if (test(e->pages.dirty, start + e->base))
			tlb_slow_stores(e, start + e->base, true);
	}
	original.protect_code(uc, start);
}

/*
 * A slow store has found no block in its page.  If the page was never fetched from, Unicorn
 * itself goes on to tlb_set_dirty().  While something is watched nothing is made fast: what
 * is watched must be slow, and would be looked for at each store.
 */
void tlb_unprotect_code_x86_64(void *uc, uint64_t start)
{
	struct engine *e = engine_of_uc(uc);
	uint64_t pa = start + (e ? e->base : 0);

	if (e && test(e->pages.fetched, pa) && !e->watches.count) {
		drop(e->pages.translated, pa);
		if (!test(e->pages.translated, pa)) {
			add(e->pages.dirty, pa);
			tlb_slow_stores(e, pa, false);
		}
	}
	original.unprotect_code(uc, start);
}
