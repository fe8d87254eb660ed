/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate.c - a guest that writes all the time is moved: by rounds, on demand, both; over Unix sockets and TCP;
 * memory of every kind.
 */
#include "one_migration.h"

#include <guestmem/guard.h>

static void moves_in_rounds(void **ctx)
{
	struct gm_migrate_stats out;
	struct gm_migrate_stats in;

	(void)ctx;
	move_well((struct move_opts){.low = MIB(3), .high = MIB(5), .out.way = GM_MIGRATE_OUT_STOP},
		&out, &in);
	assert_int_equal(out.memory, MIB(8));
	assert_true(out.round >= 2);
	assert_true(out.zeros > 0);
	assert_true(out.pages >= MIB(8));
	assert_int_equal(out.requests, 0);
	assert_int_equal(in.pages, out.pages);
	assert_true(out.downtime_ns > 0);
}

static void moves_on_demand(void **ctx)
{
	struct gm_migrate_stats out;
	struct gm_migrate_stats in;

	(void)ctx;
	move_well((struct move_opts){.low = MIB(3),
			  .high = MIB(5),
			  .out.way = GM_MIGRATE_OUT_POSTCOPY,
			  .out.rate = MIB(16)},
		&out, &in);
	assert_true(in.requests > 0);
	assert_true(out.requests > 0);
	assert_true(out.pages <= MIB(8));
	assert_int_equal(in.left, 0);
}

/* ---- connections, memory, packing ---- */

static void by_any_connections(void **ctx)
{
	static const uint32_t bulk[] = {0, 1, 3, 16};
	static const uint32_t urgent[] = {0, 1, 4};
	struct gm_migrate_stats out;
	struct gm_migrate_stats in;

	(void)ctx;
	for (uint32_t i = 0; i < 4 * 3 * 2; i++) {
		struct move_opts o = {.low = MIB(1), .high = MIB(1)};

		o.out.bulk_plus = 1 + bulk[i % 4];
		o.out.urgent_plus = 1 + urgent[i / 4 % 3];
		o.out.way = i / 12 ? GM_MIGRATE_OUT_POSTCOPY : GM_MIGRATE_OUT_STOP;
		o.out.rate = i / 12 ? MIB(32) : 0;
		o.tcp = i & 1;
		o.out.pages = i % 5 ? 1 + i : 1024;
		move_well(o, &out, &in);
		assert_int_equal(out.epoch, 1);
	}
}

static void packed(void **ctx)
{
	static const uint32_t codecs[] = {GM_SNAPSHOT_ZSTD, GM_SNAPSHOT_LZ4, GM_SNAPSHOT_BEST};
	struct gm_migrate_stats out;
	struct gm_migrate_stats in;

	(void)ctx;
	for (uint32_t i = 0; i < 3; i++) {
		struct move_opts o = {.low = MIB(2), .high = MIB(2)};

		o.out.codec_plus = 1 + codecs[i];
		o.out.way = i & 1 ? GM_MIGRATE_OUT_POSTCOPY : GM_MIGRATE_OUT_STOP;
		move_well(o, &out, &in);
		assert_true(out.packed > 0);
		assert_int_equal(in.packed, out.packed);
		assert_true(out.wire < out.pages / 2);
	}
}

static void of_any_memory(void **ctx)
{
	static const enum kind kinds[] = {
		KIND_ANON, KIND_THP, KIND_MEMFD, KIND_HUGE, KIND_HUGE_ANON};
	struct gm_migrate_stats out;
	struct gm_migrate_stats in;

	(void)ctx;
	assert_true(support_pool(21, 16));
	for (uint32_t i = 0; i < 2 * 5; i++) {
		struct move_opts o = {.kind = kinds[i % 5], .low = MIB(4), .high = MIB(4)};

		o.out.way = i / 5 ? GM_MIGRATE_OUT_POSTCOPY : GM_MIGRATE_OUT_STOP;
		o.out.rate = i / 5 ? MIB(32) : 0;
		move_well(o, &out, &in);
		assert_true(i / 5 == 0 || in.requests > 0);
	}
}

/* Transparent huge pages can be there in part: they are small ones, as far as moving them goes. */
static void to_memory_of_another_kind(void **ctx)
{
	static const struct {
		enum kind from;
		enum kind to;
		uint64_t page;
	} cases[] = {
		{KIND_THP, KIND_THP, PAGE},
		{KIND_ANON, KIND_THP, PAGE},
		{KIND_THP, KIND_MEMFD, PAGE},
		{KIND_HUGE_ANON, KIND_THP, MIB(2)},
		{KIND_HUGE, KIND_MEMFD, MIB(2)},
	};

	(void)ctx;
	assert_true(support_pool(21, 8));
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct move_opts o = {
			.kind = cases[i].from, .to = cases[i].to, .low = MIB(4), .high = MIB(4)};
		struct move *m;

		o.out.rate = MIB(64);
		o.out.downtime_ms = 1;
		o.out.rounds = 2;
		m = begin(o);
		go(m);
		assert_true(until_told(m, 0, GM_MIGRATE_TOLD_ENDED, 1));
		assert_true(until_told(m, 1, GM_MIGRATE_TOLD_ENDED, 1));
		assert_int_equal(m->page_size, cases[i].page);
		check_memory(m, 1);
		end(m);
	}
}

/* No page goes: what the guest writes there is seen here. */
static void by_descriptors(void **ctx)
{
	struct move_opts o = {.low = MIB(3), .high = MIB(5)};
	uint64_t value = 0;

	(void)ctx;
	assert_true(support_pool(21, 8));
	for (uint32_t i = 0; i < 3; i++) {
		struct gm_migrate_stats out = {.size = sizeof(out)};
		struct move *m;

		o.kind = i < 2 ? KIND_MEMFD : KIND_HUGE;
		o.low = i < 2 ? MIB(3) : MIB(4);
		o.high = i < 2 ? MIB(5) : MIB(4);
		o.out.flags = GM_MIGRATE_OUT_FDS;
		o.out.way = i & 1 ? GM_MIGRATE_OUT_POSTCOPY : GM_MIGRATE_OUT_AUTO;
		m = begin(o);
		go(m);
		assert_true(until_told(m, 0, GM_MIGRATE_TOLD_ENDED, 1));
		assert_true(until_told(m, 1, GM_MIGRATE_TOLD_ENDED, 1));
		assert_true(m->by_fd);
		assert_int_equal(gm_migrate_out_stats(m->out, &out), 0);
		assert_int_equal(out.memory, 0);
		assert_int_equal(out.pages, 0);
		check_memory(m, 1);
		assert_true(touch(m, 1, 5, true));
		for (int side = 0; side < 2; side++) {
			const struct gm_view *view = gm_reader_enter(m->readers[side]);

			assert_int_equal(gm_read_u64(view, gpa_of(m, 5) + 40, &value), 0);
			assert_int_equal(value, word_of(5, m->truth[5]));
			gm_reader_leave(m->readers[side]);
		}
		end(m);
	}
}

static void a_large_state(void **ctx)
{
	struct gm_migrate_stats out;
	struct gm_migrate_stats in;

	(void)ctx;
	move_well(
		(struct move_opts){
			.low = MIB(1), .state_len = MIB(3) + 17, .out.way = GM_MIGRATE_OUT_STOP},
		&out, &in);
	assert_true(in.wire > MIB(3));
}

/* Rounds that do not end: the guest writes faster than the line is. */
static void rounds_turn_to_demand(void **ctx)
{
	struct gm_migrate_stats out;
	struct gm_migrate_stats in;

	(void)ctx;
	assert_true(support_pool(21, 16));
	for (uint32_t i = 0; i < KINDS; i++) {
		struct move_opts o = {.kind = (enum kind)i, .low = MIB(4), .high = MIB(12)};

		o.out.rate = MIB(64);
		o.out.downtime_ms = 1;
		o.out.rounds = 3;
		move_well(o, &out, &in);
		assert_true(out.round >= 2);
		assert_true(out.pages > MIB(16));
		assert_true(in.requests > 0);
	}
}

/* ---- what is asked for wrongly ---- */

static void wrong_options(void **ctx)
{
	struct gm_migrate_out_ops out_ops = {.size = sizeof(out_ops),
		.connect = on_connect,
		.pause = on_pause,
		.run = on_run_here};
	struct gm_migrate_in_ops in_ops = {.size = sizeof(in_ops), .load = on_load};
	struct gm_migrate_out_opts out = {.size = sizeof(out)};
	struct gm_migrate_in_opts in = {.size = sizeof(in)};
	struct gm_space *space;
	struct gm_migrate_out *o;
	struct gm_migrate_in *i;

	(void)ctx;
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = UINT64_C(1) << 36), &space, &err));
	assert_fails(gm_migrate_out_create(space, NULL, &out_ops, &o, &err), EINVAL, "save()");
	assert_fails(gm_migrate_in_create(NULL, &in_ops, &i, &err), EINVAL, "prepare()");
	out_ops.save = on_save;
	in_ops.prepare = on_prepare;
	in_ops.run = on_run_there;
	assert_fails(gm_migrate_out_create(space, NULL, &out_ops, &o, &err), ENOENT, "no memory");
	out.bulk_plus = 18;
	assert_fails(gm_migrate_out_create(space, &out, &out_ops, &o, &err), EINVAL, "options");
	out.bulk_plus = 0;
	out.throttle_max = 100;
	assert_fails(gm_migrate_out_create(space, &out, &out_ops, &o, &err), EINVAL, "options");
	in.pages = 1025;
	assert_fails(gm_migrate_in_create(&in, &in_ops, &i, &err), EINVAL, "options");
	gm_space_destroy(space);
	assert_int_equal(gm_migrate_out_destroy(NULL), 0);
	assert_int_equal(gm_migrate_in_destroy(NULL), 0);
	assert_string_equal(gm_migrate_state_name(GM_MIGRATE_IS_GIVEN_UP), "given up");
	assert_string_equal(gm_migrate_state_name(99), "unknown");
}

static void asked_too_early(void **ctx)
{
	struct move *m = begin((struct move_opts){.low = MIB(1)});

	(void)ctx;
	assert_int_equal(gm_migrate_out_paused(m->out, 0), -EINVAL);
	assert_int_equal(gm_migrate_out_state(m->out, "x", 1), -EINVAL);
	assert_int_equal(gm_migrate_out_cancel(m->out, 0), -EINVAL);
	assert_int_equal(gm_migrate_out_resume(m->out), -EINVAL);
	assert_int_equal(gm_migrate_out_reclaim(m->out), -EINVAL);
	assert_int_equal(gm_migrate_out_force(m->out), -EINVAL);
	assert_int_equal(gm_migrate_out_switch(m->out, GM_MIGRATE_OUT_STOP), -EINVAL);
	assert_int_equal(gm_migrate_in_prepared(m->in, m->spaces[0], 0, NULL), -EINVAL);
	assert_int_equal(gm_migrate_in_loaded(m->in, 0, NULL), -EINVAL);
	assert_int_equal(gm_migrate_in_started(m->in, 0), -EINVAL);
	assert_int_equal(gm_migrate_in_give_up(m->in, -EIO), -EINVAL);
	assert_int_equal(gm_migrate_out_step(m->out, 0), 0);
	assert_int_equal(gm_migrate_in_step(m->in, 0), 0);
	assert_ok(gm_migrate_out_start(m->out, &err));
	assert_fails(gm_migrate_out_start(m->out, &err), EINVAL, "begun");
	end(m);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moves_in_rounds),
		cmocka_unit_test(moves_on_demand),
		cmocka_unit_test(by_any_connections),
		cmocka_unit_test(packed),
		cmocka_unit_test(of_any_memory),
		cmocka_unit_test(to_memory_of_another_kind),
		cmocka_unit_test(by_descriptors),
		cmocka_unit_test(a_large_state),
		cmocka_unit_test(rounds_turn_to_demand),
		cmocka_unit_test(wrong_options),
		cmocka_unit_test(asked_too_early),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
