/* SPDX-License-Identifier: BSD-3-Clause */
/* version.c - what library this is. */
#include <guestmem/error.h>

const char *gm_version(void)
{
	return GM_VERSION;
}
