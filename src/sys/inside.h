/* SPDX-License-Identifier: BSD-3-Clause */
/* inside.h - which callbacks the calling thread is in. */
#ifndef GM_SYS_INSIDE_H
#define GM_SYS_INSIDE_H

#include <stdbool.h>

/* A callback that the calling thread is in; on its stack. */
struct gm_inside {
	const void *what;
	struct gm_inside *outer;
};

/* False if the thread is in a callback of @what already. */
bool gm_sys_enter(struct gm_inside *inside, const void *what);
void gm_sys_leave(struct gm_inside *inside);
/* Is the thread in any? */
bool gm_sys_is_inside(void);

#endif
