/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guard.h - touching memory that may not be there.
 *
 * Every function here touches guest memory with instructions that have an entry in an exception
 * table: when the host cannot produce the page, the handler of guard.c continues at the entry's
 * fix-up and the function says how far it came. Without the guard installed a fault takes its usual
 * way.
 *
 * Which side of a copy is guest memory is part of the function's name. Only that side has entries:
 * a bad pointer of the caller faults as in any other code, and reaches whoever handles such
 * signals.
 *
 * Lengths of 1, 2, 4 and 8 are one access of that size on the guest's side. Bytes are
 * written in rising order: nothing behind a fault has been touched.
 *
 * Implementations: src/arch/x86_64/guard.S, src/arch/aarch64/guard.S, src/arch/generic/guard.c.
 */
#ifndef GM_SYS_GUARD_H
#define GM_SYS_GUARD_H

#include <guestmem/access.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What the handler saw. The offsets are known to the assembly: the address at 0, signo at 8, code
 * at 12. Written only by functions that report a fault.
 */
struct gm_guard_fault {
	uint64_t addr;
	int32_t signo;
	int32_t code; /* si_code */
};

/* One entry of an exception table: distances from the field itself. */
struct gm_extable_entry {
	int32_t insn;
	int32_t fixup;
};

/*
 * Copies. Return the bytes that were NOT copied: 0, or the rest that begins at the first byte that
 * could not be touched. gm_guard_copy_from() and gm_guard_copy_to() are exported for the inline
 * functions and therefore declared in guestmem/access.h; theirs is the only @fault that may be
 * NULL. gm_guard_copy_both() copies from guest to guest; the ranges must not overlap.
 */
size_t gm_guard_copy_both(
	void *guest_dst, const void *guest_src, size_t len, struct gm_guard_fault *fault);
size_t gm_guard_fill(void *guest_dst, int byte, size_t len, struct gm_guard_fault *fault);

/*
 * Atomic read-modify-write of @size (1, 2, 4, 8) bytes, aligned, sequentially consistent.
 * gm_guard_rmw() returns 0 and the value before, gm_guard_cmpxchg() 1 (exchanged) or 0 (not) and
 * the value before in *expected. Both return -1 after a fault, with the outputs unchanged.
 */
enum gm_guard_op {
	GM_GUARD_XCHG,
	GM_GUARD_ADD,
	GM_GUARD_AND,
	GM_GUARD_OR,
	GM_GUARD_XOR,
};

int gm_guard_rmw(enum gm_guard_op op, void *guest, size_t size, uint64_t value, uint64_t *ret_old,
	struct gm_guard_fault *fault);
int gm_guard_cmpxchg(void *guest, size_t size, uint64_t *expected, uint64_t desired,
	struct gm_guard_fault *fault);

/*
 * 16 bytes, aligned, as two numbers in rising order of address. As gm_guard_cmpxchg(), or -2: the
 * machine cannot. Memory is written in any case.
 */
int gm_guard_cmpxchg_16(
	void *guest, uint64_t expected[2], const uint64_t desired[2], struct gm_guard_fault *fault);

/* -EHWPOISON for memory that failed, -EACCES for pages that are protected, else -EIO. */
int gm_guard_errno(const struct gm_guard_fault *fault);

/*
 * Exception tables of programs and libraries that use the inline accesses. A table may be added
 * many times; it is dropped as often. They count whether or not the guard is installed. An empty
 * table (@start == @end) is accepted and ignored. gm_guard_add_table() returns 0, -ENOSPC
 * (GM_GUARD_TABLES_MAX are known), -EINVAL, or -ENOTSUP (this build has no use for tables, so
 * inline accesses would be unguarded).
 */
#define GM_GUARD_TABLES_MAX 64

int gm_guard_add_table(const void *start, const void *end);
void gm_guard_drop_table(const void *start, const void *end);

/* Faults that were turned into errors since the library was loaded. */
uint64_t gm_guard_fault_count(void);

#endif
