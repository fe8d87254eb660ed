/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inline.c - every inline function of the public headers once more, as a symbol.
 *
 * For callers that cannot inline them: other languages, other compilers, builds with a sanitizer.
 */
#define GM_BUILD_INLINE 1

#include <guestmem/guestmem.h>
