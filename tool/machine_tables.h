/* SPDX-License-Identifier: BSD-3-Clause */
/* machine_tables.h - page tables for the guest: addresses are what they are, with leaves of one size a range. */
#ifndef TOOL_MACHINE_TABLES_H
#define TOOL_MACHINE_TABLES_H

#include <stdbool.h>
#include <stdint.h>

#include <guestmem/view.h>

struct machine_tables {
	const struct gm_view *view; /* in a section while tables are built */
	uint64_t root;              /* the first table, CR3 */
	uint64_t next;              /* where the next one goes */
	uint64_t end;               /* nothing goes here or above */
	uint64_t leaves;
};

/* Bytes of tables that a range needs at most, the root left out. */
uint64_t machine_tables_bound(uint64_t first, uint64_t len, uint32_t leaf_log2);
/*
 * Maps [first, first + len) to itself, readable, writable, executable, for ring 3; both ends go out
 * to whole leaves. A range shares no leaf with another, and may share tables. 0 or a negative error of
 * the access to memory; -ENOSPC.
 */
int machine_tables_map(struct machine_tables *t, uint64_t first, uint64_t len, uint32_t leaf_log2);

#endif
