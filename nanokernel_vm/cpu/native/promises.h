/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What cpu/promises.py says of this processor, as the stand-ins need it.  It is set once,
 * before any engine runs, and is the same for all.
 */
#ifndef NK_PROMISES_H
#define NK_PROMISES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Prefixes and operands of a rule; as cpu/decoding.py packs them */
#define NO_PREFIX 1
#define OPERAND_SIZE 2
#define REP 4
#define REPNE 8
#define MEMORY 1
#define REGISTER 2

/* A set of encodings. */
struct rule {
	uint8_t map, opcode;
	uint8_t prefixes;	/* set of the above */
	uint8_t mask, value;	/* of ModRM */
	uint8_t operands;	/* set of the above */
};

struct rules {
	struct rule *rule;	/* by map, then opcode */
	size_t count;
};

extern struct promises {
	struct rules denied;	/* legacy encodings that are #UD */
	struct rules vex;	/* encodings with VEX that are not */
	struct rules aligned;	/* those whose memory operand must be aligned to 16 bytes */
	uint64_t cr4;		/* bits that may be set */
	uint64_t xcr0;
} promises;

#endif
