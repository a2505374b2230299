// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The library's calls of abort(), exit() and gettimeofday(), by its linkage table.  The C
 * library precedes this module in the global scope, so that defining them here would not do.
 * Nor would a handler of SIGABRT: with that the C library ends a process whose heap is broken,
 * and such a one must not go on.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "engine.h"

#define TICKS_PER_US 400	/* clock.py */

static bool inside(void)
{
	return running && !running->landing.outside;
}

static void on_abort(void)
{
	if (!inside())
		abort();
	land(ABORTED, (uintptr_t)__builtin_return_address(0), 0);
}

static void on_exit_call(int status)
{
	if (!inside())
		exit(status);
	land(EXITED, (uintptr_t)__builtin_return_address(0), status);
}

/*
 * A TLB that little was used of in 100 ms gets smaller (qemu/accel/tcg/cputlb.c,
 * tlb_mmu_resize_locked), and its size decides what stays in it, which programs see in
 * accessed bits.  So this is virtual time: the clock at the last entry that is the same one in
 * every run.
 */
static int on_time(struct timeval *now, void *zone)
{
	uint64_t ticks = running && running->account ? running->account->now.origin : 0;
	uint64_t us = ticks / TICKS_PER_US;

	(void)zone;
	now->tv_sec = us / 1000000;
	now->tv_usec = us % 1000000;
	return 0;
}

static const struct {
	const char *name;
	void *stand_in;
	bool needed;
} calls[] = {
	{ "abort", on_abort, true },
	{ "exit", on_exit_call, false },
	{ "gettimeofday", on_time, true },
};

struct linkage {
	const char *strings;
	const ElfW(Sym) *symbols;
	const ElfW(Rela) *rows;
	size_t size;
};

static struct linkage read_linkage(const struct link_map *map)
{
	struct linkage found = { 0 };
	const ElfW(Dyn) *d;

	for (d = map->l_ld; d->d_tag != DT_NULL; d++)
		switch (d->d_tag) {
		case DT_STRTAB:
			found.strings = (const char *)d->d_un.d_ptr;
			break;
		case DT_SYMTAB:
			found.symbols = (const ElfW(Sym) *)d->d_un.d_ptr;
			break;
		case DT_JMPREL:
			found.rows = (const ElfW(Rela) *)d->d_un.d_ptr;
			break;
		case DT_PLTRELSZ:
			found.size = d->d_un.d_val / sizeof(ElfW(Rela));
			break;
		}
	return found;
}

/* A table may have been made read-only once it was filled in. */
static bool put(void **slot, void *function)
{
	uintptr_t page = getpagesize();

	if (mprotect((void *)((uintptr_t)slot & -page), page, PROT_READ | PROT_WRITE))
		return false;
	*slot = function;
	return true;
}

static bool redirect(const struct link_map *map, const struct linkage *l, const char *name, void *function)
{
	size_t n;

	for (n = 0; n < l->size; n++)
		if (!strcmp(name, l->strings + l->symbols[ELF64_R_SYM(l->rows[n].r_info)].st_name))
			return put((void **)(map->l_addr + l->rows[n].r_offset), function);
	return false;
}

/* False if the library calls one by a way that is not known. */
bool redirect_calls(void *library)
{
	struct link_map *map;
	struct linkage linkage;
	size_t n;

	if (dlinfo(library, RTLD_DI_LINKMAP, &map))
		return false;
	linkage = read_linkage(map);
	for (n = 0; n < sizeof(calls) / sizeof(*calls); n++)
		if (!redirect(map, &linkage, calls[n].name, calls[n].stand_in) && calls[n].needed)
			return false;
	return true;
}
