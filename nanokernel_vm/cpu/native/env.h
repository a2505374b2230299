/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where Unicorn keeps what the stand-ins for helpers need: offsets in CPUX86State
 * (qemu/target/i386/cpu.h).  cpu/proof.py looks for them before any machine is built.
 */
#ifndef NK_ENV_H
#define NK_ENV_H

#include <stddef.h>
#include <stdint.h>

#define ENV_REGS 0
#define ENV_CC_SRC 152
#define ENV_CR4 456
#define ENV_FP_STATUS 776
#define ENV_SSE_STATUS 808
#define ENV_MXCSR 816
#define ENV_SYSENTER_CS 4800

/* qemu/include/fpu/softfloat-types.h, float_status */
struct float_status {
	int8_t tininess, rounding;
	uint8_t flags;
	int8_t precision;
	uint8_t flush_to_zero, flush_inputs, default_nan, snan_bit_is_one;
};

static inline void *in_env(void *env, size_t offset)
{
	return (char *)env + offset;
}

#define REGS(env) ((uint64_t *)in_env(env, ENV_REGS))
#define CC_SRC(env) (*(uint64_t *)in_env(env, ENV_CC_SRC))
#define CR4(env) (*(uint64_t *)in_env(env, ENV_CR4))
#define FP_STATUS(env) ((struct float_status *)in_env(env, ENV_FP_STATUS))
#define SSE_STATUS(env) ((struct float_status *)in_env(env, ENV_SSE_STATUS))
#define MXCSR(env) (*(uint32_t *)in_env(env, ENV_MXCSR))
#define SYSENTER_CS(env) (*(uint32_t *)in_env(env, ENV_SYSENTER_CS))

/* Where translated code called a helper: exec-all.h, GETPC(). */
#define CALLER ((uintptr_t)__builtin_return_address(0))

#endif
