// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * An SSE operand of 16 bytes that is not aligned is #GP (SDM vol. 2, 2.4, exception types 1,
 * 2 and 4).  Unicorn reads and writes it as two words of 8 bytes, wherever it lies.  Here
 * the first of them says that it wants alignment; translated code then takes the slow way
 * for one that has it not, where it is refused.
 */
#include "engine.h"

#define GP 13
#define ALIGN_16 0x40u		/* qemu/include/exec/memop.h, MO_ALIGN_16; MO_AMASK */
#define ALIGN_MASK 0x70u
#define MEMOP_SHIFT 4		/* qemu/include/tcg/tcg.h, make_memop_idx() */

static uint32_t wanted(uint32_t memop)
{
	if (!running || !running->translation.active || !running->translation.aligned)
		return memop;
	running->translation.aligned = false;
	return memop | ALIGN_16;
}

void tcg_gen_qemu_ld_i64_x86_64(void *tcg_ctx, void *value, void *address, uintptr_t mmu_idx,
				uint32_t memop)
{
	original.gen_load(tcg_ctx, value, address, mmu_idx, wanted(memop));
}

void tcg_gen_qemu_st_i64_x86_64(void *tcg_ctx, void *value, void *address, uintptr_t mmu_idx,
				uint32_t memop)
{
	original.gen_store(tcg_ctx, value, address, mmu_idx, wanted(memop));
}

static void check(void *env, uint64_t va, uint32_t oi, uintptr_t caller)
{
	if ((oi >> MEMOP_SHIFT & ALIGN_MASK) == ALIGN_16 && va & 15)
		original.raise(env, GP, 0, caller);
}

uint64_t helper_le_ldq_mmu_x86_64(void *env, uint64_t va, uint32_t oi, uintptr_t caller)
{
	check(env, va, oi, caller);
	return watch_load(original.load, 8, env, va, oi, caller);
}

void helper_le_stq_mmu_x86_64(void *env, uint64_t va, uint64_t value, uint32_t oi, uintptr_t caller)
{
	check(env, va, oi, caller);
	original.store(env, va, value, oi, caller);
}
