/* SPDX-License-Identifier: BSD-3-Clause */
/* machine_tables.c - see machine_tables.h. */
#include "machine_tables.h"

#include <errno.h>

#include <guestmem/access.h>

#define PAGE UINT64_C(4096)

#define PTE_PRESENT 0x1u
#define PTE_WRITE 0x2u
#define PTE_USER 0x4u
/* Set beforehand, so that the processor has nothing to write to tables. */
#define PTE_ACCESSED 0x20u
#define PTE_DIRTY 0x40u
#define PTE_LEAF 0x80u
#define PTE_TABLE (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED)
#define PTE_ADDRESS UINT64_C(0x000ffffffffff000)

#define TOP_LEVEL 4u

/* Bytes that one entry of a table of @level maps: level 1 is that of 4 KiB. */
static uint32_t level_log2(uint32_t level)
{
	return 12 + 9 * (level - 1);
}

uint64_t machine_tables_bound(uint64_t first, uint64_t len, uint32_t leaf_log2)
{
	uint64_t last = first + (len - 1);
	uint64_t tables = 0;

	for (uint32_t level = 1; level < TOP_LEVEL; level++) {
		uint32_t log2 = level_log2(level);

		if (log2 >= leaf_log2)
			tables += (last >> (log2 + 9)) - (first >> (log2 + 9)) + 1;
	}
	return tables * PAGE;
}

/* The table that an entry leads to; it is made if there is none. */
static int table_at(struct machine_tables *t, uint64_t entry_gpa, uint64_t *ret)
{
	uint64_t entry;
	int rc = gm_read_le64(t->view, entry_gpa, &entry);

	if (rc < 0)
		return rc;
	if (entry & PTE_PRESENT) {
		*ret = entry & PTE_ADDRESS;
		return 0;
	}
	if (t->end - t->next < PAGE)
		return -ENOSPC;
	*ret = t->next;
	t->next += PAGE;
	return gm_write_le64(t->view, entry_gpa, *ret | PTE_TABLE);
}

/* Goes at most four deep: once for each level. */
/* NOLINTNEXTLINE(misc-no-recursion) */
static int fill(struct machine_tables *t, uint64_t table, uint32_t level, uint64_t first,
	uint64_t last, uint32_t leaf_log2)
{
	uint32_t log2 = level_log2(level);
	uint64_t mask = (UINT64_C(1) << log2) - 1;
	int rc = 0;

	for (uint64_t at = first & ~mask; rc == 0 && at <= last; at += mask + 1) {
		uint64_t entry_gpa = table + (at >> log2 & 511) * 8;
		uint64_t child;

		if (log2 == leaf_log2) {
			rc = gm_write_le64(t->view, entry_gpa,
				at | PTE_TABLE | PTE_DIRTY | (level > 1 ? PTE_LEAF : 0));
			t->leaves++;
			continue;
		}
		rc = table_at(t, entry_gpa, &child);
		if (rc == 0)
			rc = fill(t, child, level - 1, at > first ? at : first,
				(at | mask) < last ? at | mask : last, leaf_log2);
	}
	return rc;
}

int machine_tables_map(struct machine_tables *t, uint64_t first, uint64_t len, uint32_t leaf_log2)
{
	if (t->root == 0) {
		if (t->end - t->next < PAGE)
			return -ENOSPC;
		t->root = t->next;
		t->next += PAGE;
	}
	return fill(t, t->root, TOP_LEVEL, first, first + (len - 1), leaf_log2);
}
