/* SPDX-License-Identifier: BSD-3-Clause */
/* view_mark.h - these programs have views without logs: nothing may ask for a mark. */
#ifndef GM_TESTS_ARM64_VIEW_MARK_H
#define GM_TESTS_ARM64_VIEW_MARK_H
#ifndef __ASSEMBLER__

#include <guestmem/view.h>
#include <stdlib.h>

__attribute__((weak)) void gm_view_mark(const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	(void)view;
	(void)gpa;
	(void)len;
	abort();
}

#endif
#endif
