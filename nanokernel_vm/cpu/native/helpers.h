/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Helpers of Unicorn's translated code that others stand in for; library.h has how.
 */
#ifndef NK_HELPERS_H
#define NK_HELPERS_H

#include <stdint.h>

/* SSE's arithmetic: stores to what its first argument points to, or returns a value. */
typedef uint64_t arithmetic_fn(void *env, uintptr_t destination, uintptr_t source, uintptr_t immediate);

#define FOUR_WIDTHS(X, name) X(name##ps) X(name##pd) X(name##ss) X(name##sd)

#define ARITHMETIC(X) \
	FOUR_WIDTHS(X, add) FOUR_WIDTHS(X, sub) FOUR_WIDTHS(X, mul) FOUR_WIDTHS(X, div) \
	FOUR_WIDTHS(X, min) FOUR_WIDTHS(X, max) FOUR_WIDTHS(X, sqrt) \
	FOUR_WIDTHS(X, cmpeq) FOUR_WIDTHS(X, cmplt) FOUR_WIDTHS(X, cmple) FOUR_WIDTHS(X, cmpunord) \
	FOUR_WIDTHS(X, cmpneq) FOUR_WIDTHS(X, cmpnlt) FOUR_WIDTHS(X, cmpnle) FOUR_WIDTHS(X, cmpord) \
	X(ucomiss) X(comiss) X(ucomisd) X(comisd) \
	X(addsubps) X(addsubpd) X(haddps) X(haddpd) X(hsubps) X(hsubpd) \
	X(cvtps2pd) X(cvtpd2ps) X(cvtss2sd) X(cvtsd2ss) \
	X(cvtdq2ps) X(cvtpi2ps) X(cvtsi2ss) X(cvtsq2ss) X(cvtsq2sd) \
	X(cvtps2dq) X(cvtpd2dq) X(cvtps2pi) X(cvtpd2pi) \
	X(cvttps2dq) X(cvttpd2dq) X(cvttps2pi) X(cvttpd2pi) \
	X(cvtss2si) X(cvtsd2si) X(cvtss2sq) X(cvtsd2sq) \
	X(cvttss2si) X(cvttsd2si) X(cvttss2sq) X(cvttsd2sq) \
	X(dpps_xmm) X(dppd_xmm)

/* With a bit of the immediate that suppresses the precision exception */
#define ROUNDING(X) X(roundps_xmm) X(roundpd_xmm) X(roundss_xmm) X(roundsd_xmm)

#pragma GCC visibility push(default)
#define DECLARE(name) arithmetic_fn helper_##name##_x86_64;
ARITHMETIC(DECLARE)
ROUNDING(DECLARE)
#undef DECLARE
arithmetic_fn helper_pcmpestri_xmm_x86_64, helper_pcmpestrm_xmm_x86_64;
void helper_ldmxcsr_x86_64(void *env, uint32_t value);
void helper_rdpmc_x86_64(void *env);
void helper_sysenter_x86_64(void *env, int length);
void helper_write_crN_x86_64(void *env, int number, uint64_t value);
void helper_xsetbv_x86_64(void *env, uint32_t number, uint64_t value);
void update_mxcsr_status_x86_64(void *env);
#pragma GCC visibility pop

void raise_exception_err_ra_x86_64(void *env, int vector, int error_code, uintptr_t caller)
	__attribute__((noreturn));

#define HELPER(X, name) X(name, helper_##name##_x86_64)
#define HELPERS(X) \
	HELPER(X, ldmxcsr) HELPER(X, pcmpestri_xmm) HELPER(X, pcmpestrm_xmm) HELPER(X, sysenter) \
	HELPER(X, write_crN) HELPER(X, xsetbv) \
	X(update_mxcsr_status, update_mxcsr_status_x86_64) \
	X(raise, raise_exception_err_ra_x86_64)

#endif
