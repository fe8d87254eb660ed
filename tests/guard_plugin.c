/* SPDX-License-Identifier: BSD-3-Clause */
/* guard_plugin.c - a library with inline accesses of its own, for test_guard_user.c. */
#include <guestmem/guestmem.h>

#include "guard_plugin.h"

int plugin_read(const struct gm_view *view, uint64_t gpa, uint64_t *ret)
{
	return gm_read_u64(view, gpa, ret);
}

int plugin_install(void)
{
	return gm_guard_install();
}

int plugin_remove(void)
{
	return gm_guard_remove();
}

int plugin_is_inline(void)
{
	return GM_GUARDED;
}
