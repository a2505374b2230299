// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Encodings that CPUID denies, and those that no processor has: cpu/promises.py.
 */
#include "decode.h"
#include "promises.h"

struct promises promises;

static uint8_t mandatory_prefix(const struct instruction *i)
{
	if (i->repz || i->repnz)
		return (i->repz ? REP : 0) | (i->repnz ? REPNE : 0);
	return i->data16 ? OPERAND_SIZE : NO_PREFIX;
}

static bool matches(const struct rule *rule, struct instruction *i)
{
	uint8_t byte;

	if (!(rule->prefixes & mandatory_prefix(i)))
		return false;
	if (!rule->mask && rule->operands == (MEMORY | REGISTER))
		return true;
	byte = modrm(i);
	return (byte & rule->mask) == rule->value &&
	       rule->operands & (is_memory(byte) ? MEMORY : REGISTER);
}

static bool listed(const struct rules *rules, struct instruction *i)
{
	size_t low = 0, high = rules->count;
	unsigned key = (unsigned)i->map << 8 | i->opcode;

	while (low < high) {	/* the first of this opcode */
		size_t middle = (low + high) / 2;
		const struct rule *rule = &rules->rule[middle];

		if (((unsigned)rule->map << 8 | rule->opcode) < key)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < rules->count; low++) {
		const struct rule *rule = &rules->rule[low];

		if (((unsigned)rule->map << 8 | rule->opcode) != key)
			return false;
		if (matches(rule, i))
			return true;
	}
	return false;
}

/* What with VEX is promised works on general registers, and has no 256 bits. */
bool is_unpromised(struct instruction *i)
{
	if (i->vex)
		return i->vex_256 || !listed(&promises.vex, i);
	return listed(&promises.denied, i);
}

bool is_aligned(struct instruction *i)
{
	return !i->vex && listed(&promises.aligned, i);
}
