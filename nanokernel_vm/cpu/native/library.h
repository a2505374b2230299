/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is used of Unicorn 2.1.4 beside its public interface.  A CPUState, a TCGContext,
 * an env and so on are never looked into: they are handed on, and told apart.
 */
#ifndef NK_LIBRARY_H
#define NK_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "helpers.h"

#define PAGE_SHIFT 12
#define PAGE_SIZE (1ul << PAGE_SHIFT)
#define PAGE_OF(address) ((address) & -PAGE_SIZE)
#define BP_MEM_READ 1		/* qemu/include/hw/core/cpu.h */
#define BP_MEM_WRITE 2
#define PAGE_EXEC 4		/* qemu/include/exec/cpu-all.h */
#define MMU_INST_FETCH 2	/* qemu/include/hw/core/cpu.h, enum MMUAccessType */
#define CTL_TLB_FLUSH (11 | 1u << 30)	/* unicorn/unicorn.h, uc_ctl_flush_tlb() */

#define GETPC_ADJ 2		/* qemu/include/exec/exec-all.h: into the call instruction */
#define LARGEST_BLOCK (1u << 16)	/* host code of one: tb_gen_code(), translate-all.c */

/* CPUX86State.hflags, of which TranslationBlock.flags is made: qemu/target/i386/cpu.h */
#define HF_CS32 (1u << 4)
#define HF_CS64 (1u << 15)
#define HF_VM (1u << 17)

typedef struct {
	uint32_t bits;
} MemTxAttrs;

typedef struct {		/* qemu/include/exec/exec-all.h, its beginning */
	uint64_t pc, cs_base;
	uint32_t flags;
} TranslationBlock;

typedef struct {		/* qemu/include/exec/translator.h, its beginning */
	TranslationBlock *tb;
	uint64_t pc_first, pc_next;
	enum { DISAS_NEXT, DISAS_TOO_MANY } is_jmp;
} DisasContextBase;

typedef uint64_t load_fn(void *env, uint64_t va, uint32_t oi, uintptr_t retaddr);
typedef void translate_fn(DisasContextBase *db, void *cpu);

typedef struct {		/* ibid. */
	void *init_disas_context, *tb_start, *insn_start, *breakpoint_check;
	translate_fn *translate_insn;
	void *tb_stop, *pc_sync;
} TranslatorOps;

/* Those that this module defines again, so that the library's calls come here ... */
#pragma GCC visibility push(default)
bool x86_cpu_tlb_fill_x86_64(void *cpu, uint64_t va, int size, int access, int mmu_idx, bool probe,
			     uintptr_t retaddr);
void tlb_set_page_with_attrs_x86_64(void *cpu, uint64_t va, uint64_t pa, MemTxAttrs attrs, int prot,
				    int mmu_idx, uint64_t size);
void tlb_set_dirty_x86_64(void *cpu, uint64_t va);
void tlb_reset_dirty_by_vaddr_x86_64(void *cpu, uint64_t va, uint64_t length);
void tlb_protect_code_x86_64(void *uc, uint64_t start);		/* in RAM blocks */
void tlb_unprotect_code_x86_64(void *uc, uint64_t start);
void *find_memory_mapping_x86_64(void *uc, uint64_t pa);
void tlb_flush_x86_64(void *cpu);
void check_exit_request_x86_64(void *tcg_ctx);
void translator_loop_x86_64(const TranslatorOps *ops, DisasContextBase *db, void *cpu,
			    TranslationBlock *tb, int max_insns);
uint8_t cpu_ldub_code_x86_64(void *env, uint64_t pc);
void tcg_gen_qemu_ld_i64_x86_64(void *tcg_ctx, void *value, void *address, uintptr_t mmu_idx,
				uint32_t memop);
void tcg_gen_qemu_st_i64_x86_64(void *tcg_ctx, void *value, void *address, uintptr_t mmu_idx,
				uint32_t memop);
uint64_t helper_le_ldq_mmu_x86_64(void *env, uint64_t va, uint32_t oi, uintptr_t caller);
void helper_le_stq_mmu_x86_64(void *env, uint64_t va, uint64_t value, uint32_t oi, uintptr_t caller);
void cpu_loop_exit_x86_64(void *cpu) __attribute__((noreturn));
int tcg_gen_code_x86_64(void *tcg_ctx, TranslationBlock *tb);
void tcg_gen_callN_x86_64(void *tcg_ctx, void *function, void *result, int count,
			  uintptr_t *arguments);
void cpu_loop_exit_noexc_x86_64(void *cpu) __attribute__((noreturn));
int cpu_watchpoint_address_matches_x86_64(void *cpu, uint64_t va, uint64_t length);
void cpu_check_watchpoint_x86_64(void *cpu, uint64_t va, uint64_t length, MemTxAttrs attrs,
				 int flags, uintptr_t retaddr);
load_fn helper_le_lduw_mmu_x86_64, helper_le_ldul_mmu_x86_64;
#pragma GCC visibility pop
/* ... and those that it only calls. */
void cpu_loop_exit_noexc_x86_64(void *cpu) __attribute__((noreturn));
bool cpu_restore_state_x86_64(void *cpu, uintptr_t return_address, bool will_exit);
int uc_emu_start(void *uc, uint64_t begin, uint64_t until, uint64_t timeout, size_t count);
int uc_close(void *uc);
int uc_ctl(void *uc, int control, ...);
void tb_invalidate_phys_range_x86_64(void *uc, uint64_t start, uint64_t end);	/* in RAM blocks */
void cpu_io_recompile_x86_64(void *cpu, uintptr_t retaddr) __attribute__((noreturn));
/* Temporaries are by address, or (those in brackets) by distance from the context. */
void helper_check_exit_request_x86_64(void *uc, uint32_t in_delay_slot);
void *gen_new_label_x86_64(void *tcg_ctx);
uintptr_t tcg_temp_new_internal_x86_64(void *tcg_ctx, int type, bool local);
void tcg_temp_free_internal_x86_64(void *tcg_ctx, uintptr_t temp);
uintptr_t tcg_const_i64_x86_64(void *tcg_ctx, int64_t value);	/* [result] */
void tcg_gen_extu_i32_i64_x86_64(void *tcg_ctx, uintptr_t result, uintptr_t value);	/* [both] */
void tcg_gen_op1_x86_64(void *tcg_ctx, int opcode, uintptr_t a);
void tcg_gen_op3_x86_64(void *tcg_ctx, int opcode, uintptr_t a, uintptr_t b, uintptr_t c);
void tcg_gen_movcond_i64_x86_64(void *tcg_ctx, int condition, uintptr_t result, uintptr_t a,
				uintptr_t b, uintptr_t yes, uintptr_t no);	/* [all] */
void tcg_gen_brcond_i64_x86_64(void *tcg_ctx, int condition, uintptr_t a, uintptr_t b,
			       void *label);	/* [a and b] */

#define ORIGINALS(X) \
	X(tlb_fill, x86_cpu_tlb_fill_x86_64) \
	X(set_page, tlb_set_page_with_attrs_x86_64) \
	X(set_dirty, tlb_set_dirty_x86_64) \
	X(reset_dirty, tlb_reset_dirty_by_vaddr_x86_64) \
	X(protect_code, tlb_protect_code_x86_64) \
	X(unprotect_code, tlb_unprotect_code_x86_64) \
	X(mapping, find_memory_mapping_x86_64) \
	X(flush, tlb_flush_x86_64) \
	X(exit_request, check_exit_request_x86_64) \
	X(translator_loop, translator_loop_x86_64) \
	X(ldub_code, cpu_ldub_code_x86_64) \
	X(gen_load, tcg_gen_qemu_ld_i64_x86_64) \
	X(gen_store, tcg_gen_qemu_st_i64_x86_64) \
	X(load, helper_le_ldq_mmu_x86_64) \
	X(store, helper_le_stq_mmu_x86_64) \
	X(loop_exit, cpu_loop_exit_x86_64) \
	X(loop_exit_noexc, cpu_loop_exit_noexc_x86_64) \
	X(gen_code, tcg_gen_code_x86_64) \
	X(call, tcg_gen_callN_x86_64) \
	X(check_exit, helper_check_exit_request_x86_64) \
	X(new_label, gen_new_label_x86_64) \
	X(temp_new, tcg_temp_new_internal_x86_64) \
	X(temp_free, tcg_temp_free_internal_x86_64) \
	X(constant, tcg_const_i64_x86_64) \
	X(widen, tcg_gen_extu_i32_i64_x86_64) \
	X(op1, tcg_gen_op1_x86_64) \
	X(op3, tcg_gen_op3_x86_64) \
	X(movcond, tcg_gen_movcond_i64_x86_64) \
	X(brcond, tcg_gen_brcond_i64_x86_64) \
	X(restore_state, cpu_restore_state_x86_64) \
	X(emu_start, uc_emu_start) \
	X(close, uc_close) \
	X(invalidate, tb_invalidate_phys_range_x86_64) \
	X(ctl, uc_ctl) \
	X(recompile, cpu_io_recompile_x86_64) \
	X(load_2, helper_le_lduw_mmu_x86_64) \
	X(load_4, helper_le_ldul_mmu_x86_64)

/* The library's own functions, once bind() has found them. */
extern struct originals {
#define MEMBER(name, symbol) __typeof__(symbol) *name;
	ORIGINALS(MEMBER)
	HELPERS(MEMBER)
#undef MEMBER
#define MEMBER(name) arithmetic_fn *name;
	ARITHMETIC(MEMBER)
	ROUNDING(MEMBER)
#undef MEMBER
} original;

#endif
