// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Entries into blocks, counted by the blocks themselves.  Unicorn calls a hook at each, and
 * then a helper that asks whether to leave.  Here a block begins with
 *
 *	before = now;
 *	now.origin = now.expect == address ? now.origin : clock;
 *	now.start = address;
 *	now.expect = address + size;
 *	clock += size;
 *	if (clock > limit)
 *		on_block(uc, address, COUNTED, ticker);
 *
 * which is what on_block() does when it finds no reason to stop.  All such reasons bring the
 * limit down, but two that go by the address and are left to the hook: a place where a
 * debugger stops, and the begin of a page, whose predecessor in memory may lie in another
 * one, so that the entry is eligible.
 *
 * What is leant on is private to Unicorn 2.1.4: opcodes by number, temporaries as distances
 * from their context.  counting.py runs such blocks beside others before a machine has any.
 */
#include "engine.h"

/* qemu/include/tcg/tcg-opc.h, by position */
enum opcode { SET_LABEL = 1, LD_I64 = 73, ST_I64 = 77, ADD_I64 = 78 };
/* qemu/include/tcg/tcg.h */
enum condition { EQ = 8, LEU = 12 };
#define TYPE_I64 1

struct label {			/* ibid., its beginning */
	uint32_t present : 1, has_value : 1, id : 14, refs : 16;
};

/* A temporary, as operations name it; functions take its distance from the context. */
typedef uintptr_t temp;

#define FIELD(field) offsetof(struct account, field)

struct emitter {
	char *context;
	temp account;		/* its address */
	temp used[16];		/* none outlives a branch */
	size_t n;
};

static uintptr_t distance(const struct emitter *c, temp t)
{
	return t - (uintptr_t)c->context;
}

static temp kept(struct emitter *c, temp t)
{
	c->used[c->n++] = t;
	return t;
}

static temp new_temp(struct emitter *c)
{
	return kept(c, original.temp_new(c->context, TYPE_I64, false));
}

static temp constant(struct emitter *c, uint64_t value)
{
	return kept(c, original.constant(c->context, value) + (uintptr_t)c->context);
}

static temp load(struct emitter *c, size_t field)
{
	temp value = new_temp(c);

	original.op3(c->context, LD_I64, value, c->account, field);
	return value;
}

static void store(struct emitter *c, temp value, size_t field)
{
	original.op3(c->context, ST_I64, value, c->account, field);
}

static temp sum(struct emitter *c, temp a, temp b)
{
	temp value = new_temp(c);

	original.op3(c->context, ADD_I64, value, a, b);
	return value;
}

static temp widened(struct emitter *c, temp narrow)
{
	temp value = new_temp(c);

	original.widen(c->context, distance(c, value), distance(c, narrow));
	return value;
}

static temp choose_if_equal(struct emitter *c, temp a, temp b, temp yes, temp no)
{
	temp value = new_temp(c);

	original.movcond(c->context, EQ, distance(c, value), distance(c, a), distance(c, b),
			 distance(c, yes), distance(c, no));
	return value;
}

static void forget_temps(struct emitter *c)
{
	while (c->n)
		original.temp_free(c->context, c->used[--c->n]);
}

static struct label *jump_if_within(struct emitter *c, temp clock)
{
	struct label *label = original.new_label(c->context);

	original.brcond(c->context, LEU, distance(c, clock), distance(c, load(c, FIELD(limit))),
			label);
	forget_temps(c);
	return label;
}

static void here(struct emitter *c, struct label *label)
{
	label->present = 1;
	original.op1(c->context, SET_LABEL, (uintptr_t)label);
}

/* The clock after it. */
static temp count(struct emitter *c, temp address, temp size)
{
	temp start = load(c, FIELD(now.start)), expect = load(c, FIELD(now.expect));
	temp origin = load(c, FIELD(now.origin)), clock = load(c, FIELD(clock));

	store(c, start, FIELD(before.start));
	store(c, expect, FIELD(before.expect));
	store(c, origin, FIELD(before.origin));
	store(c, choose_if_equal(c, expect, address, origin, clock), FIELD(now.origin));
	store(c, address, FIELD(now.start));
	store(c, sum(c, address, size), FIELD(now.expect));
	clock = sum(c, clock, size);
	store(c, clock, FIELD(clock));
	return clock;
}

static void ask(struct emitter *c, const struct engine *e)
{
	temp asked[] = { constant(c, (uintptr_t)e->uc), constant(c, e->translation.first),
			 constant(c, COUNTED), constant(c, (uintptr_t)e->watches.ticker) };

	original.call(c->context, e->on_block, NULL, 4, asked);
	forget_temps(c);
}

/* `size` is a constant that the translator fills in when the block is complete. */
static void emit_entry(const struct engine *e, void *context, temp address, temp size)
{
	struct emitter c = { .context = context };
	struct label *within;

	c.account = constant(&c, (uintptr_t)e->account);
	within = jump_if_within(&c, count(&c, address, widened(&c, size)));
	ask(&c, e);
	here(&c, within);
}

static bool is_plain(const struct engine *e)
{
	uint64_t first = e->translation.first;

	return e->inlining && (first & (PAGE_SIZE - 1)) >= LONGEST && !is_place(e->stops, first);
}

void tcg_gen_callN_x86_64(void *tcg_ctx, void *function, void *result, int count, uintptr_t *arguments)
{
	struct engine *e = running;
	struct translation *t = e ? &e->translation : NULL;

	if (t && t->block && function == e->on_block && is_plain(e)) {
		t->counted = true;
		emit_entry(e, tcg_ctx, arguments[1], arguments[2]);
	} else if (t && t->block && t->counted && function == (void *)original.check_exit) {
		t->counted = false;	/* on_block() asks */
	} else {
		original.call(tcg_ctx, function, result, count, arguments);
	}
}
