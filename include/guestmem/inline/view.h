/* SPDX-License-Identifier: BSD-3-Clause */
/* inline/view.h - bodies of view.h. Included by it. */
#ifndef GUESTMEM_INLINE_VIEW_H
#define GUESTMEM_INLINE_VIEW_H

#include <guestmem/inline/guarded.h>

#ifdef __cplusplus
static_assert(sizeof(struct gm_span) == 40, "frozen");
static_assert(sizeof(struct gm_view) == 64, "frozen");
#else
_Static_assert(sizeof(struct gm_span) == 40, "frozen");
_Static_assert(sizeof(struct gm_view) == 64, "frozen");
#endif

/*
 * The span that holds @gpa, or one that does not if none does: the first that ends in or after its
 * bucket, or the next.
 */
static inline __attribute__((unused, always_inline)) const struct gm_span *gm_view_guess(
	const struct gm_view *view, uint64_t gpa)
{
	uintptr_t slot = view->slots[gpa >> view->shift];
	const struct gm_leaf *leaf;
	const struct gm_span *span;

	while (__builtin_expect(slot & 1, 0)) {
		const struct gm_dir *dir = (const struct gm_dir *)(slot - 1);

		slot = ((
			const uintptr_t *)(const void *)(dir + 1))[(gpa >> dir->shift) & dir->mask];
	}
	leaf = (const struct gm_leaf *)slot;
	span = leaf->spans + ((const uint8_t *)(leaf + 1))[(gpa >> leaf->shift) & leaf->mask];
	return span + (gpa > span->last);
}

/*
 * Most accesses go to the main memory, the largest stretch that may be read and written: it is asked first, by one
 * subtraction, and that is all that stands in the place of an access. What is not there goes by gm_view_find() in a
 * function (GM_SHARED) that all places of a file have in common.
 */
static inline __attribute__((unused, always_inline)) int gm_view_is_hot(
	const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	uint64_t off = gpa - view->hot_first;

	return __builtin_expect(off < view->hot_starts, 1) &&
	       (len <= 8 || len - 8 < view->hot_starts - off);
}

static inline __attribute__((unused, always_inline)) void *gm_view_hot(
	const struct gm_view *view, uint64_t gpa)
{
	return (void *)(uintptr_t)(view->window_base + gpa);
}

#define GM_SHARED static __attribute__((unused, noinline))

/*
 * 1 and the host address if one span holds all of [gpa, gpa+len) and allows direct access with
 * @perms; 0 if the out-of-line search has to decide. @len is not 0. The address is window_base +
 * gpa, so that the table look-up is not on the way from the address to the data; the branch keeps
 * the compiler from joining them again.
 */
static inline __attribute__((unused, always_inline)) int gm_view_find(
	const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms, void **ret_hva)
{
	const struct gm_span *span;
	uint64_t last;

	if (!(perms & ~GM_PERM_RW) && gm_view_is_hot(view, gpa, len)) {
		*ret_hva = gm_view_hot(view, gpa);
		return 1;
	}
	if (__builtin_expect(gpa >> view->shift >= view->nr_slots, 0) ||
		__builtin_expect(__builtin_add_overflow(gpa, len - 1, &last), 0))
		return 0;
	span = gm_view_guess(view, gpa);
	if (__builtin_expect(gpa < span->first || last > span->last || (perms & ~span->direct), 0))
		return 0;
	*ret_hva = gm_view_hot(view, gpa);
	return 1;
}

/*
 * Behind a write of @len bytes, not 0, to direct memory: 1 if all is done, 0 if gm_view_mark() is to
 * be told. The look at the filter comes after the data in the program; who clears a bit of it makes
 * sure that it did in memory as well.
 */
static inline __attribute__((unused, always_inline)) int gm_view_marked(
	const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	uint64_t page = gpa >> 12;

	if (__builtin_expect(!view->filter, 1))
		return 1;
	__asm__ volatile("" ::: "memory");
	return ((gpa + (len - 1)) >> 12 == page) &
	       (int)(__atomic_load_n(&view->filter[page / 64], __ATOMIC_RELAXED) >> (page % 64) &
		       1);
}

/* The same as a pointer, or NULL. */
static inline __attribute__((unused, always_inline)) void *gm_view_fast(
	const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms)
{
	void *hva = (void *)0;

	return gm_view_find(view, gpa, len, perms, &hva) ? hva : (void *)0;
}

#if !defined(GM_NO_INLINE) || defined(GM_BUILD_INLINE)

GM_INLINE int gm_reader_create(struct gm_space *space, const char *name,
	struct gm_reader **ret_reader, struct gm_error *err)
{
	return gm_reader_create_checked(space, name, sizeof(struct gm_view), GM_VIEW_VERSION,
		__start_gm_extable, __stop_gm_extable, ret_reader, err);
}

GM_INLINE uint64_t gm_view_generation(const struct gm_view *view)
{
	return view->generation;
}

#endif

#endif
