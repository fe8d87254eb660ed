/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_space_model.c - random changes of a space, compared with a model after each.
 *
 * A run is a seed. Each step plans a transaction of some operations, right and wrong ones, and
 * commits or drops it, sometimes with a call that fails on the way; or writes; or takes and gives
 * back pins. What the space says must be what the model says: codes of errors, the regions, who may
 * access what, and every byte.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "model_run.h"

#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)
#define STEPS 250u

struct model_run t;
struct model_figures figures;
struct gm_error err;

static uint8_t pointed[2][4 * MODEL_PAGE] __attribute__((aligned(4096)));

/* ---- steps ---- */

static void step_transaction(void)
{
	struct gm_txn *txn;
	struct gm_txn *second;
	uint64_t generation = t.generation;
	int rc;

	t.plan = t.map;
	memset(t.spent, 0, sizeof(t.spent));
	if (gm_txn_begin(t.space, &txn, &err))
		fail_msg("begin: %s", err.text);
	check(gm_txn_begin(t.space, &second, &err) == -EBUSY);
	some_operations(txn);
	/* What is planned is not to be seen. */
	compare(false);
	while (below(8) > 0) {
		arm_sometimes(30);
		rc = gm_txn_commit(txn, &err);
		fault_disarm();
		if (rc == 0) {
			t.map = t.plan;
			figures.commits++;
			compare(false);
			check(t.generation > generation);
			/* A barrier that failed keeps the old view, and with it blocks that are to
			 * be used again. */
			if (fault_hits() > 0)
				check(gm_space_reclaim(t.space) == 0);
			return;
		}
		if (fault_hits() == 0)
			fail_msg("seed %lu step %u: commit returned %d: %s", (unsigned long)t.seed,
				t.step, rc, err.text);
		figures.faults++;
		fault_set(NULL);
		compare(true);
	}
	gm_txn_abort(txn);
	compare(false);
}

static void step_write(void)
{
	static uint8_t buf[MODEL_ISLAND_LEN];
	uint64_t want_done;
	size_t done = 77;
	uint64_t gpa;
	uint64_t len;
	int want;
	int rc;

	some_range(&gpa, &len);
	want = model_access(&t.map, gpa, len, GM_PERM_W, &want_done);
	for (uint64_t i = 0; i < want_done; i++)
		buf[i] = (uint8_t)rng_next(&t.rng);
	rc = gm_write(gm_reader_enter(t.reader), gpa, buf, len, &done);
	gm_reader_leave(t.reader);
	check(rc == want);
	check(done == want_done);
	for (uint64_t i = 0; i < want_done; i++)
		*model_byte(&t.map, gpa + i) = buf[i];
}

/* A fill and a typed write; aligned, the latter is done whole or not at all. */
static void step_write_objects(void)
{
	const struct gm_view *view = gm_reader_enter(t.reader);
	uint64_t value = rng_next(&t.rng);
	uint64_t want_done;
	uint64_t gpa;
	uint64_t len;
	size_t done;
	int want;

	some_range(&gpa, &len);
	want = model_access(&t.map, gpa, len, GM_PERM_W, &want_done);
	check(gm_fill(view, gpa, (uint8_t)value, len, &done) == want);
	check(done == want_done);
	for (uint64_t i = 0; i < want_done; i++)
		*model_byte(&t.map, gpa + i) = (uint8_t)value;

	some_range(&gpa, &len);
	gpa = gpa / 8 * 8;
	want = model_access(&t.map, gpa, 8, GM_PERM_W, &want_done);
	check(gm_write_le64(view, gpa, value) == want);
	for (uint64_t i = 0; i < 8 && !want; i++)
		*model_byte(&t.map, gpa + i) = (uint8_t)(value >> (8 * i));
	gm_reader_leave(t.reader);
}

static void drop_pin(struct pin *pin)
{
	gm_pin_put(&pin->pin);
	check(pin->pin.map == NULL);
	model_blocks[pin->block].pins--;
}

static void step_pin(void)
{
	struct pin *pin = &t.pins[below(NR_PINS)];
	uint64_t want_done;
	uint64_t gpa;
	uint64_t len;
	const struct model_region *r;
	int want;

	if (pin->pin.map) {
		drop_pin(pin);
		return;
	}
	some_range(&gpa, &len);
	if (len == 0 || len - 1 > UINT64_MAX - gpa)
		return;
	want = model_access(&t.map, gpa, 1, GM_PERM_R, &want_done);
	check(gm_pin_slice(gm_reader_enter(t.reader), gpa, len, GM_PERM_R, &pin->slice,
		      &pin->pin) == want);
	gm_reader_leave(t.reader);
	if (want)
		return;
	r = &t.map.regions[t.map.owner[model_unit(gpa)]];
	pin->block = r->block;
	pin->off = r->off + (gpa - r->gpa);
	model_blocks[r->block].pins++;
	check(pin->slice.iov_len ==
		(len < r->len - (gpa - r->gpa) ? len : r->len - (gpa - r->gpa)));
}

/* Number of regions that a range meets that is mapped throughout. */
static size_t pieces(uint64_t gpa, uint64_t len)
{
	size_t nr = 1;

	for (uint64_t i = 1; i < len; i++)
		nr += t.map.owner[model_unit(gpa + i)] != t.map.owner[model_unit(gpa + i - 1)];
	return nr;
}

static void step_pin_range(void)
{
	const struct gm_view *view = gm_reader_enter(t.reader);
	struct gm_pin pins[MODEL_ISLAND_PAGES] = {0};
	struct iovec slices[MODEL_ISLAND_PAGES];
	size_t room = below(4);
	size_t needed = 77;
	uint64_t done;
	uint64_t gpa;
	uint64_t len;
	int want;

	some_range(&gpa, &len);
	want = len == 0 ? -EINVAL : model_access(&t.map, gpa, len, GM_PERM_R, &done);
	if (!want && pieces(gpa, len) > room)
		want = -ENOBUFS;
	check(gm_pin_range(view, gpa, len, GM_PERM_R, slices, pins, room, &needed) == want);
	gm_reader_leave(t.reader);
	if (!want || want == -ENOBUFS)
		check(needed == pieces(gpa, len));
	if (want)
		return;
	for (size_t i = 0; i < needed; i++) {
		const uint8_t *bytes = slices[i].iov_base;

		check(slices[i].iov_len <= len);
		for (size_t j = 0; j < slices[i].iov_len; j++)
			check(bytes[j] == *model_byte(&t.map, gpa + j));
		gpa += slices[i].iov_len;
		len -= slices[i].iov_len;
		gm_pin_put(&pins[i]);
	}
	check(len == 0);
}

/* ---- runs ---- */

static int keep(enum model_backing backing, const struct gm_block_opts *opts)
{
	struct gm_block *block;

	if (gm_block_create(opts, &block, &err))
		fail_msg("%s", err.text);
	return model_block_new(backing, block, opts->len, opts->flags & GM_BLOCK_READONLY);
}

static void start(uint64_t seed, uint64_t limit, bool strict)
{
	memset(&t, 0, sizeof(t));
	memset(model_blocks, 0, sizeof(model_blocks));
	memset(pointed, 0, sizeof(pointed));
	t.seed = seed;
	t.limit = limit;
	t.strict = strict;
	t.rng.state = seed;
	model_init(&t.map);
	t.kept[0] = keep(MODEL_ANON, BLOCK(.len = MODEL_PAGE));
	t.kept[1] = keep(MODEL_ANON, BLOCK(.len = 5 * MODEL_PAGE));
	t.kept[2] = keep(MODEL_MEMFD, BLOCK(.len = 4 * MODEL_PAGE, .flags = GM_BLOCK_SHARE));
	t.kept[3] = keep(MODEL_MEMFD, BLOCK(.len = 16 * MODEL_PAGE, .backing = GM_BACKING_MEMFD));
	t.kept[4] = keep(MODEL_POINTER, BLOCK(.len = sizeof(pointed[0]),
						.backing = GM_BACKING_POINTER, .addr = pointed[0]));
	t.kept[5] = keep(MODEL_POINTER,
		BLOCK(.len = MODEL_PAGE, .backing = GM_BACKING_POINTER, .addr = pointed[1]));
	t.kept[6] = keep(MODEL_ANON, BLOCK(.len = 2 * MODEL_PAGE, .flags = GM_BLOCK_READONLY));
	t.kept[7] =
		keep(MODEL_ANON, BLOCK(.len = 3 * MODEL_PAGE, .backing = GM_BACKING_ANON_SHARED));
	if (gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = limit), &t.space, &err))
		fail_msg("%s", err.text);
	if (gm_reader_create(t.space, "model", &t.reader, &err))
		fail_msg("%s", err.text);
}

static void stop(void)
{
	for (unsigned int i = 0; i < NR_PINS; i++) {
		if (t.pins[i].pin.map && below(2))
			drop_pin(&t.pins[i]);
	}
	gm_reader_destroy(t.reader);
	gm_space_destroy(t.space);
	for (unsigned int i = 0; i < NR_KEPT; i++)
		gm_block_put(model_blocks[t.kept[i]].block);
	/* What is pinned outlives the space and the block. */
	compare_pins();
	for (unsigned int i = 0; i < NR_PINS; i++)
		gm_pin_put(&t.pins[i].pin);
}

static void run(uint64_t seed, uint64_t limit, bool strict)
{
	static struct fault_state before;

	fault_set(NULL);
	fault_state_take(&before);
	start(seed, limit, strict);
	for (t.step = 0; t.step < STEPS; t.step++) {
		uint64_t what = below(10);

		if (what < 6)
			step_transaction();
		else if (what < 8)
			step_write();
		else if (what < 9)
			step_write_objects();
		else if (below(2))
			step_pin_range();
		else if (!t.strict)
			step_pin();
		if (t.step % 16 == 0)
			compare(true);
		/* Nobody is in a section. */
		check(gm_space_reclaim(t.space) == 0);
		model_collect(&t.map);
	}
	compare(true);
	stop();
	if (!fault_state_same(&before))
		fail_msg("seed %lu leaves something", (unsigned long)seed);
}

static void runs(uint64_t first, uint64_t limit, bool strict)
{
	for (uint64_t i = 0; i < support_scale(20); i++)
		run(test_seed(first + i), limit, strict);
}

static void random_changes_with_a_window(void **state)
{
	(void)state;
	runs(1000, GIB(1), false);
}

static void random_changes_without_a_window(void **state)
{
	(void)state;
	runs(2000, GM_SPACE_NO_WINDOW, false);
}

static void memory_that_can_lie_in_the_window_does(void **state)
{
	(void)state;
	runs(3000, GIB(1), true);
}

static void all_kinds_of_outcome_were_seen(void **state)
{
	(void)state;
	print_message("figure: model_operations %lu\n", figures.ok + figures.refused);
	print_message("figure: model_commits %lu\n", figures.commits);
	print_message("figure: model_faults %lu\n", figures.faults);
	print_message("%lu operations worked, %lu were refused; %lu of %lu lay in the window that "
		      "could\n",
		figures.ok, figures.refused, figures.placed, figures.placeable);
	assert_true(figures.ok > 100 && figures.refused > 100 && figures.commits > 100 &&
		    figures.faults > 10);
	assert_true(figures.placed > figures.placeable / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_changes_with_a_window),
		cmocka_unit_test(random_changes_without_a_window),
		cmocka_unit_test(memory_that_can_lie_in_the_window_does),
		cmocka_unit_test(all_kinds_of_outcome_were_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
