// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reads an instruction up to its opcode, as SDM vol. 2, 2.1 to 2.3, puts it together.  Reads
 * no byte that the translator would not: each may lie on a page that is not there.
 */
#include "decode.h"

#include "library.h"

static uint8_t byte(struct instruction *i, unsigned offset)
{
	while (i->read <= offset) {
		i->bytes[i->read] = original.ldub_code(i->env, i->pc + i->read);
		i->read++;
	}
	return i->bytes[offset];
}

uint8_t modrm(struct instruction *i)
{
	return byte(i, i->length);
}

/* A legacy or REX prefix; REX counts only right before the opcode. */
static bool take_prefix(struct instruction *i, uint8_t b)
{
	if ((b & 0xF0) == 0x40 && i->hflags & HF_CS64) {
		i->rex = b;
		return true;
	}
	switch (b) {
	case 0xF0:
		i->lock = true;
		break;
	case 0xF2:
		i->repnz = true;
		break;
	case 0xF3:
		i->repz = true;
		break;
	case 0x66:
		i->data16 = true;
		break;
	case 0x26: case 0x2E: case 0x36: case 0x3E: case 0x64: case 0x65: case 0x67:
		break;
	default:
		return false;
	}
	i->rex = 0;
	return true;
}

/* C4 and C5 are LES and LDS outside 64-bit mode, unless what follows is no memory operand. */
static bool is_vex(struct instruction *i, uint8_t b)
{
	if ((b != 0xC4 && b != 0xC5) || !(i->hflags & (HF_CS32 | HF_CS64)) || i->hflags & HF_VM)
		return false;
	return i->hflags & HF_CS64 || !is_memory(modrm(i));
}

static void read_vex(struct instruction *i)
{
	uint8_t first = byte(i, i->length++), last = first;

	i->vex = true;
	i->map = MAP_0F;
	i->rex = ~first >> 5 & 4;
	if (i->opcode == 0xC4) {
		i->map = first & 0x1F;
		i->rex |= ~first >> 5 & 3;
		last = byte(i, i->length++);
		i->rex |= last >> 4 & 8;
	}
	i->vvvv = ~last >> 3 & 0xF;
	i->vex_256 = last & 4;
	i->data16 |= (last & 3) == 1;
	i->repz |= (last & 3) == 2;
	i->repnz |= (last & 3) == 3;
	i->opcode = byte(i, i->length++);
}

static void read_escape(struct instruction *i)
{
	i->opcode = byte(i, i->length++);
	i->map = MAP_0F;
	if (i->opcode != 0x38 && i->opcode != 0x3A)
		return;
	i->map = i->opcode == 0x38 ? MAP_0F38 : MAP_0F3A;
	i->opcode = byte(i, i->length++);
}

bool read_instruction(struct instruction *i)
{
	while (take_prefix(i, i->opcode = byte(i, i->length++)))
		if (i->length == LONGEST)
			return false;
	if (is_vex(i, i->opcode))
		read_vex(i);
	else if (i->opcode == 0x0F)
		read_escape(i);
	return i->length <= LONGEST;
}

static bool is_between(uint8_t first, uint8_t opcode, uint8_t last)
{
	return first <= opcode && opcode <= last;
}

/* Whether prefixes select among several instructions (SDM vol. 2, appendix A, tables ). */
static bool is_selected(const struct instruction *i)
{
	uint8_t op = i->opcode;

	if (i->vex || i->map == MAP_ONE_BYTE)
		return false;
	if (i->map != MAP_0F)
		return i->map == MAP_0F3A || op < 0xF0;
	return is_between(0x10, op, 0x17) || is_between(0x28, op, 0x2F) || is_between(0x50, op, 0x7F) ||
	       op == 0xC2 || is_between(0xC4, op, 0xC6) || op >= 0xD0;
}

/*
 * F2 and F3 are asked for first (SDM vol. 2, 2.1.2: 66 is then ignored), by Unicorn last:
 * 66 F2 0F 58 is ADDSD, not ADDPD.
 */
void hide_operand_size(struct instruction *i)
{
	unsigned n;

	if (!i->data16 || !(i->repz || i->repnz) || !is_selected(i))
		return;
	for (n = 0; i->bytes[n] != 0x0F; n++)
		if (i->bytes[n] == 0x66)
			i->bytes[n] = i->repz ? 0xF3 : 0xF2;
}
