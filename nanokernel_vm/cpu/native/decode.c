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
