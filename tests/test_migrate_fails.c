/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_fails.c - what becomes of a guest that somebody does not want, or cannot have, or whose line is cut:
 * before it is handed over, and after it.
 */
#include "one_migration.h"

#include <guestmem/guard.h>

/* ---- what goes wrong before it is handed over ---- */

/* The guest has stayed where it was, and goes on there. */
static void check_stayed(struct move *m, uint32_t state)
{
	struct gm_migrate_stats out = {.size = sizeof(out)};
	uint64_t writes = m->writes[0];
	uint64_t until = seconds_now() + SECONDS;

	if (!until_told(m, 0, GM_MIGRATE_TOLD_FAILED, 1))
		fail_msg("it does not fail");
	assert_int_equal(gm_migrate_out_stats(m->out, &out), 0);
	assert_int_equal(out.state, state);
	while (m->writes[0] < writes + 100 && !m->wrong && seconds_now() < until)
		sched_yield();
	assert_int_equal(m->where, AT_SOURCE);
	assert_int_equal(m->writes[1], 0);
	check_memory(m, 0);
	end(m);
}

static void until_round(struct move *m, uint32_t round)
{
	if (!until_told(m, 0, GM_MIGRATE_TOLD_ROUND, round))
		fail_msg("no round ends");
}

static struct move_opts endless(void)
{
	return (struct move_opts){.low = MIB(2),
		.high = MIB(2),
		.out.way = GM_MIGRATE_OUT_PRECOPY,
		.out.rate = MIB(8),
		.out.downtime_ms = 1,
		.out.rounds = 1000};
}

static void cancelled(void **ctx)
{
	struct move *m = begin(endless());

	(void)ctx;
	go(m);
	until_round(m, 2);
	assert_int_equal(gm_migrate_out_cancel(m->out, -ECANCELED), 0);
	assert_true(until_told(m, 1, GM_MIGRATE_TOLD_FAILED, 1));
	assert_int_equal(m->states[1], GM_MIGRATE_IS_CANCELLED);
	assert_int_equal(m->codes[1], -ECANCELED);
	check_stayed(m, GM_MIGRATE_IS_CANCELLED);
}

static void rounds_end_in_nothing(void **ctx)
{
	struct move_opts o = endless();
	struct move *m;

	(void)ctx;
	o.out.rounds = 3;
	m = begin(o);
	go(m);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_FAILED, 1));
	assert_int_equal(m->codes[0], -ETIME);
	check_stayed(m, GM_MIGRATE_IS_CANCELLED);
}

static void nobody_connects(void **ctx)
{
	struct move *m = begin(endless());

	(void)ctx;
	m->refuse = true;
	go(m);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_FAILED, 1));
	assert_int_equal(m->codes[0], -ECONNREFUSED);
	check_stayed(m, GM_MIGRATE_IS_FAILED);
}

static void the_line_is_cut_in_a_round(void **ctx)
{
	struct move *m = begin(endless());

	(void)ctx;
	go(m);
	until_round(m, 1);
	assert_int_equal(shutdown(m->pairs[1], SHUT_RDWR), 0);
	assert_true(until_told(m, 1, GM_MIGRATE_TOLD_FAILED, 1));
	/* By control, if that was quicker. */
	assert_true(
		m->states[1] == GM_MIGRATE_IS_FAILED || m->states[1] == GM_MIGRATE_IS_CANCELLED);
	check_stayed(m, GM_MIGRATE_IS_FAILED);
}

/* What is no message is answered by a reason, not by the end of the line. */
static void what_cannot_be_is_refused(void **ctx)
{
	static const uint8_t junk[64] = {0xff, 0xff, 0xff, 0xff};
	struct gm_migrate_stats out = {.size = sizeof(out)};
	struct move *m = begin(endless());

	(void)ctx;
	go(m);
	until_round(m, 1);
	assert_int_equal(send(m->pairs[0], junk, sizeof(junk), MSG_NOSIGNAL), sizeof(junk));
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_FAILED, 1));
	assert_true(until_told(m, 1, GM_MIGRATE_TOLD_FAILED, 1));
	assert_int_equal(gm_migrate_out_stats(m->out, &out), 0);
	assert_int_equal(out.rc, -EPROTO);
	assert_non_null(strstr(out.why, "message"));
	check_stayed(m, GM_MIGRATE_IS_FAILED);
}

static void refused_by(struct move *m, int rc, const char *word)
{
	struct gm_migrate_stats out = {.size = sizeof(out)};

	go(m);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_FAILED, 1));
	assert_int_equal(gm_migrate_out_stats(m->out, &out), 0);
	assert_int_equal(out.rc, rc);
	if (!strstr(out.why, word))
		fail_msg("\"%s\" does not say \"%s\"", out.why, word);
	check_stayed(m, GM_MIGRATE_IS_FAILED);
}

static void the_destination_has_no_memory(void **ctx)
{
	struct move_opts o = endless();
	struct move *m = begin(o);

	(void)ctx;
	m->prepare_rc = -ENOMEM;
	refused_by(m, -ENOMEM, "the test has no memory");
	o.in.memory_max = MIB(3);
	refused_by(begin(o), -E2BIG, "more memory");
}

static void the_destination_has_larger_pages(void **ctx)
{
	struct move_opts o = endless();
	const enum kind kinds[] = {KIND_ANON, KIND_THP};

	(void)ctx;
	assert_true(support_pool(21, 4));
	o.to = KIND_HUGE_ANON;
	for (uint32_t i = 0; i < 2; i++) {
		o.kind = kinds[i];
		refused_by(begin(o), -ENOTSUP, "larger than the source's");
	}
}

static void the_destination_does_not_load(void **ctx)
{
	struct move_opts o = endless();
	struct move *m;

	(void)ctx;
	o.out.way = GM_MIGRATE_OUT_STOP;
	o.out.rounds = 1;
	m = begin(o);
	m->load_rc = -EILSEQ;
	refused_by(m, -EILSEQ, "does not load");
	o.in.state_max = 4;
	refused_by(begin(o), -E2BIG, "state");
	o.in.state_max = 0;
	o.in.flags = GM_MIGRATE_IN_NO_POSTCOPY;
	o.out.way = GM_MIGRATE_OUT_POSTCOPY;
	m = begin(o);
	go(m);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_FAILED, 1));
	assert_int_equal(m->codes[0], -ENOTSUP);
	check_stayed(m, GM_MIGRATE_IS_CANCELLED);
}

static void it_does_not_start_there(void **ctx)
{
	struct move_opts o = endless();
	struct move *m;

	(void)ctx;
	o.out.way = GM_MIGRATE_OUT_STOP;
	o.out.rounds = 1;
	m = begin(o);
	m->start_rc = -ENODEV;
	go(m);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_FAILED, 1));
	assert_int_equal(m->codes[0], -ENODEV);
	assert_int_equal(m->runs_here, 1);
	check_stayed(m, GM_MIGRATE_IS_RECLAIMED);
}

/* ---- and after it ---- */

static void cut_all(struct move *m)
{
	for (uint32_t i = 0; i < m->nr_pairs; i++)
		(void)shutdown(m->pairs[i], SHUT_RDWR);
}

/* What either end knows of the guest, and whether the destination still answers. */
static void check_known(struct move *m, uint32_t out_runs, uint32_t in_runs, uint32_t answers)
{
	struct gm_migrate_stats out = {.size = sizeof(out)};
	struct gm_migrate_stats in = {.size = sizeof(in)};

	assert_int_equal(gm_migrate_out_stats(m->out, &out), 0);
	assert_int_equal(gm_migrate_in_stats(m->in, &in), 0);
	assert_int_equal(out.runs, out_runs);
	assert_int_equal(in.runs, in_runs);
	assert_int_equal(in.answers, answers);
}

/* Long before its deadline, which is 10 s. */
static bool until_answered(struct move *m)
{
	struct gm_migrate_stats in = {.size = sizeof(in), .answers = 1};
	uint64_t end = seconds_now() + 8;

	while (in.answers && seconds_now() < end) {
		assert_int_equal(gm_migrate_in_stats(m->in, &in), 0);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	return !in.answers;
}

static struct move_opts slow_demand(void)
{
	return (struct move_opts){.low = MIB(2),
		.high = MIB(6),
		.out.way = GM_MIGRATE_OUT_POSTCOPY,
		.slow = true,
		.out.rate = MIB(8)};
}

/* It runs there, and some pages have come. */
static struct move *in_postcopy(struct move_opts o)
{
	struct move *m = begin(o);
	uint64_t until = seconds_now() + SECONDS;

	go(m);
	while (m->writes[1] < 20 && !m->wrong && seconds_now() < until)
		sched_yield();
	assert_true(m->writes[1] >= 20);
	return m;
}

static void cut_and_resumed(void **ctx)
{
	struct move_opts o = slow_demand();
	struct gm_migrate_stats in = {.size = sizeof(in)};
	struct move *m;

	(void)ctx;
	for (uint32_t round = 0; round < 4; round++) {
		o.kind = round & 1 ? KIND_MEMFD : KIND_ANON;
		o.out.bulk_plus = 1 + round;
		m = in_postcopy(o);
		for (uint32_t i = 1; i <= 3; i++) {
			cut_all(m);
			assert_true(until_told(m, 0, GM_MIGRATE_TOLD_LOST, i));
			assert_true(until_told(m, 1, GM_MIGRATE_TOLD_LOST, i));
			assert_int_equal(gm_migrate_out_destroy(m->out), -EBUSY);
			assert_int_equal(gm_migrate_in_destroy(m->in), -EBUSY);
			assert_int_equal(gm_migrate_out_cancel(m->out, 0), -EINVAL);
			assert_int_equal(gm_migrate_out_resume(m->out), 0);
			assert_true(until_state(m, 0, GM_MIGRATE_IS_POSTCOPY));
			assert_true(until_state(m, 1, GM_MIGRATE_IS_POSTCOPY));
		}
		assert_true(until_told(m, 0, GM_MIGRATE_TOLD_ENDED, 1));
		assert_int_equal(gm_migrate_in_stats(m->in, &in), 0);
		assert_int_equal(in.epoch, 4);
		assert_int_equal(in.left, 0);
		assert_int_equal(m->runs_here, 0);
		check_memory(m, 1);
		end(m);
	}
}

/* It runs there: it cannot be had back, and the pages that are missing are named. */
static void given_up(void **ctx)
{
	struct move *m = in_postcopy(slow_demand());
	struct gm_migrate_stats in = {.size = sizeof(in)};
	uint64_t first;
	uint64_t last;
	uint64_t pages = 0;

	(void)ctx;
	m->quit = true;
	pthread_join(m->guest, NULL);
	m->guest = 0;
	cut_all(m);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_LOST, 1));
	assert_true(until_told(m, 1, GM_MIGRATE_TOLD_LOST, 1));
	assert_int_equal(gm_migrate_in_give_up(m->in, -EIO), 0);
	assert_true(until_told(m, 1, GM_MIGRATE_TOLD_FAILED, 1));
	assert_int_equal(gm_migrate_in_stats(m->in, &in), 0);
	assert_int_equal(in.state, GM_MIGRATE_IS_GIVEN_UP);
	check_known(m, GM_MIGRATE_RUNS_YES, GM_MIGRATE_RUNS_YES, 1);
	assert_true(m->pages_lost > 0);
	assert_int_equal(in.lost, m->pages_lost * PAGE);
	for (uint64_t at = 0; gm_migrate_in_lost(m->in, at, &first, &last) == 0; at = last + 1) {
		assert_true(first >= at && last > first);
		pages += (last - first + 1) / PAGE;
	}
	assert_int_equal(pages, m->pages_lost);
	/* Each page is right, or poisoned: never zeros. */
	assert_int_equal(gm_guard_install(), 0);
	for (uint64_t page = 0; page < m->pages; page++) {
		const struct gm_view *view = gm_reader_enter(m->readers[1]);
		uint64_t gpa = gpa_of(m, page) + page % 500 * 8;
		uint64_t value = 0;
		int rc = gm_read_u64(view, gpa, &value);
		bool lost = gm_migrate_in_lost(m->in, gpa, &first, &last) == 0 && first <= gpa;

		gm_reader_leave(m->readers[1]);
		if (rc ? !lost : lost || value != word_of(page, m->truth[page]))
			fail_msg("page %" PRIu64 ": %d", page, rc);
	}
	assert_int_equal(gm_guard_remove(), 0);
	/* Who asks is told. */
	assert_int_equal(gm_migrate_out_resume(m->out), 0);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_FAILED, 1));
	assert_int_equal(m->states[0], GM_MIGRATE_IS_GIVEN_UP);
	assert_true(until_answered(m));
	check_known(m, GM_MIGRATE_RUNS_YES, GM_MIGRATE_RUNS_YES, 0);
	end(m);
}

/* RUN is lost on its way: nobody knows, until the destination is asked. */
static void lose_run(struct move *m)
{
	uint64_t until = seconds_now() + SECONDS;
	uint8_t away[64];

	/* In the thread that steps the destination: it reads nothing meanwhile. */
	while (m->states[0] != GM_MIGRATE_IS_HANDED && seconds_now() < until)
		sched_yield();
	while (recv(m->peers[0], away, sizeof(away), MSG_DONTWAIT) > 0)
		;
	cut_all(m);
}

static void reclaimed(void **ctx)
{
	struct move *m = begin(slow_demand());
	struct gm_migrate_stats out = {.size = sizeof(out)};

	(void)ctx;
	m->at_handed = lose_run;
	go(m);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_LOST, 1));
	assert_int_equal(m->where, NOWHERE);
	check_known(m, GM_MIGRATE_RUNS_MAY, GM_MIGRATE_RUNS_NO, 0);
	assert_int_equal(gm_migrate_out_stats(m->out, &out), 0);
	assert_true(out.rc < 0);
	assert_int_equal(gm_migrate_out_reclaim(m->out), 0);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_FAILED, 1));
	assert_true(until_told(m, 1, GM_MIGRATE_TOLD_FAILED, 1));
	assert_int_equal(gm_migrate_out_stats(m->out, &out), 0);
	assert_int_equal(out.epoch, 2);
	/* Of the end, not of the line that was lost before. */
	assert_int_equal(out.rc, 0);
	assert_string_equal(out.why, "the destination has given the guest back");
	assert_true(until_answered(m));
	check_known(m, GM_MIGRATE_RUNS_NO, GM_MIGRATE_RUNS_NO, 0);
	check_stayed(m, GM_MIGRATE_IS_RECLAIMED);
}

/* The destination is told that nobody waits: it says so to whoever asks. */
static void it_was_given_up_meanwhile(void **ctx)
{
	struct move *m = begin(slow_demand());

	(void)ctx;
	m->at_handed = lose_run;
	go(m);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_LOST, 1));
	assert_true(until_told(m, 1, GM_MIGRATE_TOLD_LOST, 1));
	assert_int_equal(gm_migrate_in_give_up(m->in, -EIO), 0);
	assert_true(until_told(m, 1, GM_MIGRATE_TOLD_FAILED, 1));
	check_known(m, GM_MIGRATE_RUNS_MAY, GM_MIGRATE_RUNS_NO, 1);
	assert_int_equal(gm_migrate_out_resume(m->out), 0);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_FAILED, 1));
	assert_true(until_answered(m));
	check_known(m, GM_MIGRATE_RUNS_NO, GM_MIGRATE_RUNS_NO, 0);
	check_stayed(m, GM_MIGRATE_IS_RECLAIMED);
}

/* The same, but it is not asked for: RUN is said again. */
static void run_is_said_again(void **ctx)
{
	struct move *m = begin(slow_demand());

	(void)ctx;
	m->at_handed = lose_run;
	go(m);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_LOST, 1));
	assert_int_equal(m->where, NOWHERE);
	assert_int_equal(gm_migrate_out_resume(m->out), 0);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_ENDED, 1));
	assert_true(until_told(m, 1, GM_MIGRATE_TOLD_ENDED, 1));
	assert_true(until_answered(m));
	check_known(m, GM_MIGRATE_RUNS_YES, GM_MIGRATE_RUNS_YES, 0);
	assert_int_equal(m->runs_here, 0);
	check_memory(m, 1);
	end(m);
}

static void forced(void **ctx)
{
	struct move *m = in_postcopy(slow_demand());
	struct gm_migrate_stats out = {.size = sizeof(out)};

	(void)ctx;
	m->quit = true;
	pthread_join(m->guest, NULL);
	m->guest = 0;
	/* A destination that answers is not dead. */
	assert_int_equal(gm_migrate_out_force(m->out), -EINVAL);
	cut_all(m);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_LOST, 1));
	assert_int_equal(gm_migrate_out_reclaim(m->out), -EINVAL);
	assert_int_equal(gm_migrate_out_force(m->out), 0);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_FAILED, 1));
	assert_int_equal(gm_migrate_out_stats(m->out, &out), 0);
	assert_int_equal(out.state, GM_MIGRATE_IS_RECLAIMED);
	assert_int_equal(m->runs_here, 1);
	assert_int_equal(gm_migrate_in_give_up(m->in, -EIO), 0);
	assert_true(until_told(m, 1, GM_MIGRATE_TOLD_FAILED, 1));
	end(m);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cancelled),
		cmocka_unit_test(rounds_end_in_nothing),
		cmocka_unit_test(nobody_connects),
		cmocka_unit_test(the_line_is_cut_in_a_round),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(the_destination_has_no_memory),
		cmocka_unit_test(the_destination_has_larger_pages),
		cmocka_unit_test(the_destination_does_not_load),
		cmocka_unit_test(it_does_not_start_there),
		cmocka_unit_test(cut_and_resumed),
		cmocka_unit_test(given_up),
		cmocka_unit_test(reclaimed),
		cmocka_unit_test(it_was_given_up_meanwhile),
		cmocka_unit_test(run_is_said_again),
		cmocka_unit_test(forced),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
