/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_access_inline.c - fuzz_access.c without the address sanitizer, with which accesses are calls: here they
 * are inline, as in a user's program.
 */
#include "fuzz_access.c"
