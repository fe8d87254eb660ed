/* SPDX-License-Identifier: BSD-3-Clause */
/* guard_plugin.h - what guard_plugin.c exports. */
#ifndef GM_TESTS_GUARD_PLUGIN_H
#define GM_TESTS_GUARD_PLUGIN_H

#include <guestmem/view.h>

GM_API int plugin_read(const struct gm_view *view, uint64_t gpa, uint64_t *ret);
GM_API int plugin_install(void);
GM_API int plugin_remove(void);
GM_API int plugin_is_inline(void);

#endif
