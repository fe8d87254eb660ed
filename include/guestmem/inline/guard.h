/* SPDX-License-Identifier: BSD-3-Clause */
/* inline/guard.h - bodies of guard.h. Included by it. */
#ifndef GUESTMEM_INLINE_GUARD_H
#define GUESTMEM_INLINE_GUARD_H

#include <guestmem/inline/guarded.h>

#if !defined(GM_NO_INLINE) || defined(GM_BUILD_INLINE)

GM_INLINE int gm_guard_install(void)
{
	return gm_guard_install_table(__start_gm_extable, __stop_gm_extable);
}

GM_INLINE int gm_guard_remove(void)
{
	return gm_guard_remove_table(__start_gm_extable, __stop_gm_extable);
}

#endif

#endif
