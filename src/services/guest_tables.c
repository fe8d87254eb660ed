/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guest_tables.c - a guest's page tables, level by level.
 *
 * The tables of one level are a sorted list without doubles; what their entries lead to is the list of the next. So
 * the work is bounded by the number of tables, and tables that lead to each other in circles end with the levels.
 * An item is an address with the rights that lead there in its low bits, and how many ways do.
 */
#include <errno.h>
#include <guestmem/access.h>
#include <guestmem/guest_tables.h>
#include <guestmem/piece.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "core/sort.h"
#include "memory/avail.h"
#include "memory/space.h"
#include "sys/sys.h"

#define PAGE UINT64_C(4096)
#define ENTRIES 512u
#define ADDRESS UINT64_C(0x000ffffffffff000)
#define E_PRESENT UINT64_C(0x1)
#define E_WRITE UINT64_C(0x2)
#define E_USER UINT64_C(0x4)
#define E_LARGE UINT64_C(0x80)
#define E_NO_EXEC (UINT64_C(1) << 63)

#define LEVELS_MAX 5u
#define LARGE_MAX 3u /* the highest level that has leaves */
#define ROOM_FIRST 1024u
#define TABLES_DEFAULT (UINT64_C(1) << 20)
#define TABLES_MAX (UINT64_C(1) << 28)

struct list {
	struct gm_sort_pair *items;
	size_t nr;
	size_t room;
};

struct walk {
	const struct gm_guest_tables_ops *ops;
	void *ctx;
	struct gm_error *err;
	uint64_t max;
	struct list now;
	struct list next;
	uint64_t entries[ENTRIES];
};

static uint64_t add_up(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* Sorted, each key once. */
static void compact(struct list *list)
{
	size_t nr = 0;

	gm_sort_pairs(list->items, list->nr);
	for (size_t i = 0; i < list->nr; i++) {
		if (nr > 0 && list->items[nr - 1].key == list->items[i].key)
			list->items[nr - 1].value =
				add_up(list->items[nr - 1].value, list->items[i].value);
		else
			list->items[nr++] = list->items[i];
	}
	list->nr = nr;
}

static int too_many(const struct walk *w)
{
	return gm_error_set(w->err, -E2BIG, 0, 0,
		"more than %" PRIu64 " page tables: no guest has them, or options.max is too small",
		w->max);
}

static int push(struct walk *w, struct list *list, uint64_t key, uint64_t times)
{
	struct gm_sort_pair *items;
	size_t room;

	if (list->nr == list->room)
		compact(list);
	if (list->nr > w->max)
		return too_many(w);
	/* Half of it has to be free after a sort, so that sorts are few. */
	if (list->nr >= list->room / 2) {
		room = list->room ? list->room * 2 : ROOM_FIRST;
		items = gm_sys_realloc(list->items, room, sizeof(*items));
		if (!items)
			return gm_error_set(
				w->err, -ENOMEM, 0, 0, "no memory for %zu page tables", room);
		list->items = items;
		list->room = room;
	}
	list->items[list->nr++] = (struct gm_sort_pair){key, times};
	return 0;
}

/* Entries of the table that was read, reached by one set of rights. */
static int entries(struct walk *w, uint32_t level, const struct gm_sort_pair *item)
{
	int rc = 0;

	for (uint32_t i = 0; i < ENTRIES && !rc; i++) {
		const uint64_t entry = w->entries[i];
		const uint64_t len = PAGE << 9 * (level - 1);
		uint32_t rights = (uint32_t)(item->key & ~ADDRESS);
		struct gm_guest_leaf leaf = {
			.gpa = entry & ADDRESS & ~(len - 1), .len = len, .times = item->value};

		/* The bit of a large leaf is reserved where there are none. */
		if (!(entry & E_PRESENT) || (level > LARGE_MAX && (entry & E_LARGE)))
			continue;
		if (!(entry & E_WRITE))
			rights &= ~GM_GUEST_LEAF_WRITE;
		if (!(entry & E_USER))
			rights &= ~GM_GUEST_LEAF_USER;
		if (entry & E_NO_EXEC)
			rights &= ~GM_GUEST_LEAF_EXEC;
		leaf.flags = rights;
		if (level == 1 || (entry & E_LARGE))
			rc = w->ops->leaf ? w->ops->leaf(w->ctx, &leaf) : 0;
		else
			rc = push(w, &w->next, (entry & ADDRESS) | rights, item->value);
	}
	return rc;
}

/* One table, however many sets of rights lead to it: @nr items. */
static int table(struct walk *w, uint32_t level, const struct gm_sort_pair *items, size_t nr)
{
	const uint64_t gpa = items[0].key & ADDRESS;
	uint64_t times = 0;
	int rc = w->ops->read(w->ctx, gpa, w->entries);

	for (size_t i = 0; i < nr; i++)
		times = add_up(times, items[i].value);
	if (rc == -EFAULT)
		return w->ops->wild ? w->ops->wild(w->ctx, gpa, level, times) : 0;
	if (!rc && w->ops->table)
		rc = w->ops->table(w->ctx, gpa, level, times);
	for (size_t i = 0; i < nr && !rc; i++)
		rc = entries(w, level, &items[i]);
	return rc;
}

static int level_of(struct walk *w, uint32_t level)
{
	const struct list *list = &w->now;
	int rc = 0;

	for (size_t i = 0, end; i < list->nr && !rc; i = end) {
		for (end = i + 1;
			end < list->nr && !((list->items[end].key ^ list->items[i].key) & ADDRESS);)
			end++;
		rc = table(w, level, &list->items[i], end - i);
	}
	return rc;
}

static int options(const struct gm_guest_tables_opts *user, uint32_t known,
	struct gm_guest_tables_opts *o, struct gm_error *err)
{
	int rc = user ? gm_opts_copy(o, sizeof(*o), user, sizeof(*user)) : 0;

	if (rc)
		return gm_opts_error(err, rc, "page tables");
	if (!o->levels)
		o->levels = 4;
	if (!o->max)
		o->max = TABLES_DEFAULT;
	if ((o->flags & ~known) || o->levels < 4 || o->levels > LEVELS_MAX || o->max > TABLES_MAX)
		return gm_error_set(err, -EINVAL, 0, 0,
			"page tables: flags 0x%x, %u levels, at most %" PRIu64
			" tables: known are flags 0x%x, 4 or 5 levels, up to %" PRIu64 " tables",
			o->flags, o->levels, o->max, known, TABLES_MAX);
	return 0;
}

static int walk(const uint64_t *roots, size_t nr, const struct gm_guest_tables_opts *o,
	const struct gm_guest_tables_ops *ops, void *ctx, struct gm_error *err)
{
	struct walk w = {.ops = ops, .ctx = ctx, .err = err, .max = o->max};
	int rc = 0;

	if (nr == 0)
		return gm_error_set(err, -EINVAL, 0, 0, "page tables: no root");
	for (size_t i = 0; i < nr && !rc; i++)
		rc = push(&w, &w.next,
			(roots[i] & ADDRESS) | GM_GUEST_LEAF_WRITE | GM_GUEST_LEAF_USER |
				GM_GUEST_LEAF_EXEC,
			1);
	for (uint32_t level = o->levels; level > 0 && !rc; level--) {
		struct list done = w.now;

		w.now = w.next;
		w.next = (struct list){done.items, 0, done.room};
		compact(&w.now);
		rc = w.now.nr > w.max ? too_many(&w) : level_of(&w, level);
	}
	gm_sys_free(w.now.items);
	gm_sys_free(w.next.items);
	return rc;
}

int gm_guest_tables_walk(const uint64_t *roots, size_t nr, const struct gm_guest_tables_opts *opts,
	const struct gm_guest_tables_ops *ops, void *ctx, struct gm_error *err)
{
	struct gm_guest_tables_opts o = {0};
	int rc = options(opts, 0, &o, err);

	return rc ? rc : walk(roots, nr, &o, ops, ctx, err);
}

/* ---- blocks ---- */

struct find {
	struct gm_reader *reader;
	struct list tables; /* addresses of tables; code: of blocks */
	struct list code;
	struct walk room; /* for its limit and error */
	uint64_t block;   /* bytes */
};

/* The first RAM from @gpa on, or more than @last. */
static uint64_t next_ram(const struct gm_view *view, uint64_t gpa, uint64_t last)
{
	struct gm_piece_info piece = {.size = sizeof(piece)};

	while (gpa <= last && !gm_view_next(view, gpa, &piece)) {
		if (piece.kind == GM_REGION_RAM)
			return piece.gpa > gpa ? piece.gpa : gpa;
		gpa = piece.gpa + piece.len;
		if (gpa <= piece.gpa)
			break;
	}
	return UINT64_MAX;
}

static int read_ram(void *ctx, uint64_t gpa, void *page)
{
	const struct find *f = ctx;
	const struct gm_view *view = gm_reader_enter(f->reader);
	int rc = -EFAULT;

	if (next_ram(view, gpa, gpa) == gpa)
		rc = gm_read(view, gpa, page, PAGE, NULL);
	gm_reader_leave(f->reader);
	/* Unplugged, private to the guest, lost by the host: not there. */
	return rc ? -EFAULT : 0;
}

static int note_table(void *ctx, uint64_t gpa, uint32_t level, uint64_t times)
{
	struct find *f = ctx;

	(void)level;
	(void)times;
	return push(&f->room, &f->tables, gpa, 1);
}

static int note_code(void *ctx, const struct gm_guest_leaf *leaf)
{
	struct find *f = ctx;
	uint64_t last = leaf->gpa + (leaf->len - 1);
	uint64_t ram;

	/* Code of a kernel is not mapped by gigabytes; a loader's identity map is, and tells nothing. */
	if ((leaf->flags & GM_GUEST_LEAF_USER) || !(leaf->flags & GM_GUEST_LEAF_EXEC) ||
		leaf->len > f->block)
		return 0;
	ram = next_ram(gm_reader_enter(f->reader), leaf->gpa, last);
	gm_reader_leave(f->reader);
	return ram <= last ? push(&f->room, &f->code, leaf->gpa & ~(f->block - 1), 1) : 0;
}

/* From tables and code to heats, in f->code. */
static int sum_up(struct find *f)
{
	int rc = 0;

	compact(&f->code);
	for (size_t i = 0; i < f->code.nr; i++)
		f->code.items[i].value = 1;
	compact(&f->tables); /* one that is used at several levels counts once */
	for (size_t i = 0; i < f->tables.nr && !rc; i++)
		rc = push(&f->room, &f->code, f->tables.items[i].key & ~(f->block - 1), 2);
	compact(&f->code);
	for (size_t i = 0; i < f->code.nr && !rc; i++)
		f->code.items[i] =
			(struct gm_sort_pair){f->code.items[i].value, f->code.items[i].key};
	gm_sort_pairs(f->code.items, f->code.nr);
	return rc;
}

int gm_guest_tables_find(struct gm_space *space, const uint64_t *roots, size_t nr,
	const struct gm_guest_tables_opts *opts, struct gm_heat *ret_blocks, size_t max,
	size_t *ret_nr, struct gm_error *err)
{
	struct gm_guest_tables_ops ops = {.read = read_ram, .table = note_table};
	struct gm_guest_tables_opts o = {0};
	struct find f = {.block = UINT64_C(1) << gm_thp_pmd_log2(), .room = {.err = err}};
	int rc = options(opts, GM_GUEST_TABLES_CODE, &o, err);

	if (!rc)
		rc = gm_reader_create(space, "page tables", &f.reader, err);
	if (rc)
		return rc;
	if (o.flags & GM_GUEST_TABLES_CODE)
		ops.leaf = note_code;
	f.room.max = UINT64_MAX; /* the walk has a limit */
	rc = walk(roots, nr, &o, &ops, &f, err);
	if (!rc && f.tables.nr == 0)
		rc = gm_error_set(err, -EFAULT, roots[0] & ADDRESS, PAGE,
			"%s: no page table is in its memory at 0x%" PRIx64, space->name,
			roots[0] & ADDRESS);
	if (!rc)
		rc = sum_up(&f);
	for (size_t i = 0; i < f.code.nr && i < max && !rc; i++) {
		const struct gm_sort_pair *item = &f.code.items[f.code.nr - 1 - i];

		ret_blocks[i] = (struct gm_heat){.heat = item->key, .gpa = item->value};
	}
	if (!rc)
		*ret_nr = f.code.nr;
	gm_sys_free(f.tables.items);
	gm_sys_free(f.code.items);
	gm_reader_destroy(f.reader);
	return rc;
}
