/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tables_walk.c - x86 page tables of a guest, read from the file that is its memory.
 *
 * The file is read, never mapped: a touch would take memory where there is none. An address outside of it is counted.
 */
#include <errno.h>
#include <guestmem/guest_tables.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tables.h"
#include "tool.h"

#define PAGE UINT64_C(4096)
#define ENTRIES 512u
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
static int note_leaf(void *ctx, const struct gm_guest_leaf *leaf)
{
	struct tables *t = ctx;
	struct tables_leaves *leaves = &t->leaves[leaf->len == PAGE             ? 0
						  : leaf->len == PAGE * ENTRIES ? 1
										: 2];
	uint64_t gpa = leaf->gpa;
	uint64_t size = leaf->len;

	leaves->number += leaf->times;
	leaves->bytes += size * leaf->times;
	while (size > 0) {
		uint64_t at = 0;
		bool in_file = place(t, gpa, &at);
		uint64_t len = together(t, gpa, in_file, at);

		len = len < size ? len : size;
		if (!in_file)
			leaves->elsewhere += len * leaf->times;
		for (uint64_t page = at / PAGE; in_file && page < at / PAGE + len / PAGE;) {
			bool word = page % 64 == 0 && at / PAGE + len / PAGE - page >= 64;

			leaves->pages[page / 64] |= word ? UINT64_MAX : UINT64_C(1) << page % 64;
			page += word ? 64 : 1;
		}
		gpa += len;
		size -= len;
	}
	return 0;
}

static int read_table(void *ctx, uint64_t gpa, void *page)
{
	const struct tables *t = ctx;
	uint64_t at;

	return place(t, gpa, &at) && pread(t->fd, page, PAGE, (off_t)at) == (ssize_t)PAGE ? 0
											  : -EFAULT;
}

static int note_table(void *ctx, uint64_t gpa, uint32_t level, uint64_t times)
{
	struct tables *t = ctx;
	uint64_t at;

	(void)level;
	(void)times;
	if (place(t, gpa, &at))
		t->tables[at / PAGE / 64] |= UINT64_C(1) << at / PAGE % 64;
	return 0;
}

static int note_wild(void *ctx, uint64_t gpa, uint32_t level, uint64_t times)
{
	struct tables *t = ctx;

	(void)gpa;
	(void)level;
	t->bad += times;
	return 0;
}

static const struct gm_guest_tables_ops ops = {
	.read = read_table, .table = note_table, .leaf = note_leaf, .wild = note_wild};

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

static uint64_t count(const uint64_t *bits, size_t words)
{
	uint64_t nr = 0;

	for (size_t w = 0; w < words; w++)
		nr += (uint64_t)__builtin_popcountll(bits[w]);
	return nr;
}

/* Blocks of 2 MiB with a table: 8 words each. */
static uint64_t count_blocks(const uint64_t *bits, size_t words)
{
	uint64_t nr = 0;

	for (size_t w = 0; w < words; w += ENTRIES / 64)
		nr += count(bits + w, words - w < ENTRIES / 64 ? words - w : ENTRIES / 64) > 0;
	return nr;
}

bool tables_walk(struct tables *t)
{
	const struct gm_guest_tables_opts opts = {
		.size = sizeof(opts), .levels = t->levels, .max = t->len / PAGE};
	size_t words = (size_t)(t->len / PAGE / 64 + 1);
	struct gm_error err = {0};
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
	t->tables = tool_alloc(words, sizeof(uint64_t));
	memset(t->tables, 0, words * sizeof(uint64_t));
	for (int i = 0; i < TABLES_SIZES; i++) {
		t->leaves[i].pages = tool_alloc(words, sizeof(uint64_t));
		memset(t->leaves[i].pages, 0, words * sizeof(uint64_t));
	}
	well = gm_guest_tables_walk(&t->root, 1, &opts, &ops, t, &err) == 0;
	if (!well)
		tool_error("page tables at 0x%llx: %s", (unsigned long long)t->root, err.text);
	well = well && find_present(t);
	for (int i = 0; i < TABLES_SIZES; i++) {
		t->leaves[i].memory = PAGE * count(t->leaves[i].pages, words);
		free(t->leaves[i].pages);
		t->leaves[i].pages = NULL;
	}
	t->nr_tables = count(t->tables, words);
	t->nr_blocks = count_blocks(t->tables, words);
	free(t->tables);
	t->tables = NULL;
	return well;
}
