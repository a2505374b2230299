// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Instructions whose faults Unicorn 2.1.4 forgets; references are to the SDM, vol. 2.
 */
#include "engine.h"
#include "env.h"
#include "promises.h"

#define UD 6
#define GP 13
#define CR4_OSXSAVE (1ul << 18)

/* RAX, RDX: what the lengths of PCMPESTRI and PCMPESTRM are in */
enum { RAX, RDX = 2 };

/* An engine that nobody has adopted is Unicorn's. */
static bool is_ours(void)
{
	return running && !running->lenient;
}

/* MOV to CR4: "an attempt to write a 1 to any reserved bit" is #GP. */
void helper_write_crN_x86_64(void *env, int number, uint64_t value)
{
	if (is_ours() && number == 4 && value & ~promises.cr4)
		original.raise(env, GP, 0, CALLER);
	original.write_crN(env, number, value);
}

/* XSETBV: Unicorn goes by its own leaf 0DH, which has AVX. */
void helper_xsetbv_x86_64(void *env, uint32_t number, uint64_t value)
{
	if (is_ours() && CR4(env) & CR4_OSXSAVE && value & ~promises.xcr0)
		original.raise(env, GP, 0, CALLER);
	original.xsetbv(env, number, value);
}

/* RDPMC: leaf 0AH has no counter, so that each number is wrong; CPL and CR4.PCE give #GP, too. */
void helper_rdpmc_x86_64(void *env)
{
	original.raise(env, is_ours() ? GP : UD, 0, CALLER);
}

/* SYSENTER: "#GP(0) if IA32_SYSENTER_CS[15:2] = 0". */
void helper_sysenter_x86_64(void *env, int length)
{
	if (is_ours() && !(SYSENTER_CS(env) & 0xFFFC))
		original.raise(env, GP, 0, CALLER);
	original.sysenter(env, length);
}

/*
 * PCMPESTRx: lengths "saturate to 16 (bytes) or 8 (words)" and are absolute.  The least
 * number has no absolute value in Unicorn, which then writes outside its registers, and of
 * 64 bits it takes 32.
 */
static uint64_t saturated(uint64_t length, bool wide)
{
	int64_t value = wide ? (int64_t)length : (int32_t)length;

	return value < -16 || value > 16 ? 16 : length;
}

static uint64_t compare(arithmetic_fn *original_fn, void *env, uintptr_t d, uintptr_t s,
			uintptr_t control)
{
	uint64_t *regs = REGS(env);
	uint64_t rax = regs[RAX], rdx = regs[RDX], result;
	bool wide = (uint32_t)control >> 8;	/* REX.W */

	regs[RAX] = saturated(rax, wide);
	regs[RDX] = saturated(rdx, wide);
	result = original_fn(env, d, s, control);
	regs[RAX] = rax;
	regs[RDX] = rdx;
	return result;
}

uint64_t helper_pcmpestri_xmm_x86_64(void *env, uintptr_t d, uintptr_t s, uintptr_t control)
{
	return compare(original.pcmpestri_xmm, env, d, s, control);
}

uint64_t helper_pcmpestrm_xmm_x86_64(void *env, uintptr_t d, uintptr_t s, uintptr_t control)
{
	return compare(original.pcmpestrm_xmm, env, d, s, control);
}
