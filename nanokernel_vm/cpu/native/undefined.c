// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The rules that make an encoding #UD where Unicorn executes it, or aborts.  Each is asked
 * once for every instruction that is translated, before Unicorn decodes it, and so must
 * depend on nothing but the instruction: a translation is kept for other runs of it.
 *
 * To add one: a function like locked(), and a row in `rules`.  A processor's mode is in
 * hflags; what else it may depend on must be in there, or flush translations.
 */
#include "decode.h"

#include <stddef.h>

#define ANY 0xFF

/* SDM vol. 2A, "LOCK": these only, and only where the destination is memory. */
static const struct {
	enum map map;
	uint8_t mask, opcode;
	uint8_t extensions;	/* set of /0 to /7 */
} lockable[] = {
	{ MAP_ONE_BYTE, 0xE6, 0x00, ANY },	/* ADD OR ADC SBB */
	{ MAP_ONE_BYTE, 0xF6, 0x20, ANY },	/* AND SUB */
	{ MAP_ONE_BYTE, 0xFE, 0x30, ANY },	/* XOR */
	{ MAP_ONE_BYTE, 0xFC, 0x80, 0x7F },	/* the same with an immediate; not CMP */
	{ MAP_ONE_BYTE, 0xFE, 0x86, ANY },	/* XCHG */
	{ MAP_ONE_BYTE, 0xFE, 0xF6, 0x0C },	/* NOT NEG */
	{ MAP_ONE_BYTE, 0xFE, 0xFE, 0x03 },	/* INC DEC */
	{ MAP_0F, 0xFF, 0xAB, ANY },		/* BTS */
	{ MAP_0F, 0xFF, 0xB3, ANY },		/* BTR */
	{ MAP_0F, 0xFF, 0xBB, ANY },		/* BTC */
	{ MAP_0F, 0xFF, 0xBA, 0xE0 },		/* BTS BTR BTC with an immediate; not BT */
	{ MAP_0F, 0xFE, 0xB0, ANY },		/* CMPXCHG */
	{ MAP_0F, 0xFE, 0xC0, ANY },		/* XADD */
	{ MAP_0F, 0xFF, 0xC7, 0x02 },		/* CMPXCHG8B CMPXCHG16B */
};

/* LOCK where it must not stand. */
static bool locked(struct instruction *i)
{
	size_t n;

	if (!i->lock)
		return false;
	if (i->vex)
		return true;
	for (n = 0; n < sizeof(lockable) / sizeof(*lockable); n++)
		if (i->map == lockable[n].map && (i->opcode & lockable[n].mask) == lockable[n].opcode) {
			uint8_t byte = modrm(i);

			return !is_memory(byte) || !(lockable[n].extensions >> extension(byte) & 1);
		}
	return true;
}

static bool (*const rules[])(struct instruction *) = {
	locked,
	is_unpromised,
};

bool is_undefined(struct instruction *i)
{
	size_t n;

	for (n = 0; n < sizeof(rules) / sizeof(*rules); n++)
		if (rules[n](i))
			return true;
	return false;
}
