/* SPDX-License-Identifier: BSD-3-Clause */
/* test_vhost_plan.c - tables of regions and the way from one to the next, against a model of a back-end. */
#include "core/vhost_plan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "random.h"
#include "support.h"

#define PAGE 4096u
#define PAGES 64u
#define MAX PAGES

static struct gm_error err;

static struct gm_vhost_slot slot_of(uint64_t gpa, uint64_t len, uint64_t user, uint64_t off)
{
	return (struct gm_vhost_slot){.region = {gpa, len, user, off}, .page = PAGE, .fd = -1};
}

/* ---- joining ---- */

static void neighbours_in_all_three_are_one(void **state)
{
	struct gm_vhost_slot slots[3] = {slot_of(0, PAGE, MIB(1), 0),
		slot_of(PAGE, PAGE, MIB(1) + PAGE, PAGE),
		slot_of(2 * PAGE, PAGE, MIB(1) + 2 * PAGE, 2 * PAGE)};
	size_t nr = 3;

	(void)state;
	assert_ok(gm_vhost_plan_join(slots, &nr, &err));
	assert_int_equal(nr, 1);
	assert_int_equal(slots[0].region.len, 3 * PAGE);
}

/* The second differs from the first's neighbour in one thing. */
static void neighbours_in_two_of_three_are_two(void **state)
{
	(void)state;
	for (int what = 0; what < 6; what++) {
		struct gm_vhost_slot slots[2] = {
			slot_of(0, PAGE, MIB(1), 0), slot_of(PAGE, PAGE, MIB(1) + PAGE, PAGE)};
		size_t nr = 2;

		slots[1].region.gpa += what == 0 ? PAGE : 0;
		slots[1].region.user += what == 1 ? PAGE : 0;
		slots[1].region.off += what == 2 ? PAGE : 0;
		slots[1].file[0] += what == 3;
		slots[1].file[1] += what == 4;
		slots[1].flags = what == 5 ? GM_VHOST_SLOT_ALONE : 0;
		assert_ok(gm_vhost_plan_join(slots, &nr, &err));
		assert_int_equal(nr, 2);
	}
}

static void whole_pages_of_the_file_are_given(void **state)
{
	struct gm_vhost_slot slots[2] = {slot_of(GIB(1) + PAGE, PAGE, GIB(3) + PAGE, MIB(4) + PAGE),
		slot_of(GIB(1) + MIB(1), PAGE, GIB(3) + MIB(1), MIB(5))};
	size_t nr = 2;

	(void)state;
	slots[0].page = MIB(2);
	slots[1].page = MIB(2);
	slots[1].flags = GM_VHOST_SLOT_ALONE;
	/* One huge page for both, so they cannot be two. */
	assert_ok(gm_vhost_plan_join(slots, &nr, &err));
	assert_int_equal(nr, 1);
	assert_int_equal(slots[0].region.gpa, GIB(1));
	assert_int_equal(slots[0].region.user, GIB(3));
	assert_int_equal(slots[0].region.off, MIB(4));
	assert_int_equal(slots[0].region.len, MIB(2));
}

static void pages_that_reach_into_others_are_refused(void **state)
{
	struct gm_vhost_slot slots[2] = {
		slot_of(0, MIB(1), 0, 0), slot_of(MIB(1), PAGE, MIB(1), 0)};
	size_t nr = 2;

	(void)state;
	slots[0].page = MIB(2);
	slots[1].file[1] = 1;
	assert_fails(gm_vhost_plan_join(slots, &nr, &err), EINVAL, "overlap");
	nr = 1;
	slots[0] = slot_of(0, PAGE, MIB(2), MIB(2) + PAGE);
	slots[0].page = MIB(2);
	assert_fails(gm_vhost_plan_join(slots, &nr, &err), ERANGE, "whole pages");
	nr = 1;
	slots[0] = slot_of(PAGE, PAGE, 0, PAGE);
	slots[0].page = MIB(2);
	assert_fails(gm_vhost_plan_join(slots, &nr, &err), ERANGE, "whole pages");
	nr = 1;
	slots[0] = slot_of(UINT64_MAX - PAGE + 1, 2 * PAGE, 0, 0);
	assert_fails(gm_vhost_plan_join(slots, &nr, &err), ERANGE, "whole pages");
}

/* ---- the way ---- */

struct backend {
	struct gm_vhost_slot has[MAX + 1];
	size_t nr;
	uint64_t log_len;
};

static void check_backend(const struct backend *b)
{
	for (size_t i = 0; i < b->nr; i++) {
		const struct gm_vhost_region *r = &b->has[i].region;

		if (b->log_len)
			assert_true(b->log_len >= (r->gpa + r->len - 1) / PAGE / 8 + 1);
		for (size_t j = i + 1; j < b->nr; j++) {
			const struct gm_vhost_region *s = &b->has[j].region;

			assert_true(r->gpa + r->len <= s->gpa || s->gpa + s->len <= r->gpa);
			assert_true(r->user + r->len <= s->user || s->user + s->len <= r->user);
		}
	}
}

static void apply(struct backend *b, struct gm_vhost_table old, struct gm_vhost_table new,
	struct gm_vhost_step step)
{
	const struct gm_vhost_slot *slot;

	switch (step.kind) {
	case GM_VHOST_STEP_GROW_LOG:
	case GM_VHOST_STEP_SHRINK_LOG:
		assert_true((step.kind == GM_VHOST_STEP_GROW_LOG) ==
			    (gm_vhost_plan_log_len(new) > b->log_len));
		b->log_len = gm_vhost_plan_log_len(new);
		break;
	case GM_VHOST_STEP_TABLE:
		memcpy(b->has, new.slots, new.nr * sizeof(*new.slots));
		b->nr = new.nr;
		break;
	case GM_VHOST_STEP_REMOVE:
		slot = &old.slots[step.index];
		for (size_t i = 0; i < b->nr; i++) {
			if (!gm_vhost_slot_same(&b->has[i], slot))
				continue;
			b->has[i] = b->has[--b->nr];
			return;
		}
		fail_msg("the back-end does not have what is to go");
		break;
	default:
		b->has[b->nr++] = new.slots[step.index];
	}
}

static size_t not_in(struct gm_vhost_table a, struct gm_vhost_table b)
{
	size_t nr = 0;

	for (size_t i = 0; i < a.nr; i++) {
		bool found = false;

		for (size_t j = 0; j < b.nr; j++)
			found = found || gm_vhost_slot_same(&a.slots[i], &b.slots[j]);
		nr += !found;
	}
	return nr;
}

/* Takes the pages of a map in any pieces, so that what is joined depends on what is next to it only. */
static size_t random_map(struct rng *rng, struct gm_vhost_slot *slots)
{
	size_t nr = 0;
	uint64_t at = rng_below(rng, 4);

	while (at < PAGES && rng_below(rng, 24)) {
		uint64_t pages = 1 + rng_below(rng, 6);
		uint64_t file = rng_below(rng, 2);
		struct gm_vhost_slot slot = slot_of(at * PAGE, pages * PAGE,
			(2 * file * PAGES + at) * PAGE, rng_below(rng, 8) ? at * PAGE : 0);

		slot.file[1] = file;
		slot.flags = rng_below(rng, 10) ? 0 : GM_VHOST_SLOT_ALONE;
		slots[nr++] = slot;
		at += pages + (rng_below(rng, 2) ? rng_below(rng, 5) : 0);
	}
	return nr;
}

static void check_joined(
	const struct gm_vhost_slot *raw, size_t nr_raw, struct gm_vhost_table table)
{
	for (size_t i = 0; i < nr_raw; i++) {
		for (uint64_t at = 0; at < raw[i].region.len; at += PAGE) {
			const struct gm_vhost_slot *in =
				gm_vhost_plan_find(table, raw[i].region.gpa + at, PAGE);

			assert_non_null(in);
			assert_int_equal(in->region.off - in->region.gpa,
				raw[i].region.off - raw[i].region.gpa);
			assert_int_equal(in->region.user - in->region.gpa,
				raw[i].region.user - raw[i].region.gpa);
			assert_int_equal(in->file[1], raw[i].file[1]);
		}
	}
}

static void one_change(struct rng *rng, struct backend *b, struct gm_vhost_slot *old_slots,
	size_t *nr_old, bool slots, unsigned long *messages)
{
	struct gm_vhost_slot raw[MAX];
	struct gm_vhost_slot new_slots[MAX];
	struct gm_vhost_step steps[2 * MAX + 2];
	size_t nr_raw = random_map(rng, raw);
	size_t nr_new = nr_raw;
	size_t peak = *nr_old;
	size_t nr;
	size_t wanted;
	const struct gm_vhost_way way = {.max = MAX, .by_slot = slots, .log_len = b->log_len};
	struct gm_vhost_table old = {old_slots, *nr_old};
	struct gm_vhost_table new = {new_slots, 0};

	memcpy(new_slots, raw, nr_raw * sizeof(*raw));
	assert_ok(gm_vhost_plan_join(new_slots, &nr_new, &err));
	new.nr = nr_new;
	check_joined(raw, nr_raw, new);
	assert_ok(gm_vhost_plan(&way, old, new, steps, &nr, &err));
	wanted = not_in(old, new) + not_in(new, old);
	if (!slots)
		wanted = wanted ? 1 : 0;
	if (way.log_len && nr_new && gm_vhost_plan_log_len(new) != way.log_len)
		wanted++;
	assert_int_equal(nr, wanted);
	peak = peak > nr_new ? peak : nr_new;
	for (size_t i = 0; i < nr; i++) {
		apply(b, old, new, steps[i]);
		assert_true(b->nr <= peak);
		check_backend(b);
	}
	assert_int_equal(b->nr, nr_new);
	for (size_t i = 0; i < nr_new; i++)
		assert_int_equal(not_in((struct gm_vhost_table){b->has, b->nr}, new), 0);
	memcpy(old_slots, new_slots, nr_new * sizeof(*new_slots));
	*nr_old = nr_new;
	*messages += nr;
}

static void random_tables_come_by_the_fewest_messages(void **state)
{
	struct gm_vhost_slot old_slots[MAX];
	unsigned long messages = 0;
	unsigned long rounds = support_scale(2000);

	(void)state;
	for (unsigned long round = 0; round < rounds; round++) {
		uint64_t seed = test_seed(round);
		struct rng rng = {seed};
		struct backend b = {.log_len = round & 1 ? PAGE : 0};
		size_t nr_old = 0;

		for (int i = 0; i < 6; i++)
			one_change(&rng, &b, old_slots, &nr_old, round & 2, &messages);
	}
	assert_true(messages > rounds);
	printf("figure: messages of changed tables %lu\n", messages);
}

static void what_goes_goes_first_and_the_last_one_first(void **state)
{
	struct gm_vhost_slot a[3] = {slot_of(0, PAGE, 0, 0), slot_of(MIB(1), PAGE, MIB(1), 0),
		slot_of(MIB(2), PAGE, MIB(2), 0)};
	struct gm_vhost_slot b[3] = {
		slot_of(PAGE, PAGE, PAGE, 0), a[1], slot_of(MIB(2), MIB(1), MIB(2), 0)};
	const struct gm_vhost_way way = {.max = 3, .by_slot = true};
	struct gm_vhost_step steps[8];
	size_t nr;

	(void)state;
	assert_ok(gm_vhost_plan(&way, (struct gm_vhost_table){a, 3}, (struct gm_vhost_table){b, 3},
		steps, &nr, &err));
	assert_int_equal(nr, 4);
	assert_int_equal(steps[0].kind, GM_VHOST_STEP_REMOVE);
	assert_int_equal(steps[0].index, 2);
	assert_int_equal(steps[1].kind, GM_VHOST_STEP_REMOVE);
	assert_int_equal(steps[1].index, 0);
	assert_int_equal(steps[2].kind, GM_VHOST_STEP_ADD);
	assert_int_equal(steps[2].index, 0);
	assert_int_equal(steps[3].kind, GM_VHOST_STEP_ADD);
	assert_int_equal(steps[3].index, 2);
}

static void the_log_grows_ahead_of_the_table_and_shrinks_behind_it(void **state)
{
	struct gm_vhost_slot low[1] = {slot_of(0, PAGE, 0, 0)};
	struct gm_vhost_slot high[1] = {slot_of(GIB(4), PAGE, 0, 0)};
	struct gm_vhost_table a = {low, 1};
	struct gm_vhost_table b = {high, 1};
	struct gm_vhost_way way = {.max = 8, .log_len = gm_vhost_plan_log_len(a)};
	struct gm_vhost_step steps[8];
	size_t nr;

	(void)state;
	assert_int_equal(way.log_len, PAGE);
	assert_int_equal(gm_vhost_plan_log_len(b), GIB(4) / PAGE / 8 + PAGE);
	assert_ok(gm_vhost_plan(&way, a, b, steps, &nr, &err));
	assert_int_equal(nr, 2);
	assert_int_equal(steps[0].kind, GM_VHOST_STEP_GROW_LOG);
	assert_int_equal(steps[1].kind, GM_VHOST_STEP_TABLE);
	way.log_len = gm_vhost_plan_log_len(b);
	assert_ok(gm_vhost_plan(&way, b, a, steps, &nr, &err));
	assert_int_equal(nr, 2);
	assert_int_equal(steps[0].kind, GM_VHOST_STEP_TABLE);
	assert_int_equal(steps[1].kind, GM_VHOST_STEP_SHRINK_LOG);
	/* All that goes leaves the log. */
	assert_ok(gm_vhost_plan(&way, b, (struct gm_vhost_table){NULL, 0}, steps, &nr, &err));
	assert_int_equal(nr, 1);
}

static void more_than_the_back_end_takes_is_refused(void **state)
{
	struct gm_vhost_slot slots[9];
	const struct gm_vhost_way way = {.max = 8};
	struct gm_vhost_step steps[16];
	size_t nr = 9;

	(void)state;
	for (size_t i = 0; i < 9; i++)
		slots[i] = slot_of(i * MIB(1), PAGE, i * MIB(1), 0);
	assert_ok(gm_vhost_plan_join(slots, &nr, &err));
	assert_fails(gm_vhost_plan(&way, (struct gm_vhost_table){NULL, 0},
			     (struct gm_vhost_table){slots, nr}, steps, &nr, &err),
		ENOSPC, "9 regions");
	slots[1].region.user = 0;
	assert_fails(gm_vhost_plan(&way, (struct gm_vhost_table){NULL, 0},
			     (struct gm_vhost_table){slots, 2}, steps, &nr, &err),
		EINVAL, "user addresses");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(neighbours_in_all_three_are_one),
		cmocka_unit_test(neighbours_in_two_of_three_are_two),
		cmocka_unit_test(whole_pages_of_the_file_are_given),
		cmocka_unit_test(pages_that_reach_into_others_are_refused),
		cmocka_unit_test(random_tables_come_by_the_fewest_messages),
		cmocka_unit_test(what_goes_goes_first_and_the_last_one_first),
		cmocka_unit_test(the_log_grows_ahead_of_the_table_and_shrinks_behind_it),
		cmocka_unit_test(more_than_the_back_end_takes_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
