/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_listener.c - listeners are told exactly what changes, may refuse, and are put back.
 *
 * After each commit, worked or failed, a recorder's map must be what the space shows, joined as its
 * policy says.
 */
#include <stdio.h>

#include "random.h"
#include "recorder.h"

/* ---- tests ---- */

static void a_new_listener_is_told_the_whole_map(void **state)
{
	struct recorder r = {.join = GM_JOIN_NONE};

	(void)state;
	add(0, 2, 0, 0);
	add(2, 2, 2, 0);
	add(8, 1, 9, GM_PERM_R);
	attach(&r, 0, true);
	assert_int_equal(r.nr, 3);
	assert_int_equal(r.commits, 1);
	check_same(&r);
	assert_int_equal(gm_listener_destroy(r.listener, &err), 0);
	assert_int_equal(r.nr, 0);
}

static void a_change_of_permissions_is_one_call(void **state)
{
	struct recorder with = {0};
	struct recorder without = {0};
	uint64_t id;

	(void)state;
	add(0, 2, 0, 0);
	id = add(2, 2, 2, 0);
	attach(&with, 0, true);
	attach(&without, 1, false);
	with.calls = without.calls = 0;
	with.commits = without.commits = 0;
	assert_int_equal(protect(id, GM_PERM_R), 0);
	assert_int_equal(with.calls, 1);
	assert_int_equal(without.calls, 2);
	/* Both hear that it is published. */
	assert_int_equal(with.commits, 1);
	assert_int_equal(without.commits, 1);
	check_same(&with);
	check_same(&without);
	/* What changes nothing for it is not told. */
	with.calls = with.prepares = 0;
	assert_int_equal(protect(id, GM_PERM_R), 0);
	assert_int_equal(with.calls + with.prepares, 0);
	gm_listener_destroy(with.listener, NULL);
	gm_listener_destroy(without.listener, NULL);
}

static void neighbours_are_joined_and_parted(void **state)
{
	struct recorder host = {.join = GM_JOIN_HOST};
	struct recorder file = {.join = GM_JOIN_FILE};
	uint64_t middle;

	(void)state;
	add(0, 2, 0, 0);
	middle = add(2, 2, 2, 0);
	add(4, 2, 4, 0);
	/* In the window beside the others, but from elsewhere in the file. */
	add(6, 2, 20, 0);
	attach(&host, 0, true);
	attach(&file, 1, true);
	assert_int_equal(host.nr, 1);
	assert_int_equal(file.nr, 2);
	host.calls = 0;
	assert_int_equal(protect(middle, GM_PERM_R), 0);
	assert_int_equal(host.nr, 3);
	assert_int_equal(host.calls, 4);
	check_same(&host);
	check_same(&file);
	assert_int_equal(protect(middle, GM_PERM_RWX), 0);
	assert_int_equal(host.nr, 1);
	check_same(&host);
	check_same(&file);
	assert_ok(gm_space_remove(space, middle, &err));
	assert_int_equal(host.nr, 2);
	check_same(&host);
	check_same(&file);
	gm_listener_destroy(host.listener, NULL);
	gm_listener_destroy(file.listener, NULL);
}

static void lower_priorities_gain_first_and_lose_last(void **state)
{
	struct recorder r[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
	uint64_t id;

	(void)state;
	attach(&r[1], 0, true);
	attach(&r[2], 5, true);
	attach(&r[0], -7, true);
	nr_order = 0;
	id = add(0, 1, 0, 0);
	assert_string_equal(order, "p0p1p2a0a1a2C0C1C2");
	nr_order = 0;
	assert_ok(gm_space_remove(space, id, &err));
	assert_string_equal(order, "p0p1p2r2r1r0C0C1C2");
	id = add(0, 1, 0, 0);
	nr_order = 0;
	r[2].refuse_prepare = 1;
	assert_int_equal(gm_space_remove(space, id, &err), -EPERM);
	assert_string_equal(err.text, "recorder: not this one");
	assert_string_equal(order, "p0p1p2A1A0");
	r[2].refuse_prepare = 1;
	r[2].only_text = true;
	assert_int_equal(gm_space_remove(space, id, &err), -EPERM);
	assert_int_equal(err.code, -EPERM);
	assert_non_null(
		strstr(err.text, "\"recorder\" refuses the change: recorder: not this one"));
	nr_order = 0;
	r[1].refuse_add = 1;
	assert_int_equal(
		gm_space_add(space, DESC(.gpa = PAGE, .len = PAGE, .block = shared), NULL, &err),
		-ENOSPC);
	assert_non_null(strstr(err.text, "listener \"recorder\" refuses"));
	assert_int_equal(err.gpa, PAGE);
	assert_string_equal(order, "p0p1p2a0a1r0A2A1A0");
	for (int i = 0; i < 3; i++) {
		check_same(&r[i]);
		gm_listener_destroy(r[i].listener, NULL);
	}
}

static void a_budget_is_counted_before_anybody_is_asked(void **state)
{
	struct recorder r = {.join = GM_JOIN_HOST};
	struct recorder first = {.number = 1};
	struct gm_listener_ops ops = ops_of(&r, 3, true);
	uint64_t id;

	(void)state;
	ops.max_sections = 2;
	id = add(0, 6, 0, 0);
	assert_ok(gm_listener_create(space, &ops, &r.listener, &err));
	attach(&first, 0, true);
	add(10, 1, 10, 0);
	nr_order = 0;
	assert_fails(gm_space_add(space, DESC(.gpa = 20 * PAGE, .len = PAGE, .block = shared), NULL,
			     &err),
		ENOSPC, "would have 3 sections, of which it can take 2");
	assert_int_equal(nr_order, 0);
	/* Joined to its neighbour it is none more. */
	add(11, 1, 11, 0);
	check_same(&r);
	/* The middle of one is two more. */
	assert_fails(gm_space_add(space,
			     DESC(.gpa = 2 * PAGE, .len = PAGE, .kind = GM_REGION_RESERVED,
				     .priority = 1),
			     NULL, &err),
		ENOSPC, "would have 3");
	assert_ok(gm_space_remove(space, id, &err));
	check_same(&r);
	gm_listener_destroy(r.listener, NULL);
	ops.max_sections = 1;
	add(20, 1, 20, 0);
	assert_fails(gm_listener_create(space, &ops, &r.listener, &err), ENOSPC, "would have 2");
	gm_listener_destroy(first.listener, NULL);
}

static void kinds_that_are_not_wanted_are_not_told(void **state)
{
	struct recorder rom = {.kinds = GM_KIND_BIT(GM_REGION_ROM)};
	struct recorder all = {.kinds = GM_KINDS_ALL};
	struct gm_listener_info info = {.size = sizeof(info)};
	struct gm_listener_ops ops;

	(void)state;
	attach(&rom, 0, true);
	ops = ops_of(&all, 1, true);
	ops.enforces = GM_PERM_W;
	assert_ok(gm_listener_create(space, &ops, &all.listener, &err));
	add(0, 1, 0, 0);
	assert_ok(gm_space_add(
		space, DESC(.gpa = PAGE, .len = 16, .kind = GM_REGION_RESERVED), NULL, &err));
	assert_int_equal(rom.nr, 0);
	assert_int_equal(rom.prepares, 0);
	assert_ok(gm_space_add(space,
		DESC(.gpa = 2 * PAGE, .len = PAGE, .kind = GM_REGION_ROM, .block = shared), NULL,
		&err));
	assert_int_equal(rom.nr, 1);
	assert_int_equal(all.nr, 3);
	check_same(&rom);
	check_same(&all);
	/* Nothing may be executed or read in a reserved range: it cannot keep anybody from that. */
	assert_int_equal(gm_listener_info(all.listener, &info), 0);
	assert_int_equal(info.unenforced, GM_PERM_R | GM_PERM_X);
	assert_int_equal(gm_listener_info(rom.listener, &info), 0);
	assert_int_equal(info.unenforced, GM_PERM_W);
	gm_listener_destroy(rom.listener, NULL);
	gm_listener_destroy(all.listener, NULL);
}

static void a_callback_cannot_change_the_space(void **state)
{
	struct recorder r = {.reenter = true};
	uint64_t id;

	(void)state;
	attach(&r, 0, true);
	id = add(0, 2, 0, 0);
	assert_int_equal(protect(id, GM_PERM_R), 0);
	r.refuse_prepare = 1;
	assert_int_equal(gm_space_remove(space, id, &err), -EPERM);
	assert_ok(gm_space_remove(space, id, &err));
	r.reenter = false;
	gm_listener_destroy(r.listener, NULL);
}

/* A listener that refuses to take back what it had is broken, and says so. */
static void what_is_not_taken_back_is_counted(void **state)
{
	struct recorder first = {.number = 0};
	struct recorder second = {.number = 1};
	struct gm_listener_info info = {.size = sizeof(info)};
	uint64_t id;

	(void)state;
	id = add(0, 4, 0, 0);
	attach(&first, 0, false);
	attach(&second, 1, false);
	/* The first takes the change, is to take it back when the second refuses, and does not. */
	first.refuse_add = 2;
	second.refuse_add = 1;
	assert_int_equal(protect(id, GM_PERM_R), -ENOSPC);
	assert_int_equal(gm_listener_info(first.listener, &info), 0);
	assert_int_equal(info.lost, 1);
	assert_int_equal(first.nr, 0);
	check_same(&second);
	assert_int_equal(gm_listener_info(second.listener, &info), 0);
	assert_int_equal(info.lost, 0);
	gm_listener_destroy(second.listener, NULL);
}

/* ---- random changes, refusals at every step ---- */

static uint64_t ids[24];

static void some_operation(struct rng *rng, struct gm_txn *txn)
{
	uint64_t i = rng_below(rng, 24);
	static const uint32_t perms[] = {GM_PERM_R, GM_PERM_RW, GM_PERM_RWX};
	uint64_t pages = 1 + rng_below(rng, 6);
	struct gm_region_desc desc = {.size = sizeof(desc),
		.gpa = rng_below(rng, 48) * PAGE,
		.len = pages * PAGE,
		.block_off = rng_below(rng, 58) * PAGE,
		.block = shared,
		.priority = (int32_t)rng_below(rng, 4)};
	struct gm_block_opts backing = {.size = sizeof(backing)};

	if (rng_below(rng, 5) == 0)
		desc.gpa += GIB(16) - 24 * PAGE;
	if (!ids[i] || rng_below(rng, 9) == 0) {
		if (rng_below(rng, 4) == 0) {
			desc.block = NULL;
			desc.block_off = 0;
			desc.backing = &backing;
		} else if (rng_below(rng, 6) == 0) {
			desc.block = NULL;
			desc.block_off = 0;
			desc.kind = GM_REGION_RESERVED;
		} else if (rng_below(rng, 2)) {
			/* As it lies in the file, so that neighbours join. */
			desc.gpa = desc.block_off;
		}
		if (!ids[i])
			gm_txn_add(txn, &desc, &ids[i], NULL);
		return;
	}
	switch (rng_below(rng, 6)) {
	case 0:
		if (gm_txn_remove(txn, ids[i], NULL) == 0)
			ids[i] = 0;
		break;
	case 1:
		gm_txn_move(txn, ids[i], desc.gpa, NULL);
		break;
	case 2:
		gm_txn_resize(txn, ids[i], desc.len, NULL);
		break;
	case 3:
		gm_txn_protect(txn, ids[i], perms[rng_below(rng, 3)], NULL);
		break;
	case 4:
		gm_txn_enable(txn, ids[i], rng_below(rng, 2), NULL);
		break;
	default:
		gm_txn_prioritize(txn, ids[i], desc.priority, NULL);
	}
}

struct tally {
	unsigned int commits;
	unsigned int refused;
	unsigned int faults;
};

static void arm(struct rng *rng, struct recorder *r, size_t nr)
{
	struct recorder *one = &r[rng_below(rng, nr)];
	int count = 1 + (int)rng_below(rng, 5);

	switch (rng_below(rng, 6)) {
	case 0:
		one->refuse_prepare = 1;
		break;
	case 1:
		one->refuse_add = count;
		break;
	case 2:
		one->refuse_change = count;
		break;
	default:
		break;
	}
}

static void disarm(struct recorder *r, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		r[i].refuse_prepare = r[i].refuse_add = r[i].refuse_change = 0;
}

static void step(struct rng *rng, struct recorder *r, size_t nr, struct tally *tally)
{
	const struct fault_plan plan = {.fn = FAULT_ANY,
		.nth = 1 + rng_below(rng, 60),
		.forever = rng_below(rng, 2),
		.error = ENOMEM};
	uint64_t saved[24];
	struct gm_txn *txn;
	int rc = -1;

	memcpy(saved, ids, sizeof(saved));
	assert_ok(gm_txn_begin(space, &txn, &err));
	for (uint64_t i = rng_below(rng, 5) + 1; i > 0; i--)
		some_operation(rng, txn);
	for (int tries = 0; rc && tries < 3; tries++) {
		/* One or the other: what is given back must not be refused. */
		if (rng_below(rng, 4) == 0)
			fault_set(&plan);
		else
			arm(rng, r, nr);
		rc = gm_txn_commit(txn, &err);
		tally->faults += fault_hits() > 0;
		fault_set(NULL);
		disarm(r, nr);
		tally->refused += rc != 0;
		for (size_t i = 0; i < nr && rc; i++)
			check_same(&r[i]);
	}
	if (rc) {
		gm_txn_abort(txn);
		memcpy(ids, saved, sizeof(ids));
	} else {
		tally->commits++;
	}
	for (size_t i = 0; i < nr; i++)
		check_same(&r[i]);
}

static void refusals_and_faults_at_every_step_leave_all_as_it_was(void **state)
{
	struct tally tally = {0};

	(void)state;
	for (uint64_t run = 0; run < support_scale(12); run++) {
		struct recorder r[4] = {{.join = GM_JOIN_NONE, .kinds = GM_KINDS_ALL, .number = 0},
			{.join = GM_JOIN_HOST, .number = 1}, {.join = GM_JOIN_FILE, .number = 2},
			{.join = GM_JOIN_HOST, .number = 3}};
		struct rng rng = {test_seed(7000 + run)};

		memset(ids, 0, sizeof(ids));
		attach(&r[0], 2, true);
		attach(&r[1], -1, true);
		attach(&r[2], 2, false);
		for (int i = 0; i < 200; i++) {
			if (i == 100)
				attach(&r[3], 1, true);
			step(&rng, r, i < 100 ? 3 : 4, &tally);
		}
		for (size_t i = 0; i < 4; i++) {
			assert_int_equal(gm_listener_destroy(r[i].listener, &err), 0);
			assert_int_equal(r[i].nr, 0);
		}
		gm_space_destroy(space);
		assert_ok(gm_space_create(
			GM_OPTS(gm_space_opts, .gpa_limit = GIB(16)), &space, &err));
	}
	printf("figure: listened-commits %u\nfigure: refused-commits %u\nfigure: faults %u\n",
		tally.commits, tally.refused, tally.faults);
	assert_true(tally.commits > 100 && tally.refused > 50 && tally.faults > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_new_listener_is_told_the_whole_map, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_change_of_permissions_is_one_call, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			neighbours_are_joined_and_parted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			lower_priorities_gain_first_and_lose_last, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_budget_is_counted_before_anybody_is_asked, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			kinds_that_are_not_wanted_are_not_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_callback_cannot_change_the_space, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			what_is_not_taken_back_is_counted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			refusals_and_faults_at_every_step_leave_all_as_it_was, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
