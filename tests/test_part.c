/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_part.c - regions of which parts are unplugged or private: what they may be, what readers see,
 * and what becomes of the states when the region changes.
 *
 * What shows of parts in trees of all sorts is test_tree.c's.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/table.h"
#include "fault.h"
#include "one_space.h"
#include "random.h"

#define PAGE UINT64_C(4096)
#define AT GIB(1) /* of most regions */

enum { SHARED = GM_PART_SHARED, UNPLUGGED = GM_PART_UNPLUGGED, PRIVATE = GM_PART_PRIVATE };

static struct gm_block *memory;
static struct gm_block *guests_own;

static int set_up(void **state)
{
	(void)state;
	fault_set(NULL);
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(16), .timeout_ns = 50000000));
	assert_ok(gm_block_create(BLOCK(.len = 64 * PAGE, .flags = GM_BLOCK_SHARE), &memory, &err));
	assert_ok(gm_block_create(BLOCK(.len = 64 * PAGE, .flags = GM_BLOCK_SHARE, .name = "own"),
		&guests_own, &err));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	stop();
	gm_block_put(memory);
	gm_block_put(guests_own);
	return 0;
}

/* 16 pages of memory. */
#define BARE(...) DESC(.gpa = AT, .len = 16 * PAGE, .block = memory, __VA_ARGS__)

/* What is not said otherwise: 16 pages of memory, each a part, some of the guest's own behind them. */
static const struct gm_region_desc *parted(struct gm_region_desc *desc)
{
	desc->gpa = desc->gpa ? desc->gpa : AT;
	desc->len = 16 * PAGE;
	desc->granule = desc->granule ? desc->granule : PAGE;
	if (!desc->backing)
		desc->block = memory;
	desc->private_block = guests_own;
	desc->private_off = desc->private_off ? desc->private_off : 8 * PAGE;
	return desc;
}

#define PARTED(...) parted(DESC(__VA_ARGS__))

static uint64_t put(const struct gm_region_desc *desc)
{
	uint64_t id = 0;

	assert_ok(gm_space_add(space, desc, &id, &err));
	return id;
}

static void set(uint64_t id, uint64_t page, uint64_t pages, uint32_t state)
{
	assert_ok(gm_space_set_part(space, id, page * PAGE, pages * PAGE, state, &err));
}

/* One letter for each page of the region from @gpa on, as a reader finds it. */
static const char *seen(uint64_t gpa, uint64_t pages)
{
	static char text[65];
	const struct gm_view *view = gm_reader_enter(reader);
	uint64_t i;

	for (i = 0; i < pages; i++) {
		uint8_t byte;
		int rc = gm_read_u8(view, gpa + i * PAGE, &byte);

		text[i] = (char)(rc == 0 ? 's' : rc == -EFAULT ? 'u' : rc == -EACCES ? 'p' : '?');
	}
	text[i] = '\0';
	gm_reader_leave(reader);
	return text;
}

/* The same by gm_space_part(). */
static const char *told(uint64_t id)
{
	static char text[65];
	uint64_t at = 0;
	uint64_t len = 0;
	uint32_t state;

	memset(text, 0, sizeof(text));
	while (gm_space_part(space, id, at, &state, &len) == 0) {
		assert_true(len > 0);
		memset(text + at / PAGE, "sup"[state], len / PAGE);
		at += len;
	}
	return text;
}

/* ---- rules ---- */

static int try(const struct gm_region_desc *desc)
{
	return gm_space_add(space, desc, NULL, &err);
}

static void descriptions_that_make_no_sense_are_refused(void **state)
{
	(void)state;
	assert_fails(try(PARTED(.part = 3)), EINVAL, "no such state");
	assert_fails(try(BARE(.private_block = guests_own)), EINVAL, "without a granule");
	assert_fails(try(BARE(.part = UNPLUGGED)), EINVAL, "without a granule");
	assert_fails(try(PARTED(.granule = 3 * PAGE)), EINVAL, "no power of two");
	assert_fails(try(PARTED(.granule = PAGE / 2)), EINVAL, "multiple of the page size");
	assert_fails(try(PARTED(.granule = 32 * PAGE)), EINVAL, "its length one of the granule");
	assert_fails(try(BARE(.granule = PAGE, .part = PRIVATE)), EINVAL, "need a private block");
	assert_fails(try(PARTED(.private_off = 1)), EINVAL, "private block's page size");
	assert_fails(try(PARTED(.private_off = 49 * PAGE)), ERANGE, "end of its private block");
	assert_fails(try(PARTED(.private_off = UINT64_MAX)), ERANGE, "end of its private block");
	assert_fails(try(DESC(.gpa = AT, .len = PAGE, .kind = GM_REGION_RESERVED, .granule = PAGE)),
		EINVAL, "only memory");
	assert_fails(try(DESC(.len = 0, .kind = GM_REGION_CONTAINER, .granule = PAGE)), EINVAL,
		"only memory");
	assert_fails(try(PARTED(.kind = GM_REGION_ROMD,
			     .device = GM_OPTS(gm_device_ops, .min_size = 1))),
		EINVAL, "that is no ROM device");
	assert_int_equal(gm_space_next(space, 0,
				 &(struct gm_region_info){.size = sizeof(struct gm_region_info)}),
		-ENOENT);
}

static void states_that_make_no_sense_are_refused(void **state)
{
	uint64_t id = put(PARTED());
	uint64_t plain = add(GIB(2), PAGE);
	uint64_t poor = put(DESC(.gpa = GIB(3), .len = 2 * PAGE, .block = memory, .granule = PAGE));
	uint64_t alias =
		put(DESC(.gpa = GIB(4), .len = PAGE, .kind = GM_REGION_ALIAS, .target = id));
	uint32_t part = 7;

	(void)state;
	assert_fails(gm_space_set_part(space, 999, 0, PAGE, UNPLUGGED, &err), ENOENT, "999");
	assert_fails(gm_space_set_part(space, plain, 0, PAGE, UNPLUGGED, &err), EINVAL, "no parts");
	assert_fails(gm_space_set_part(space, alias, 0, PAGE, UNPLUGGED, &err), EINVAL, "no parts");
	assert_fails(
		gm_space_set_part(space, poor, 0, PAGE, PRIVATE, &err), EINVAL, "no private block");
	assert_fails(gm_space_set_part(space, id, 0, PAGE, 3, &err), EINVAL, "no such state");
	assert_fails(gm_space_set_part(space, id, 0, 0, UNPLUGGED, &err), EINVAL, "granule");
	assert_fails(gm_space_set_part(space, id, 1, PAGE, UNPLUGGED, &err), EINVAL, "granule");
	assert_fails(gm_space_set_part(space, id, 0, PAGE + 1, UNPLUGGED, &err), EINVAL, "granule");
	assert_fails(gm_space_set_part(space, id, 0, 17 * PAGE, UNPLUGGED, &err), ERANGE, "ends");
	assert_fails(
		gm_space_set_part(space, id, 16 * PAGE, PAGE, UNPLUGGED, &err), ERANGE, "ends");
	assert_fails(gm_space_set_part(space, id, UINT64_MAX - PAGE + 1, 2 * PAGE, UNPLUGGED, &err),
		ERANGE, "ends");
	assert_int_equal(gm_space_part(space, 999, 0, &part, NULL), -ENOENT);
	assert_int_equal(gm_space_part(space, plain, 0, &part, NULL), -EINVAL);
	assert_int_equal(gm_space_part(space, alias, 0, &part, NULL), -EINVAL);
	assert_int_equal(gm_space_part(space, id, 16 * PAGE, &part, NULL), -ERANGE);
	assert_int_equal(part, 7);
	assert_string_equal(told(id), "ssssssssssssssss");
}

/* ---- readers ---- */

static void each_way_of_access_meets_the_state_of_a_part(void **state)
{
	uint64_t id = put(PARTED());
	const struct gm_view *view;
	struct gm_pin pin = {0};
	struct iovec slice;
	uint32_t word = 0;
	uint8_t bytes[3 * 4096];
	size_t done;
	uint64_t gpa;

	(void)state;
	set(id, 1, 1, UNPLUGGED);
	set(id, 3, 1, PRIVATE);
	view = gm_reader_enter(reader);
	assert_int_equal(gm_write(view, AT, bytes, sizeof(bytes), &done), -EFAULT);
	assert_int_equal(done, PAGE);
	assert_int_equal(gm_read(view, AT + 2 * PAGE, bytes, sizeof(bytes), &done), -EACCES);
	assert_int_equal(done, PAGE);
	assert_int_equal(gm_fill(view, AT + PAGE, 1, 1, NULL), -EFAULT);
	assert_int_equal(gm_fill(view, AT + 3 * PAGE, 1, 1, NULL), -EACCES);
	assert_int_equal(gm_copy(view, AT, AT + 3 * PAGE, 8, NULL), -EACCES);
	assert_int_equal(gm_copy(view, AT + PAGE, AT, 8, NULL), -EFAULT);
	assert_int_equal(gm_atomic_load_u32(view, AT + PAGE, __ATOMIC_RELAXED, &word), -EFAULT);
	assert_int_equal(gm_atomic_load_u32(view, AT + 3 * PAGE, __ATOMIC_RELAXED, &word), -EACCES);
	assert_int_equal(gm_pin_slice(view, AT + PAGE, 8, GM_PERM_R, &slice, &pin), -EFAULT);
	assert_int_equal(gm_pin_slice(view, AT + 3 * PAGE, 8, GM_PERM_R, &slice, &pin), -EACCES);
	/* No permission is wanted, but a pointer would be given. */
	assert_int_equal(gm_pin_slice(view, AT + 3 * PAGE, 8, 0, &slice, &pin), -EACCES);
	assert_int_equal(gm_view_check(view, AT + PAGE, 1, 0), -EFAULT);
	assert_int_equal(gm_view_check(view, AT + 3 * PAGE, 1, 0), -EACCES);
	assert_int_equal(gm_view_check(view, AT, PAGE, GM_PERM_RWX), 0);
	/* A word over the border of a part that is not there. */
	assert_int_equal(gm_read_u32(view, AT + PAGE - 2, &word), -EFAULT);
	assert_int_equal(gm_view_gpa(view, region(id).hva, &gpa), 0);
	assert_int_equal(gm_view_gpa(view, (char *)region(id).hva + PAGE, &gpa), -EFAULT);
	assert_int_equal(gm_view_gpa(view, (char *)region(id).hva + 3 * PAGE, &gpa), -EFAULT);
	gm_reader_leave(reader);
}

static void what_is_shared_stays_on_the_fast_way(void **state)
{
	uint64_t id = put(PARTED());
	const struct gm_view *view;
	const struct gm_span *span;

	(void)state;
	assert_int_equal(region(id).placed, 1);
	set(id, 4, 4, UNPLUGGED);
	set(id, 8, 4, PRIVATE);
	view = gm_reader_enter(reader);
	span = gm_table_find(view, AT);
	assert_int_equal(span->direct, GM_PERM_RWX);
	assert_int_equal(span->last, AT + 4 * PAGE - 1);
	assert_null(gm_table_find(view, AT + 4 * PAGE));
	assert_int_equal(gm_table_find(view, AT + 8 * PAGE)->direct, 0);
	assert_int_equal(gm_table_find(view, AT + 12 * PAGE)->direct, GM_PERM_RWX);
	assert_ptr_equal(gm_table_find(view, AT + 12 * PAGE)->owner, span->owner);
	gm_reader_leave(reader);
}

static void what_is_unplugged_hides_what_lies_below(void **state)
{
	uint64_t id = put(PARTED(.priority = 1));

	(void)state;
	put(DESC(.gpa = AT - PAGE, .len = 18 * PAGE, .block = memory, .block_off = 40 * PAGE));
	set(id, 0, 16, UNPLUGGED);
	assert_string_equal(seen(AT - PAGE, 18), "suuuuuuuuuuuuuuuus");
}

static void aliases_show_the_parts_of_their_target(void **state)
{
	uint64_t box =
		put(DESC(.len = MIB(1), .kind = GM_REGION_CONTAINER, .parent = GM_REGION_DETACHED));
	uint64_t id = put(PARTED(.gpa = 4 * PAGE, .parent = box));

	(void)state;
	set(id, 2, 2, UNPLUGGED);
	set(id, 4, 2, PRIVATE);
	put(DESC(.gpa = AT, .len = 8 * PAGE, .kind = GM_REGION_ALIAS, .target = id,
		.block_off = PAGE));
	put(DESC(.gpa = GIB(2), .len = 16 * PAGE, .kind = GM_REGION_ALIAS, .target = box));
	put(DESC(.gpa = UINT64_MAX - 8 * PAGE + 1, .len = 8 * PAGE, .kind = GM_REGION_ALIAS,
		.target = id));
	assert_string_equal(seen(AT, 8), "suuppsss");
	assert_string_equal(seen(GIB(2), 16), "uuuussuuppssssss");
	assert_string_equal(seen(UINT64_MAX - 8 * PAGE + 1, 8), "ssuuppss");
	set(id, 0, 16, UNPLUGGED);
	set(id, 6, 1, SHARED);
	assert_string_equal(seen(AT, 8), "uuuuusuu");
	assert_string_equal(seen(GIB(2), 16), "uuuuuuuuuusuuuuu");
	assert_string_equal(seen(UINT64_MAX - 8 * PAGE + 1, 8), "uuuuuusu");
}

/* ---- transactions ---- */

static void a_state_is_told_and_seen_when_it_is_committed(void **state)
{
	uint64_t id = put(PARTED(.part = UNPLUGGED));
	struct gm_txn *txn;

	(void)state;
	assert_string_equal(seen(AT, 16), "uuuuuuuuuuuuuuuu");
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(gm_txn_set_part(txn, id, 0, 4 * PAGE, SHARED, &err));
	assert_ok(gm_txn_set_part(txn, id, 2 * PAGE, 4 * PAGE, PRIVATE, &err));
	assert_string_equal(seen(AT, 16), "uuuuuuuuuuuuuuuu");
	assert_string_equal(told(id), "uuuuuuuuuuuuuuuu");
	assert_int_equal(region(id).unplugged, 16 * PAGE);
	gm_txn_abort(txn);
	assert_string_equal(seen(AT, 16), "uuuuuuuuuuuuuuuu");
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(gm_txn_set_part(txn, id, 0, 4 * PAGE, SHARED, &err));
	assert_ok(gm_txn_set_part(txn, id, 2 * PAGE, 4 * PAGE, PRIVATE, &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_string_equal(seen(AT, 16), "ssppppuuuuuuuuuu");
	assert_string_equal(told(id), "ssppppuuuuuuuuuu");
	assert_int_equal(region(id).unplugged, 10 * PAGE);
	assert_int_equal(region(id).private_len, 4 * PAGE);
}

static void what_does_not_change_the_state_changes_nothing(void **state)
{
	uint64_t id = put(PARTED());
	struct gm_txn *txn;

	(void)state;
	assert_ok(gm_txn_begin(space, &txn, &err));
	fault_log_start();
	assert_ok(gm_txn_set_part(txn, id, 0, 16 * PAGE, SHARED, &err));
	fault_log_stop();
	assert_int_equal(fault_log_find(FAULT_gm_sys_alloc, 0), SIZE_MAX);
	assert_ok(gm_txn_commit(txn, &err));
}

static void change(uint64_t id, int (*plan)(struct gm_txn *, uint64_t))
{
	struct gm_txn *txn;

	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(plan(txn, id));
	assert_ok(gm_txn_commit(txn, &err));
}

static int other_bytes(struct gm_txn *txn, uint64_t id)
{
	return gm_txn_replace(
		txn, id, DESC(.gpa = AT, .block = memory, .block_off = 32 * PAGE), &err);
}

/* A reader stands in a section of the old map meanwhile. */
static void nothing_is_mapped_and_nobody_waited_for(void **state)
{
	static const enum fault_fn never[] = {FAULT_gm_sys_mmap, FAULT_gm_sys_munmap,
		FAULT_gm_sys_mremap_to, FAULT_gm_sys_mprotect, FAULT_gm_sys_madvise,
		FAULT_gm_sys_sleep_ns};
	static const struct {
		uint32_t initial;
		bool anonymous;
		bool outside; /* of the window */
		bool crowded; /* others hold a part of its addresses there */
	} cases[] = {{SHARED, false, false, false}, {UNPLUGGED, false, false, false},
		{PRIVATE, false, false, false}, {SHARED, true, false, false},
		{UNPLUGGED, true, false, false}, {UNPLUGGED, false, true, false},
		{UNPLUGGED, true, true, false}, {SHARED, false, false, true},
		{UNPLUGGED, false, false, true}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t gpa = cases[i].outside ? GIB(20) : AT;
		const struct gm_view *view;
		uint64_t other = 0;
		uint64_t id;

		if (cases[i].crowded)
			other = put(DESC(.gpa = AT + 7 * PAGE, .len = PAGE, .priority = 1,
				.block = guests_own));
		id = put(PARTED(.gpa = gpa,
			.backing = cases[i].anonymous ? BLOCK(.len = 16 * PAGE) : NULL,
			.part = cases[i].initial));
		/* Mapped in stretches between the others, however it is cut up at that moment. */
		if (cases[i].crowded) {
			set(id, 2, 3, PRIVATE);
			change(id, other_bytes);
		}
		view = gm_reader_enter(reader);
		fault_log_start();
		for (uint32_t round = 0; round < 12; round++) {
			set(id, round, 4, (round + cases[i].initial) % 3);
			set(id, round / 2, 9, round % 3);
		}
		fault_log_stop();
		assert_true(gm_view_generation(view) > 0);
		gm_reader_leave(reader);
		for (size_t f = 0; f < sizeof(never) / sizeof(never[0]); f++)
			assert_int_equal(fault_log_find(never[f], 0), SIZE_MAX);
		set(id, 0, 16, SHARED);
		assert_int_equal(region(id).placed, !cases[i].outside);
		assert_ok(gm_space_remove(space, id, &err));
		if (other)
			assert_ok(gm_space_remove(space, other, &err));
		assert_ok(gm_space_wait(space, 0, &err));
	}
}

/* ---- what else is done to the region ---- */

static int shrink(struct gm_txn *txn, uint64_t id)
{
	return gm_txn_resize(txn, id, 3 * PAGE, &err);
}

static int grow(struct gm_txn *txn, uint64_t id)
{
	return gm_txn_resize(txn, id, 9 * PAGE, &err);
}

static int move(struct gm_txn *txn, uint64_t id)
{
	return gm_txn_move(txn, id, GIB(2), &err);
}

static int protect(struct gm_txn *txn, uint64_t id)
{
	return gm_txn_protect(txn, id, GM_PERM_R, &err);
}

static int replace(struct gm_txn *txn, uint64_t id)
{
	return gm_txn_replace(
		txn, id, DESC(.gpa = GIB(2), .backing = BLOCK(.flags = GM_BLOCK_SHARE)), &err);
}

static int replace_private(struct gm_txn *txn, uint64_t id)
{
	return gm_txn_replace(txn, id,
		DESC(.gpa = GIB(2), .block = memory, .private_block = memory,
			.private_off = 32 * PAGE),
		&err);
}

static void the_states_stay_when_the_region_changes(void **state)
{
	uint64_t id = put(PARTED(.part = UNPLUGGED));
	struct gm_region_info info;
	struct gm_txn *txn;

	(void)state;
	set(id, 1, 1, PRIVATE);
	set(id, 2, 2, SHARED);
	change(id, shrink);
	assert_string_equal(told(id), "ups");
	assert_int_equal(region(id).unplugged, PAGE);
	change(id, grow);
	assert_string_equal(told(id), "upsuuuuuu");
	assert_int_equal(region(id).unplugged, 7 * PAGE);
	change(id, move);
	change(id, protect);
	assert_string_equal(told(id), "upsuuuuuu");
	assert_string_equal(seen(GIB(2), 9), "upsuuuuuu");
	change(id, replace);
	assert_string_equal(seen(GIB(2), 9), "upsuuuuuu");
	info = region(id);
	assert_ptr_equal(info.private_block, guests_own);
	assert_int_equal(info.private_off, 8 * PAGE);
	change(id, replace_private);
	assert_string_equal(seen(GIB(2), 9), "upsuuuuuu");
	info = region(id);
	assert_ptr_equal(info.private_block, memory);
	assert_int_equal(info.private_off, 32 * PAGE);
	/* Past the end of the private block, and with pages that the granule does not fit. */
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_fails(gm_txn_resize(txn, id, 33 * PAGE, &err), ERANGE, "private block");
	assert_fails(gm_txn_resize(txn, id, 9 * PAGE + 512, &err), EINVAL, "multiple");
	gm_txn_abort(txn);
	assert_string_equal(told(id), "upsuuuuuu");
}

/* ---- cost ---- */

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t allocated(void)
{
	size_t nr;
	const struct fault_event *events = fault_log(&nr);
	uint64_t sum = 0;

	for (size_t i = 0; i < nr; i++) {
		if (events[i].fn == FAULT_gm_sys_alloc)
			sum += events[i].len;
		if (events[i].fn == FAULT_gm_sys_alloc_array ||
			events[i].fn == FAULT_gm_sys_realloc)
			sum += events[i].len * events[i].off;
	}
	return sum;
}

/* All parts of 1 TiB are states in 128 KiB; one of them is changed with less. */
static void a_part_of_a_large_region_is_changed_with_little_memory(void **state)
{
	const unsigned int rounds = 2000;
	struct gm_space *large;
	struct rng rng = {test_seed(7)};
	uint64_t took;
	uint64_t id;

	(void)state;
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(2048)), &large, &err));
	assert_ok(gm_space_add(large,
		DESC(.len = GIB(1024), .granule = MIB(2), .part = UNPLUGGED,
			.backing = BLOCK(.flags = GM_BLOCK_SHARE, .reserve = GM_RESERVE_NONE)),
		&id, &err));
	for (uint64_t i = 0; i < 40; i++)
		assert_ok(gm_space_set_part(large, id, i * GIB(25), MIB(2), SHARED, &err));
	fault_log_start();
	assert_ok(gm_space_set_part(large, id, GIB(512), MIB(2), SHARED, &err));
	fault_log_stop();
	printf("  %lu bytes\n", (unsigned long)allocated());
	assert_true(allocated() < KIB(24));
	took = now_ns();
	for (unsigned int i = 0; i < rounds; i++)
		assert_ok(gm_space_set_part(large, id, rng_below(&rng, 1 << 19) * MIB(2), MIB(2),
			i % 2 ? UNPLUGGED : SHARED, &err));
	took = now_ns() - took;
	printf("  one part of 1 TiB: %lu ns\n", (unsigned long)(took / rounds));
	gm_space_destroy(large);
}

/* ---- who else is told ---- */

static char text[8192];

static int take_text(void *ctx, const char *more, size_t len)
{
	(void)ctx;
	strncat(text, more, len);
	return 0;
}

static void dumps_tell_parts_and_nodes(void **state)
{
	uint64_t id = put(PARTED(.name = "dimm", .numa_plus = 2, .flags = GM_REGION_HOTPLUGGABLE));
	struct gm_region_info info;

	(void)state;
	set(id, 1, 2, UNPLUGGED);
	set(id, 3, 1, PRIVATE);
	text[0] = '\0';
	assert_int_equal(gm_space_dump(space, GM_DUMP_TREE | GM_DUMP_FLAT, take_text, NULL), 0);
	assert_string_equal(text,
		"tree of \"guest\":\n"
		"  0000000040000000-000000004000ffff (prio 0, ram rwx): dimm [parts of 0x1000: "
		"0xe000 plugged, 0x1000 of it private] [node 1] [hotpluggable]\n"
		"flat map of \"guest\":\n"
		"  0000000040000000-0000000040000fff (ram rwx): dimm @0000000000000000\n"
		"  0000000040001000-0000000040002fff (ram rwx): dimm @0000000000001000 "
		"[unplugged]\n"
		"  0000000040003000-0000000040003fff (ram rwx): dimm @0000000000003000 "
		"[private]\n"
		"  0000000040004000-000000004000ffff (ram rwx): dimm @0000000000004000\n");
	info = region(id);
	assert_int_equal(info.numa_plus, 2);
	assert_int_equal(info.flags, GM_REGION_HOTPLUGGABLE);
	assert_fails(try(PARTED(.gpa = GIB(2), .numa_plus = 1u << 23)), EINVAL, "NUMA node");
	put(PARTED(.gpa = GIB(2), .numa_plus = (1u << 23) - 1));
}

static void a_layout_has_the_parts_that_a_peer_may_use(void **state)
{
	uint64_t id = put(PARTED());
	struct gm_space *peer;
	struct gm_reader *peers;
	const struct gm_view *view;
	uint8_t byte = 0;
	int sock[2];

	(void)state;
	set(id, 1, 2, UNPLUGGED);
	set(id, 3, 1, PRIVATE);
	view = gm_reader_enter(reader);
	assert_int_equal(gm_write_u8(view, AT + 4 * PAGE, 77), 0);
	gm_reader_leave(reader);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sock), 0);
	assert_ok(gm_layout_send(space, sock[0], 0, &err));
	assert_ok(
		gm_layout_recv(sock[1], GM_OPTS(gm_space_opts, .gpa_limit = GIB(2)), &peer, &err));
	assert_ok(gm_reader_create(peer, "peer", &peers, &err));
	view = gm_reader_enter(peers);
	assert_int_equal(gm_read_u8(view, AT + 4 * PAGE, &byte), 0);
	assert_int_equal(byte, 77);
	assert_int_equal(gm_read_u8(view, AT, &byte), 0);
	for (uint64_t page = 1; page < 4; page++)
		assert_int_equal(gm_read_u8(view, AT + page * PAGE, &byte), -EFAULT);
	gm_reader_leave(peers);
	text[0] = '\0';
	assert_int_equal(gm_space_dump(peer, GM_DUMP_FLAT, take_text, NULL), 0);
	assert_non_null(strstr(text, "0000000040003000-0000000040003fff (reserved"));
	assert_null(strstr(text, "0000000040001000-"));
	gm_reader_destroy(peers);
	gm_space_destroy(peer);
	close(sock[0]);
	close(sock[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(descriptions_that_make_no_sense_are_refused),
		cmocka_unit_test(states_that_make_no_sense_are_refused),
		cmocka_unit_test(each_way_of_access_meets_the_state_of_a_part),
		cmocka_unit_test(what_is_shared_stays_on_the_fast_way),
		cmocka_unit_test(what_is_unplugged_hides_what_lies_below),
		cmocka_unit_test(aliases_show_the_parts_of_their_target),
		cmocka_unit_test(a_state_is_told_and_seen_when_it_is_committed),
		cmocka_unit_test(what_does_not_change_the_state_changes_nothing),
		cmocka_unit_test(nothing_is_mapped_and_nobody_waited_for),
		cmocka_unit_test(the_states_stay_when_the_region_changes),
		cmocka_unit_test(a_part_of_a_large_region_is_changed_with_little_memory),
		cmocka_unit_test(dumps_tell_parts_and_nodes),
		cmocka_unit_test(a_layout_has_the_parts_that_a_peer_may_use),
	};
	struct CMUnitTest with_fixture[sizeof(tests) / sizeof(tests[0])];

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		with_fixture[i] = tests[i];
		with_fixture[i].setup_func = set_up;
		with_fixture[i].teardown_func = tear_down;
	}
	return cmocka_run_group_tests(with_fixture, NULL, NULL);
}
