/* SPDX-License-Identifier: BSD-3-Clause */
/* test_slice.c - pins, and the slices that they keep valid. */
#include "one_space.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static void a_pin_outlives_removal_and_space(void **state)
{
	struct iovec slice;
	struct gm_pin pin = {0};
	uint64_t id;

	(void)state;
	start(NULL);
	id = add(MIB(1), MIB(1));
	((uint8_t *)region(id).hva)[3] = 33;
	assert_int_equal(
		gm_pin_slice(gm_reader_enter(reader), MIB(1), MIB(2), GM_PERM_RW, &slice, &pin), 0);
	gm_reader_leave(reader);
	assert_int_equal(slice.iov_len, MIB(1));
	assert_ok(gm_space_remove(space, id, &err));
	assert_ok(gm_space_wait(space, 0, &err));
	assert_int_equal(((uint8_t *)slice.iov_base)[3], 33);
	/* Its addresses are not reused: other memory there is reached elsewhere. */
	id = add(MIB(1), MIB(1));
	assert_int_equal(region(id).placed, 0);
	((uint8_t *)region(id).hva)[3] = 44;
	assert_int_equal(((uint8_t *)slice.iov_base)[3], 33);
	stop();
	assert_int_equal(((uint8_t *)slice.iov_base)[3], 33);
	gm_pin_put(&pin);
	assert_null(pin.map);
	gm_pin_put(&pin);
}

static void pins_follow_the_edge_rule(void **state)
{
	struct iovec slices[4] = {{(void *)1, 1}};
	struct gm_pin pins[4] = {{0}};
	const struct gm_view *view;
	size_t needed = 0;

	(void)state;
	start(NULL);
	add(0, KIB(4));
	add(KIB(4), KIB(4));
	assert_ok(gm_space_add(space,
		DESC(.gpa = KIB(8), .kind = GM_REGION_ROM, .backing = BLOCK(.len = KIB(4))), NULL,
		&err));
	view = gm_reader_enter(reader);
	assert_int_equal(gm_pin_slice(view, 0, 0, GM_PERM_R, slices, pins), -EINVAL);
	assert_int_equal(gm_pin_slice(view, KIB(12), 1, GM_PERM_R, slices, pins), -EFAULT);
	assert_int_equal(gm_pin_slice(view, KIB(8), 1, GM_PERM_W, slices, pins), -EACCES);
	assert_int_equal(gm_pin_slice(view, UINT64_MAX, 2, GM_PERM_R, slices, pins), -ERANGE);
	assert_ptr_equal(slices[0].iov_base, (void *)1);
	assert_null(pins[0].map);
	assert_int_equal(
		gm_pin_range(view, 100, KIB(12) - 100, GM_PERM_R, slices, pins, 2, &needed),
		-ENOBUFS);
	assert_int_equal(needed, 3);
	assert_int_equal(
		gm_pin_range(view, 100, KIB(12), GM_PERM_R, slices, pins, 4, &needed), -EFAULT);
	assert_int_equal(
		gm_pin_range(view, 100, KIB(12) - 100, GM_PERM_W, slices, pins, 4, &needed),
		-EACCES);
	assert_null(pins[0].map);
	assert_int_equal(
		gm_pin_range(view, 100, KIB(12) - 100, GM_PERM_R, slices, pins, 4, &needed), 0);
	assert_int_equal(slices[0].iov_len + slices[1].iov_len + slices[2].iov_len, KIB(12) - 100);
	gm_reader_leave(reader);
	for (size_t i = 0; i < needed; i++)
		gm_pin_put(&pins[i]);
	stop();
}

/* ---- one piece after the other ---- */

#define KEPT 4

struct walk {
	struct iovec slices[KEPT];
	struct gm_pin pins[KEPT];
	size_t nr;
	size_t keep;    /* the pin of this one is kept */
	size_t stop_at; /* pieces */
};

static int note(void *ctx, const struct iovec *slice, struct gm_pin *pin)
{
	struct walk *walk = ctx;

	assert_true(walk->nr < KEPT);
	assert_non_null(pin->map);
	walk->slices[walk->nr] = *slice;
	if (walk->nr == walk->keep) {
		walk->pins[walk->nr] = *pin;
		*pin = (struct gm_pin){0};
	}
	return ++walk->nr == walk->stop_at ? 33 : 0;
}

static int go(struct walk *walk, uint64_t gpa, uint64_t len, uint32_t perms, uint64_t *done)
{
	int rc;

	*walk = (struct walk){.keep = walk->keep, .stop_at = walk->stop_at};
	*done = 77;
	rc = gm_for_each_slice(gm_reader_enter(reader), gpa, len, perms, note, walk, done);
	gm_reader_leave(reader);
	return rc;
}

/* RAM [0, 4K) and [4K, 8K), ROM [8K, 12K), a hole, and the last page. */
static void pieces_come_one_after_the_other(void **state)
{
	struct walk walk = {.keep = KEPT};
	uint64_t done;
	uint64_t id;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW));
	id = add(0, KIB(4));
	add(KIB(4), KIB(4));
	assert_ok(gm_space_add(space,
		DESC(.gpa = KIB(8), .kind = GM_REGION_ROM, .backing = BLOCK(.len = KIB(4))), NULL,
		&err));
	add(UINT64_MAX - KIB(4) + 1, KIB(4));
	assert_int_equal(go(&walk, 100, KIB(12) - 200, GM_PERM_R, &done), 0);
	assert_int_equal(walk.nr, 3);
	assert_int_equal(done, KIB(12) - 200);
	assert_ptr_equal(walk.slices[0].iov_base, (uint8_t *)region(id).hva + 100);
	assert_int_equal(walk.slices[0].iov_len, KIB(4) - 100);
	assert_int_equal(walk.slices[2].iov_len, KIB(4) - 100);
	assert_int_equal(go(&walk, KIB(4), 1, GM_PERM_W, &done), 0);
	assert_int_equal(walk.nr, 1);
	/* What fails comes behind what does not. */
	assert_int_equal(go(&walk, 100, KIB(12), GM_PERM_W, &done), -EACCES);
	assert_int_equal(walk.nr, 2);
	assert_int_equal(done, KIB(8) - 100);
	assert_int_equal(go(&walk, KIB(8), UINT64_MAX - KIB(8), GM_PERM_R, &done), -EFAULT);
	assert_int_equal(walk.nr, 1);
	assert_int_equal(done, KIB(4));
	walk.stop_at = 2;
	assert_int_equal(go(&walk, 0, KIB(12), GM_PERM_R, &done), 33);
	assert_int_equal(walk.nr, 2);
	assert_int_equal(done, KIB(8));
	/* Edges. */
	walk.stop_at = 0;
	assert_int_equal(go(&walk, UINT64_MAX - 1, 2, GM_PERM_RW, &done), 0);
	assert_int_equal(walk.nr, 1);
	assert_int_equal(done, 2);
	assert_int_equal(go(&walk, UINT64_MAX, 2, GM_PERM_R, &done), -ERANGE);
	assert_int_equal(go(&walk, 5, 0, GM_PERM_RW, &done), 0);
	assert_int_equal(go(&walk, KIB(8), 0, GM_PERM_W | GM_PIN_EXACT, &done), -EACCES);
	assert_int_equal(go(&walk, KIB(12), 0, GM_PERM_R, &done), -EFAULT);
	assert_int_equal(walk.nr, 0);
	assert_int_equal(done, 0);
	stop();
}

static void a_pin_of_a_walk_may_be_kept(void **state)
{
	struct walk walk = {.keep = 1};
	uint64_t done;
	uint64_t id;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, KIB(4));
	id = add(KIB(4), KIB(4));
	((uint8_t *)region(id).hva)[3] = 33;
	assert_int_equal(go(&walk, 0, KIB(8), GM_PERM_R, &done), 0);
	assert_int_equal(walk.nr, 2);
	assert_ok(gm_space_remove(space, id, &err));
	assert_ok(gm_space_wait(space, 0, &err));
	assert_int_equal(((uint8_t *)walk.slices[1].iov_base)[3], 33);
	gm_pin_put(&walk.pins[1]);
	stop();
}

/* Its window address is taken by the pin, so it goes elsewhere: a second way, and no error. */
static void what_succeeds_by_another_way_writes_no_error(void **state)
{
	struct gm_error untouched;
	struct iovec slice;
	struct gm_pin pin;
	uint64_t id;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(64)));
	id = add(0, MIB(1));
	assert_int_equal(
		gm_pin_slice(gm_reader_enter(reader), 0, 4096, GM_PERM_RW, &slice, &pin), 0);
	gm_reader_leave(reader);
	assert_ok(gm_space_remove(space, id, &err));
	memset(&err, 0x5a, sizeof(err));
	untouched = err;
	assert_int_equal(gm_space_add(space, DESC(.backing = BLOCK(.len = MIB(1))), NULL, &err), 0);
	assert_memory_equal(&err, &untouched, sizeof(err));
	gm_pin_put(&pin);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_succeeds_by_another_way_writes_no_error),
		cmocka_unit_test(a_pin_outlives_removal_and_space),
		cmocka_unit_test(pins_follow_the_edge_rule),
		cmocka_unit_test(pieces_come_one_after_the_other),
		cmocka_unit_test(a_pin_of_a_walk_may_be_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
