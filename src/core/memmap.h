/* SPDX-License-Identifier: BSD-3-Clause */
/* memmap.h - what the writers of memory maps share: the check, merged runs, little-endian bytes. */
#ifndef GM_CORE_MEMMAP_H
#define GM_CORE_MEMMAP_H

#include <guestmem/memmap.h>
#include <stdbool.h>

#include "core/bytes.h"

/* gm_memmap_check(); windows may also be holes and lie over RAM. @what: "entry", "window". */
int gm_memmap_check_as(const struct gm_memmap_entry *map, size_t nr, const char *what,
	uint32_t flags_known, struct gm_error *err);

/*
 * What an entry becomes, as a number that neighbours must share to become one; 0 = it is left out.
 */
typedef uint64_t gm_memmap_class(const struct gm_memmap_entry *entry);

/*
 * The next merged run of entries from *at on; false at the end. *ret is the first of them with the
 * last address of the last.
 */
bool gm_memmap_run(const struct gm_memmap_entry *map, size_t nr, gm_memmap_class *class_of,
	size_t *at, struct gm_memmap_entry *ret);

/* -ERANGE for a run of 2^64 bytes, which no table can write down. */
int gm_memmap_check_run(const struct gm_memmap_entry *run, const char *table, struct gm_error *err);

/* Flags of an entry: persistent memory is non-volatile whether it says so or not. */
uint32_t gm_memmap_flags(const struct gm_memmap_entry *entry);

/* Class of entries in e820 tables: GM_E820_*. */
gm_memmap_class gm_e820_type;

#endif
