/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * access.h - what access.c and atomic.c share: which span an access falls into.
 */
#ifndef GM_MEMORY_ACCESS_H
#define GM_MEMORY_ACCESS_H

#include <guestmem/view.h>

/*
 * The span that holds @gpa with @perms; NULL with *rc = -EFAULT (nothing is mapped there) or
 * -EACCES.
 */
const struct gm_span *gm_access_span(
	const struct gm_view *view, uint64_t gpa, uint32_t perms, int *rc);

/* The host address of @gpa, which lies in @span. */
static inline void *gm_access_hva(const struct gm_span *span, uint64_t gpa)
{
	return (void *)(uintptr_t)(span->delta + gpa);
}

#endif
