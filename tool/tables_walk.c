/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tables_walk.c - x86 page tables of a guest, read from the file that is its memory.
 *
 * The file is read, never mapped: a touch would take memory where there is none. The guest may have written anything:
 * what is walked is bounded by levels and by the number of tables; an address outside of the file is counted.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tables.h"
#include "tool.h"

#define PAGE UINT64_C(4096)
#define ENTRIES 512u
#define PRESENT UINT64_C(0x1)
#define LARGE UINT64_C(0x80)
#define ADDRESS UINT64_C(0x000ffffffffff000)
#define GIB4 (UINT64_C(4) << 30)

/* Where in the file a guest address lies. */
static bool place(const struct tables *t, uint64_t gpa, uint64_t *ret)
{
	if (gpa >= GIB4 && t->low < t->len) {
		gpa -= GIB4;
		if (gpa >= t->len - t->low)
			return false;
		*ret = t->low + gpa;
		return true;
	}
	*ret = gpa;
	return gpa < t->low;
}

/* How much from @gpa on lies together, in the file or not. */
static uint64_t together(const struct tables *t, uint64_t gpa, bool in_file, uint64_t at)
{
	if (in_file)
		return at < t->low ? t->low - at : t->len - at;
	return gpa < GIB4 && t->low < t->len ? GIB4 - gpa : UINT64_MAX;
}

/* Pages of the file; a leaf may reach over a hole in the guest's addresses. */
static void note_leaf(struct tables *t, struct tables_leaves *leaves, uint64_t gpa, uint64_t size)
{
	leaves->number++;
	leaves->bytes += size;
	while (size > 0) {
		uint64_t at = 0;
		bool in_file = place(t, gpa, &at);
		uint64_t len = together(t, gpa, in_file, at);

		len = len < size ? len : size;
		if (!in_file)
			leaves->elsewhere += len;
		for (uint64_t page = at / PAGE; in_file && page < at / PAGE + len / PAGE;) {
			bool word = page % 64 == 0 && at / PAGE + len / PAGE - page >= 64;

			leaves->pages[page / 64] |= word ? UINT64_MAX : UINT64_C(1) << page % 64;
			page += word ? 64 : 1;
		}
		gpa += len;
		size -= len;
	}
}

static bool walk_table(struct tables *t, uint64_t gpa, uint32_t level)
{
	uint64_t entries[ENTRIES];
	uint64_t at;

	if (!place(t, gpa, &at) || pread(t->fd, entries, PAGE, (off_t)at) != (ssize_t)PAGE) {
		t->bad++;
		return true;
	}
	/* A table that maps the tables lets each be met twice; more there cannot be. */
	if (++t->nr_tables > 2 * (t->len / PAGE)) {
		tool_error("more page tables than pages: the address is none of a page table");
		return false;
	}
	for (uint32_t i = 0; i < ENTRIES; i++) {
		const uint64_t size = PAGE << 9 * (level - 1);
		uint64_t to = entries[i] & ADDRESS;

		if (!(entries[i] & PRESENT))
			continue;
		if (level == 1 || (level <= TABLES_SIZES && (entries[i] & LARGE)))
			note_leaf(t, &t->leaves[level - 1], to & ~(size - 1), size);
		else if (!walk_table(t, to, level - 1))
			return false;
	}
	return true;
}

/* Counts the pages of a stretch of data. */
static void note_present(struct tables_leaves *leaves, uint64_t first, uint64_t end)
{
	for (uint64_t page = first / PAGE; page < (end + PAGE - 1) / PAGE; page++) {
		if (leaves->pages[page / 64] >> page % 64 & 1)
			leaves->present += PAGE;
	}
}

static bool find_present(struct tables *t)
{
	uint64_t at = 0;

	while (at < t->len) {
		off_t data = lseek(t->fd, (off_t)at, SEEK_DATA);
		off_t hole = data < 0 ? -1 : lseek(t->fd, data, SEEK_HOLE);

		if (data < 0 && errno == ENXIO)
			return true;
		if (hole < 0) {
			tool_error("cannot look for data in the file: %s", strerror(errno));
			return false;
		}
		if ((uint64_t)hole > t->len)
			hole = (off_t)t->len;
		for (int i = 0; i < TABLES_SIZES; i++)
			note_present(&t->leaves[i], (uint64_t)data, (uint64_t)hole);
		at = (uint64_t)hole;
	}
	return true;
}

bool tables_walk(struct tables *t)
{
	size_t words = (size_t)(t->len / PAGE / 64 + 1);
	uint64_t at;
	bool well;

	if (!place(t, t->root & ADDRESS, &at)) {
		tool_error("--root: 0x%llx is outside of the memory (0x%llx bytes, 0x%llx of them "
			   "below "
			   "4G)",
			(unsigned long long)t->root, (unsigned long long)t->len,
			(unsigned long long)t->low);
		return false;
	}
	for (int i = 0; i < TABLES_SIZES; i++) {
		t->leaves[i].pages = tool_alloc(words, sizeof(uint64_t));
		memset(t->leaves[i].pages, 0, words * sizeof(uint64_t));
	}
	well = walk_table(t, t->root & ADDRESS, t->levels) && find_present(t);
	for (int i = 0; i < TABLES_SIZES; i++) {
		for (size_t w = 0; w < words; w++)
			t->leaves[i].memory +=
				PAGE * (uint64_t)__builtin_popcountll(t->leaves[i].pages[w]);
		free(t->leaves[i].pages);
		t->leaves[i].pages = NULL;
	}
	return well;
}
