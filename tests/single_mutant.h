/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * single_mutant.h - bad ways to touch guest memory, one for each MUTANT, in the place of those of
 * inline/guarded.h. What looks at machine code and what steps through it must find them. Only functions of
 * the width that is bad are compiled: MUTANT_WIDTH.
 */
#ifndef GM_TESTS_SINGLE_MUTANT_H
#define GM_TESTS_SINGLE_MUTANT_H

#include <guestmem/inline/guarded.h>
#include <string.h>

#if MUTANT == 1 /* byte by byte */
#define MUTANT_WIDTH(X) WIDTH(X, 32, 4)
static inline int mutant(const void *ptr, uint32_t *ret, int order)
{
	const volatile uint8_t *from = ptr;

	(void)order;
	*ret = 0;
	for (unsigned int i = 0; i < 4; i++)
		*ret |= (uint32_t)from[i] << (8 * i);
	return 1;
}
#define gm_guarded_load_u32 mutant

#elif MUTANT == 2 /* two halves */
#define MUTANT_WIDTH(X) WIDTH(X, 64, 8)
static inline int mutant(void *ptr, uint64_t value, int order)
{
	volatile gm_guest_u32 *to = ptr;

	(void)order;
	to[0] = (uint32_t)value;
	to[1] = (uint32_t)(value >> 32);
	return 1;
}
#define gm_guarded_store_u64 mutant

#elif MUTANT == 3 /* a string instruction, which has an entry in the table */
#define MUTANT_WIDTH(X) WIDTH(X, 32, 4)
static inline __attribute__((always_inline)) int mutant(void *ptr, uint32_t value, int order)
{
	const void *from = &value;
	size_t len = sizeof(value);

	(void)order;
	__asm__ volatile(".Lmutant_%=:\n\trep movsb\n\t"
			 ".pushsection gm_extable, \"ao?\", @progbits, .Lmutant_%=\n\t"
			 ".balign 4\n\t.long .Lmutant_%= - ., .Lmutant_%= - .\n\t.popsection"
			 : "+D"(ptr), "+S"(from), "+c"(len)
			 :
			 : "memory");
	return 1;
}
#define gm_guarded_store_u32 mutant

#elif MUTANT == 4 /* wider than the number */
#define MUTANT_WIDTH(X) WIDTH(X, 16, 2)
static inline __attribute__((always_inline)) int mutant(const void *ptr, uint16_t *ret, int order)
{
	uint32_t wide = 0;
	int rc = gm_guarded_load_u32(ptr, &wide, order);

	*ret = (uint16_t)wide;
	return rc;
}
#define gm_guarded_load_u16 mutant

#elif MUTANT == 5 /* whatever the C library thinks right */
#define MUTANT_WIDTH(X) WIDTH(X, 64, 8)
static inline int mutant(const void *ptr, uint64_t *ret, int order)
{
	void *(*volatile copy)(void *, const void *, size_t) = memcpy;

	(void)order;
	copy(ret, ptr, sizeof(*ret));
	return 1;
}
#define gm_guarded_load_u64 mutant

#elif MUTANT == 6 /* twice */
#define MUTANT_WIDTH(X) WIDTH(X, 64, 8)
static inline __attribute__((always_inline)) int mutant(const void *ptr, uint64_t *ret, int order)
{
	return gm_guarded_load_u64(ptr, ret, order) && gm_guarded_load_u64(ptr, ret, order);
}
#define gm_guarded_load_u64 mutant

#elif MUTANT == 7 /* one instruction, but one without an entry in the table */
#define MUTANT_WIDTH(X) WIDTH(X, 32, 4)
static inline int mutant(void *ptr, uint32_t value, int order)
{
	(void)order;
	*(volatile gm_guest_u32 *)ptr = value;
	return 1;
}
#define gm_guarded_store_u32 mutant

#elif MUTANT == 8 /* single, but in no order */
#define MUTANT_WIDTH(X) WIDTH(X, 32, 4)
static inline __attribute__((always_inline)) int mutant(void *ptr, uint32_t value, int order)
{
	(void)order;
	return gm_store_relaxed_u32(ptr, value);
}
#define gm_guarded_store_u32 mutant

#else
#error "no such mutant"
#endif

#endif
