/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an entry into a block changes if it is like almost all entries: no reason to stop.
 * Translated code counts every entry itself and calls on_block() (_ticker.c) if there may be a
 * reason, which first undoes that (entry.c); or it calls on_block() always.
 */
#ifndef NK_ACCOUNT_H
#define NK_ACCOUNT_H

#include <stdint.h>

#define COUNTED 0	/* to on_block(), for a size: it is in the account already */

struct block {
	uint64_t start;		/* current block; NOWHERE: nothing to give back */
	uint64_t expect;	/* where a sequential entry would be; the current block's end */
	uint64_t origin;	/* clock at the last eligible entry */
};

struct account {
	uint64_t clock;		/* bytes retired, up to and with the current block */
	uint64_t limit;		/* an entry after which the clock is above it may be one to stop at */
	struct block now;
	struct block before;	/* the one before what translated code counted last */
	void (*leave_if_asked)(void *uc, uint32_t in_delay_slot);	/* helper_check_exit_request */
};

#endif
