// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The translator's way to an instruction's bytes.  Where a rule of undefined.c says so, it
 * is shown UD2 instead, so that the instruction is #UD with all that belongs to it.  And
 * where blocks end beside where the translator ends them.
 */
#include "engine.h"

static void judge(struct engine *e, struct instruction *i)
{
	if (e->lenient || !read_instruction(i))
		return;
	if (!is_undefined(i)) {
		hide_operand_size(i);
		e->translation.aligned = is_aligned(i);
		return;
	}
	i->bytes[0] = 0x0F;	/* UD2 */
	i->bytes[1] = 0x0B;
	i->read = 2;
}

uint8_t cpu_ldub_code_x86_64(void *env, uint64_t pc)
{
	struct engine *e = running;
	struct instruction *i;

	if (!e || !e->translation.active)
		return original.ldub_code(env, pc);
	i = &e->translation.instruction;
	if (!e->translation.judged) {
		e->translation.judged = true;
		i->env = env;
		judge(e, i);
	}
	return pc - i->pc < i->read ? i->bytes[pc - i->pc] : original.ldub_code(env, pc);
}

/*
 * End blocks with their page, and before an instruction that may reach into the next one.
 * So the first instruction of a page always begins a block, where a run that takes no jump
 * can be stopped; and the fault of a fetch comes when all before it has been executed.
 */
static void end_with_page(DisasContextBase *db)
{
	uint64_t last = (1ul << PAGE_SHIFT) - LONGEST;	/* offset from which all would fit */

	if (db->is_jmp == DISAS_NEXT && ((db->pc_first ^ db->pc_next) >> PAGE_SHIFT ||
					 (db->pc_next & ((1ul << PAGE_SHIFT) - 1)) > last))
		db->is_jmp = DISAS_TOO_MANY;
}

static void translate_insn(DisasContextBase *db, void *cpu)
{
	struct translation *t = &running->translation;

	t->count++;
	t->instruction = (struct instruction){ .pc = db->pc_next, .hflags = t->hflags };
	t->judged = t->aligned = false;
	t->active = true;
	t->translate_insn(db, cpu);
	t->active = false;
	end_with_page(db);
}

static void begin_block(struct translation *t, const TranslationBlock *tb)
{
	uintptr_t place = (uintptr_t)tb;

	t->block = true;
	t->first = tb->pc;
	t->count = 0;
	t->hflags = tb->flags;
	if (!t->low || place < t->low)
		t->low = place;
	if (place > t->high)
		t->high = place;
}

void translator_loop_x86_64(const TranslatorOps *ops, DisasContextBase *db, void *cpu,
			    TranslationBlock *tb, int max_insns)
{
	struct engine *e = running;
	TranslatorOps ours = *ops;

	if (e && e->cpu == cpu) {
		begin_block(&e->translation, tb);
		e->translation.translate_insn = ops->translate_insn;
		ours.translate_insn = translate_insn;
		if (e->translation.careful) {
			e->translation.careful--;
			max_insns = 1;
		}
	}
	original.translator_loop(&ours, db, cpu, tb, max_insns);
}

int tcg_gen_code_x86_64(void *tcg_ctx, TranslationBlock *tb)
{
	int size = original.gen_code(tcg_ctx, tb);

	if (running)
		running->translation.block = false;
	return size;
}

/* The way out of a translation that could not fetch, as of everything that faults. */
void cpu_loop_exit_x86_64(void *cpu)
{
	if (running)
		running->translation.block = running->translation.active = false;
	original.loop_exit(cpu);
	__builtin_unreachable();
}

/* The translator puts a call behind every access to memory, to stop right there. */
void check_exit_request_x86_64(void *tcg_ctx)
{
	if (!running || running->exit_checks)
		original.exit_request(tcg_ctx);
}
