/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An instruction as far as a rule needs it to say that it is #UD: prefixes, opcode and, if
 * asked for, ModRM (SDM vol. 2, chapter 2).
 */
#ifndef NK_DECODE_H
#define NK_DECODE_H

#include <stdbool.h>
#include <stdint.h>

enum map { MAP_ONE_BYTE, MAP_0F, MAP_0F38, MAP_0F3A };	/* numbered as VEX.mmmmm */

#define LONGEST 15	/* bytes of an instruction */

struct instruction {
	void *env;
	uint64_t pc;		/* linear address of the first byte */
	uint32_t hflags;	/* mode, CPL and more: HF_ in library.h and state.py */
	uint8_t bytes[LONGEST + 5];
	unsigned read;		/* so many of them */
	unsigned length;	/* bytes before ModRM, opcode included */
	bool lock, repz, repnz, data16;	/* prefixes F0 F3 F2 66; VEX.pp counts */
	bool vex;
	uint8_t rex;		/* the prefix, or 0; of VEX: R, X, B and W */
	bool vex_256;		/* VEX.L */
	uint8_t vvvv;		/* of VEX: register, 0 if it names none */
	enum map map;
	uint8_t opcode;
};

/* Read up to the opcode.  False if there are too many bytes for an instruction. */
bool read_instruction(struct instruction *i);

/* ModRM.  Only for an opcode that has one: the byte may lie on a page that is not there. */
uint8_t modrm(struct instruction *i);

static inline bool is_memory(uint8_t modrm)
{
	return modrm < 0xC0;
}

/* The opcode's extension, /0 to /7. */
static inline unsigned extension(uint8_t modrm)
{
	return modrm >> 3 & 7;
}

/* undefined.c: whether a rule makes it #UD, whatever Unicorn makes of it. */
bool is_undefined(struct instruction *i);

/* Show Unicorn no 66 where F2 or F3 counts alone. */
void hide_operand_size(struct instruction *i);

/* unpromised.c: whether CPUID denies it. */
bool is_unpromised(struct instruction *i);

/* Whether its memory operand, if it has one, must be aligned to 16 bytes. */
bool is_aligned(struct instruction *i);

#endif
