// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * SSE's arithmetic as the SDM has it (vol. 1, 11.5): MXCSR collects exceptions, and one that
 * is not masked is #XM, the destination as before.  Unicorn 2.1.4 does the arithmetic with a
 * status word of its own and never looks at what that has collected.
 *
 * Not done, nor by QEMU: the denormal-operand exception.
 */
#include <string.h>

#include "engine.h"
#include "env.h"

#define UD 6
#define GP 13
#define XM 19
#define CR4_OSXMMEXCPT (1ul << 10)

/* MXCSR (SDM vol. 1, figure 10-3) */
#define INVALID (1u << 0)
#define ZERO_DIVIDE (1u << 2)
#define OVERFLOW (1u << 3)
#define UNDERFLOW (1u << 4)
#define INEXACT (1u << 5)
#define BEFORE_COMPUTATION (INVALID | ZERO_DIVIDE)
#define ALL (BEFORE_COMPUTATION | OVERFLOW | UNDERFLOW | INEXACT)
#define MASKS_SHIFT 7
#define FLUSH_TO_ZERO (1u << 15)
#define RESERVED 0xFFFF0000u

#define REGISTER_SIZE 64	/* ZMMReg, a destination */
#define SUPPRESS_INEXACT 8	/* in the immediate of ROUNDxx */

/* softfloat-types.h has the same bits, and two more for flushed denormals. */
static uint32_t collected(const struct float_status *status)
{
	uint32_t flags = status->flags & ALL;

	return status->flags & 128 ? flags | UNDERFLOW | INEXACT : flags;
}

static bool is_unmasked(uint32_t mxcsr, uint32_t flags)
{
	return flags & ~(mxcsr >> MASKS_SHIFT) & ALL;
}

static void trap(void *env, uint32_t flags, uintptr_t caller)
{
	uint32_t mxcsr = MXCSR(env);

	if (is_unmasked(mxcsr, flags & BEFORE_COMPUTATION))
		flags &= BEFORE_COMPUTATION;
	MXCSR(env) = mxcsr | flags;
	original.raise(env, CR4(env) & CR4_OSXMMEXCPT ? XM : UD, 0, caller);
}

/* With an exception that is not masked, all may have to be undone. */
static uint64_t calculate_carefully(arithmetic_fn *fn, void *env, uintptr_t d, uintptr_t s,
				    uintptr_t i, uint32_t reported, uintptr_t caller)
{
	uint8_t before[REGISTER_SIZE];
	uint64_t cc_src = CC_SRC(env), result;
	uint32_t flags;

	memcpy(before, (void *)d, sizeof(before));
	SSE_STATUS(env)->flags = 0;
	result = fn(env, d, s, i);
	flags = collected(SSE_STATUS(env)) & reported;
	if (is_unmasked(MXCSR(env), flags)) {
		memcpy((void *)d, before, sizeof(before));
		CC_SRC(env) = cc_src;
		trap(env, flags, caller);
	}
	MXCSR(env) |= flags;
	return result;
}

/*
 * An inexact result that has been noted before needs no noting: with it, softfloat lets the
 * computer calculate.
 */
static inline uint64_t calculate(arithmetic_fn *fn, void *env, uintptr_t d, uintptr_t s, uintptr_t i,
				 uint32_t reported, uintptr_t caller)
{
	uint32_t mxcsr = MXCSR(env);
	uint64_t result;

	if (!running || running->lenient)
		return fn(env, d, s, i);
	if ((mxcsr >> MASKS_SHIFT & ALL) != ALL)
		return calculate_carefully(fn, env, d, s, i, reported, caller);
	SSE_STATUS(env)->flags = mxcsr & INEXACT;
	result = fn(env, d, s, i);
	MXCSR(env) = mxcsr | (collected(SSE_STATUS(env)) & reported);
	return result;
}

#define STAND_IN(name)                                                                        \
	uint64_t helper_##name##_x86_64(void *env, uintptr_t d, uintptr_t s, uintptr_t i)     \
	{                                                                                     \
		return calculate(original.name, env, d, s, i, ALL, CALLER);                   \
	}
ARITHMETIC(STAND_IN)
#undef STAND_IN

#define STAND_IN(name)                                                                        \
	uint64_t helper_##name##_x86_64(void *env, uintptr_t d, uintptr_t s, uintptr_t i)     \
	{                                                                                     \
		return calculate(original.name, env, d, s, i,                                 \
				 i & SUPPRESS_INEXACT ? ALL & ~INEXACT : ALL, CALLER);        \
	}
ROUNDING(STAND_IN)
#undef STAND_IN

/* MXCSR.FZ counts while underflow is masked (SDM vol. 1, 10.2.3.3).  Unicorn gives it to the x87. */
void update_mxcsr_status_x86_64(void *env)
{
	uint32_t mxcsr = MXCSR(env);

	original.update_mxcsr_status(env);
	FP_STATUS(env)->flush_to_zero = 0;
	SSE_STATUS(env)->flush_to_zero = mxcsr & FLUSH_TO_ZERO && !is_unmasked(mxcsr, UNDERFLOW);
}

/* LDMXCSR: "#GP(0) for an attempt to set reserved bits in MXCSR". */
void helper_ldmxcsr_x86_64(void *env, uint32_t value)
{
	if (running && !running->lenient && value & RESERVED)
		original.raise(env, GP, 0, CALLER);
	original.ldmxcsr(env, value);
}
