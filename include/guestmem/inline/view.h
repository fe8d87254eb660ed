/* SPDX-License-Identifier: BSD-3-Clause */
/* inline/view.h - bodies of view.h. Included by it. */
#ifndef GUESTMEM_INLINE_VIEW_H
#define GUESTMEM_INLINE_VIEW_H

#ifdef __cplusplus
static_assert(sizeof(struct gm_span) == 32, "frozen");
static_assert(sizeof(struct gm_view) == 48, "frozen");
#else
_Static_assert(sizeof(struct gm_span) == 32, "frozen");
_Static_assert(sizeof(struct gm_view) == 48, "frozen");
#endif

/*
 * The host address of [gpa, gpa+len) if one placed span holds all of it with @perms, else NULL: then the
 * out-of-line search decides. @len is not 0. The address is window_base + gpa, so that the table look-up is
 * not on the way from the address to the data; the branch keeps the compiler from joining them again.
 */
static inline __attribute__((unused, always_inline)) void *gm_view_fast(
	const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms)
{
	uint64_t bucket = gpa >> view->shift;
	const struct gm_span *span;

	if (__builtin_expect(bucket >= view->nr_index, 0))
		return (void *)0;
	span = view->spans + view->index[bucket];
	span += gpa > span->last;
	if (__builtin_expect(gpa < span->first || gpa > span->last ||
				     len - 1 > span->last - gpa || (perms & ~span->perms) ||
				     !(span->flags & GM_SPAN_PLACED),
		    0))
		return (void *)0;
	return (void *)(uintptr_t)(view->window_base + gpa);
}

#if !defined(GM_NO_INLINE) || defined(GM_BUILD_INLINE)

GM_INLINE int gm_reader_create(struct gm_space *space, const char *name,
	struct gm_reader **ret_reader, struct gm_error *err)
{
	return gm_reader_create_checked(
		space, name, sizeof(struct gm_view), GM_VIEW_VERSION, ret_reader, err);
}

GM_INLINE uint64_t gm_view_generation(const struct gm_view *view)
{
	return view->generation;
}

#endif

#endif
