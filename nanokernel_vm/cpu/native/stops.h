/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a debugger may want the processor to stop.  A stop is an entry into a block, so the
 * translator ends blocks before these places; that it does so changes nothing in the run
 * (translate.c).
 *
 * A place stays after its breakpoint is gone, until all code is translated anew: gdb removes
 * and inserts every breakpoint around every stop.
 */
#ifndef NK_STOPS_H
#define NK_STOPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct place {
	uint64_t address;	/* virtual */
	bool armed;
};

struct stops {
	struct place *places;	/* by address, ascending */
	size_t n, room;
	bool everywhere;	/* one instruction a block */
	bool aborted;		/* the block entered next is its predecessor's last instruction, again */
};

/* Index of the place at `address`, or of where it belongs. */
static inline size_t find_place(const struct stops *s, uint64_t address)
{
	size_t low = 0, high = s->n;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (s->places[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static inline struct place *place_at(const struct stops *s, uint64_t address)
{
	size_t i = find_place(s, address);

	return i < s->n && s->places[i].address == address ? s->places + i : NULL;
}

static inline bool is_place(const struct stops *s, uint64_t address)
{
	return s->everywhere || (s->n && place_at(s, address));
}

#endif
