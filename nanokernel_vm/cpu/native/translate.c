// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The translator's way to an instruction's bytes.  Where a rule of undefined.c says so, it
 * is shown UD2 instead, so that the instruction is #UD with all that belongs to it.  And
 * where blocks end beside where the translator ends them.
 *
 * Where a block must end before an instruction, the translator is shown a jump to that very
 * instruction: the blocks are linked as by any jump, and the clock, which goes by the blocks'
 * sizes, does not count it.
 *
 * A debugger ends blocks where it may want to stop (stops.h), and otherwise uses nothing of
 * Unicorn's: a hook of an instruction would leave wrong flags to a fault of it.  So a run is
 * the same with a debugger if nothing depends on where blocks end.  One thing does: after BT,
 * BTS, BTR and BTC, OF, SF, AF and PF, which are undefined, are those of before or not as the
 * translator knows by which instruction of the same block the flags were set
 * (qemu/target/i386/translate.c, bt_op).  In every run, therefore, these begin a block.  Then
 * the translator never knows, and leaves those flags as they were, as processors do.
 */
#include "engine.h"

static void show(struct instruction *i, uint8_t first, uint8_t second)
{
	i->bytes[0] = first;
	i->bytes[1] = second;
	i->read = 2;
}

static bool is_bit_test(const struct instruction *i)
{
	if (i->map != MAP_0F || i->vex)
		return false;
	return (i->opcode & 0xE7) == 0xA3 || i->opcode == 0xBA;
}

static void judge(const struct engine *e, struct translation *t)
{
	struct instruction *i = &t->instruction;
	bool complete = !t->cut && read_instruction(i);

	if (complete && t->follows && is_bit_test(i))
		t->cut = true;
	if (t->cut) {
		show(i, 0xEB, 0xFE);	/* JMP to itself */
	} else if (complete && !e->lenient && is_undefined(i)) {
		show(i, 0x0F, 0x0B);	/* UD2 */
	} else if (complete && !e->lenient) {
		hide_operand_size(i);
		t->aligned = is_aligned(i);
	}
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
		judge(e, &e->translation);
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
	uint64_t pc = db->pc_next;

	t->count++;
	t->instruction = (struct instruction){ .pc = pc, .hflags = t->hflags };
	t->follows = pc != db->pc_first;
	t->cut = t->follows && is_place(running->stops, pc);
	t->judged = t->aligned = false;
	t->active = true;
	t->translate_insn(db, cpu);
	t->active = false;
	if (t->cut)
		db->pc_next = pc;
	end_with_page(db);
}

static void begin_block(struct translation *t, const TranslationBlock *tb)
{
	uintptr_t place = (uintptr_t)tb;

	t->block = true;
	t->counted = false;
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
	if (running) {
		running->translation.block = running->translation.active = false;
		running->watches.loading = 0;
	}
	original.loop_exit(cpu);
	__builtin_unreachable();
}

/*
 * The way out of a block that has changed its own code: the instruction that did it is
 * undone, and translated and executed again, alone.
 */
void cpu_loop_exit_noexc_x86_64(void *cpu)
{
	if (running) {
		running->stops->aborted = true;
		running->account->limit = 0;
	}
	original.loop_exit_noexc(cpu);
}

/* The translator puts a call behind every access to memory, to stop right there: nobody does. */
void check_exit_request_x86_64(void *tcg_ctx)
{
	if (!running)
		original.exit_request(tcg_ctx);
}
