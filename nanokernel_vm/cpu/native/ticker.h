/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a watch asks of an engine's ticker (_ticker.c, another module: by address).
 */
#ifndef NK_TICKER_H
#define NK_TICKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NOWHERE UINT64_MAX

/* Watched bytes from `at` are touched: stop before the next instruction. */
typedef void note_fn(void *ticker, size_t row, uint64_t at, bool write);
/* rip is of the instruction to be run again in a block of its own; false: it is in one. */
typedef bool begin_anew_fn(void *ticker);
typedef bool is_alone_fn(void *ticker);

#endif
