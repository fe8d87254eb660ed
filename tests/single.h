/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * single.h - is an access of an aligned number one instruction? The accesses that are asked, and a
 * page that sees each instruction which touches it.
 */
#ifndef GM_TESTS_SINGLE_H
#define GM_TESTS_SINGLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <guestmem/guestmem.h>

/*
 * A number, and ways to it: its address, a cache that it is in, and @off of a slice, if there are slices of such
 * memory. @aside is an odd address in memory that nobody watches.
 */
struct single_at {
	const struct gm_view *view;
	struct gm_cache *cache;
	const struct iovec *slice;
	const struct gm_pin *pin;
	uint64_t off;
	uint64_t gpa;
	uint64_t aside;
	size_t width;
};

enum single_kind {
	SINGLE_READ,
	SINGLE_WRITE,
	SINGLE_RMW,
	SINGLE_CHANGE, /* a write of which something else lies over the number too */
};

/*
 * An access of @width bytes. @fn returns what the access returns; 1 is as good as 0. A read puts the
 * number into num[0]; else num[0] is the operand and num[2] is what is there (16 bytes: two words each). Names that
 * begin with slice_ are of accesses through slices.
 */
struct single_access {
	const char *name;
	enum single_kind kind;
	size_t width; /* 0: 1, 2, 4 and 8 */
	bool swapped; /* the other byte order */
	int (*fn)(const struct single_at *at, uint64_t *num);
};

/* single_inline.c: whatever is inline for the caller; test_single_code.py compiles it in many ways. */
extern const struct single_access single_inline[];
extern const size_t single_inline_nr;

/* single_calls.c: what is in the library only. */
extern const struct single_access single_calls[];
extern const size_t single_calls_nr;

#define SINGLE_PAGE ((size_t)4096)

/*
 * From begin to end nothing else may touch the page and its two neighbours, which are all memory of this process. End
 * returns NULL, or what is wrong: the number was touched by other than one instruction, or by one that
 * reaches beyond it; while a write went on, something else than the old and the new number was there.
 * SINGLE_RMW may look before it writes; what is touched for SINGLE_CHANGE besides does not matter.
 */
bool single_steps(void); /* false: not for this machine */
void single_begin(void *page, size_t off, size_t width);
const char *single_end(enum single_kind kind);

#endif
