/* SPDX-License-Identifier: BSD-3-Clause */
/* inside.c - which callbacks the calling thread is in. */
#include "sys/inside.h"

#include <stddef.h>

static __thread struct gm_inside *innermost;

bool gm_sys_enter(struct gm_inside *inside, const void *what)
{
	for (const struct gm_inside *outer = innermost; outer; outer = outer->outer) {
		if (outer->what == what)
			return false;
	}
	inside->what = what;
	inside->outer = innermost;
	innermost = inside;
	return true;
}

void gm_sys_leave(struct gm_inside *inside)
{
	innermost = inside->outer;
}

bool gm_sys_is_inside(void)
{
	return innermost != NULL;
}
