/* SPDX-License-Identifier: BSD-3-Clause */
/* view_mark.c - these programs have views without logs: nothing may ask for a mark. */
#include <guestmem/view.h>
#include <stdlib.h>

void gm_view_mark(const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	(void)view;
	(void)gpa;
	(void)len;
	abort();
}
