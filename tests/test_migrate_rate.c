/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_rate.c - what is made of the measured rounds of a migration: numbers, and guests that never ran. A guest
 * here is bytes that it dirties in a second, up to a working set; a line is bytes in a second.
 */
#include <errno.h>
#include <string.h>

#include "core/migrate_rate.h"
#include "random.h"
#include "support.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)

struct guest {
	uint64_t memory;
	uint64_t set;     /* bytes that it writes again and again */
	uint64_t dirties; /* in a second, at full speed */
	uint64_t line;
	uint32_t noise;    /* per cent by which the line is slower or faster, each round anew */
	uint32_t odd;      /* a round that is otherwise; 0: none */
	uint32_t odd_line; /* of it: the line's speed, in per cent */
	uint32_t odd_dirties;
};

struct course {
	struct gm_migrate_rate rate;
	struct gm_migrate_rate_verdict verdict;
	uint64_t left;
	uint64_t downtime_ns; /* as it really is if the line is as usual */
	uint64_t elapsed_ns;
	uint64_t before_ns; /* elapsed when the last round began */
	uint32_t rounds;
};

static const struct gm_migrate_rate_policy usual = {.downtime_ns = 300 * MS,
	.switch_ns = 20 * MS,
	.rounds = 40,
	.at_limit = GM_MIGRATE_RATE_CANCEL};

static uint64_t share(uint64_t a, uint64_t b, uint64_t c)
{
	unsigned __int128 whole = (unsigned __int128)a * b / c;

	return whole > UINT64_MAX ? UINT64_MAX : (uint64_t)whole;
}

static void one_round(struct course *c, const struct guest *guest, struct rng *rng)
{
	bool is_odd = guest->odd == c->rounds + 1;
	uint64_t line =
		share(guest->line, 100 - guest->noise + rng_below(rng, 2 * guest->noise + 1), 100);
	uint64_t dirties = share(guest->dirties, 100 - c->verdict.throttle, 100);
	struct gm_migrate_rate_round round = {.sent = c->left};

	if (is_odd) {
		line = share(line, guest->odd_line, 100);
		dirties = share(dirties, guest->odd_dirties, 100);
	}
	round.ns = share(c->left, SECOND, line ? line : 1);
	round.dirtied = share(dirties, round.ns, SECOND);
	if (round.dirtied > guest->set)
		round.dirtied = guest->set;
	round.left = round.dirtied;
	c->before_ns = c->elapsed_ns;
	c->elapsed_ns += round.ns;
	c->left = round.left;
	c->rounds++;
	c->downtime_ns = share(c->left, SECOND, guest->line) + c->rate.policy.switch_ns;
	c->verdict = gm_migrate_rate_round(&c->rate, &round);
}

/* To the end, which it must come to. What holds after each round of any guest is looked at. */
static struct course run(
	const struct guest *guest, const struct gm_migrate_rate_policy *policy, struct rng *rng)
{
	struct course c = {.left = guest->memory};

	assert_int_equal(gm_migrate_rate_init(&c.rate, policy), 0);
	do {
		uint32_t throttle = c.verdict.throttle;

		one_round(&c, guest, rng);
		assert_true(c.rounds <= policy->rounds);
		assert_true(c.verdict.throttle >= throttle);
		assert_true(c.verdict.throttle <= policy->throttle_max);
		if (throttle)
			assert_true(c.verdict.throttle - throttle <= policy->throttle_step);
		else
			assert_true(c.verdict.throttle <= policy->throttle_first);
	} while (c.verdict.action == GM_MIGRATE_RATE_ROUND);
	return c;
}

static bool is_within(const struct course *c)
{
	return c->verdict.action == GM_MIGRATE_RATE_HAND_OVER &&
	       c->verdict.downtime_ns <= c->rate.policy.downtime_ns;
}

static struct gm_migrate_rate measured(uint64_t bytes, uint64_t ns, uint64_t dirtied)
{
	const struct gm_migrate_rate_round round = {
		.ns = ns, .sent = bytes, .dirtied = dirtied, .left = UINT64_MAX};
	struct gm_migrate_rate rate;

	assert_int_equal(gm_migrate_rate_init(&rate, &usual), 0);
	gm_migrate_rate_round(&rate, &round);
	return rate;
}

static void policies_have_bounds(void **state)
{
	static const struct {
		struct gm_migrate_rate_policy policy;
		int rc;
	} cases[] = {
		{{1, 0, 0, 1, 0, 0, 0, GM_MIGRATE_RATE_HAND_OVER}, 0},
		{{UINT64_MAX, UINT64_MAX, UINT64_MAX, 10000, 1, 99, 99, GM_MIGRATE_RATE_CANCEL}, 0},
		{{1, 0, 0, 1, 99, 1, 99, GM_MIGRATE_RATE_POSTCOPY}, 0},
		{{0, 0, 0, 1, 0, 0, 0, GM_MIGRATE_RATE_HAND_OVER}, -EINVAL},
		{{1, 0, 0, 0, 0, 0, 0, GM_MIGRATE_RATE_HAND_OVER}, -EINVAL},
		{{1, 0, 0, 10001, 0, 0, 0, GM_MIGRATE_RATE_HAND_OVER}, -EINVAL},
		{{1, 0, 0, 1, 1, 1, 100, GM_MIGRATE_RATE_HAND_OVER}, -EINVAL},
		{{1, 0, 0, 1, 51, 1, 50, GM_MIGRATE_RATE_HAND_OVER}, -EINVAL},
		{{1, 0, 0, 1, 1, 51, 50, GM_MIGRATE_RATE_HAND_OVER}, -EINVAL},
		{{1, 0, 0, 1, 0, 1, 50, GM_MIGRATE_RATE_HAND_OVER}, -EINVAL},
		{{1, 0, 0, 1, 1, 0, 50, GM_MIGRATE_RATE_HAND_OVER}, -EINVAL},
		{{1, 0, 0, 1, 1, 0, 0, GM_MIGRATE_RATE_HAND_OVER}, -EINVAL},
		{{1, 0, 0, 1, 0, 0, 0, GM_MIGRATE_RATE_ROUND}, -EINVAL},
		{{1, 0, 0, 1, 0, 0, 0, (enum gm_migrate_rate_action)5}, -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct gm_migrate_rate rate = {.elapsed_ns = 77};

		assert_int_equal(gm_migrate_rate_init(&rate, &cases[i].policy), cases[i].rc);
		assert_true(rate.elapsed_ns == (cases[i].rc ? 77 : 0));
	}
}

static void rates_are_those_that_were_measured(void **state)
{
	struct gm_migrate_rate rate = measured(GIB(2), 4 * SECOND, MIB(512));

	(void)state;
	assert_true(gm_migrate_rate_sent(&rate) == MIB(512));
	assert_true(gm_migrate_rate_dirtied(&rate) == MIB(128));
	assert_true(gm_migrate_rate_downtime(&rate, 0) == 20 * MS);
	assert_true(gm_migrate_rate_downtime(&rate, MIB(256)) == 520 * MS);
	/* Of 512 MiB, in 1 s, 128 MiB come of it; they take 250 ms, and the switch 20. */
	assert_true(gm_migrate_rate_end(&rate, MIB(512)) == 1000 * MS + 270 * MS);
	assert_true(gm_migrate_rate_end(&rate, MIB(128)) == 270 * MS);
	assert_true(gm_migrate_rate_end(&rate, GIB(2)) == 5000 * MS + 270 * MS);
	rate = measured(GIB(1), SECOND, GIB(1));
	assert_true(gm_migrate_rate_end(&rate, GIB(1)) == UINT64_MAX);
	assert_true(gm_migrate_rate_end(&rate, MIB(128)) == 145 * MS);
}

static void what_is_too_large_is_the_largest_number(void **state)
{
	struct gm_migrate_rate rate = measured(UINT64_MAX, 1, UINT64_MAX);
	struct gm_migrate_rate_round round = {.ns = UINT64_MAX, .sent = 1, .left = UINT64_MAX};

	(void)state;
	assert_true(gm_migrate_rate_sent(&rate) == UINT64_MAX);
	assert_true(gm_migrate_rate_downtime(&rate, UINT64_MAX) == SECOND + 20 * MS);
	rate = measured(1, UINT64_MAX, 0);
	assert_true(gm_migrate_rate_sent(&rate) == 1);
	assert_true(gm_migrate_rate_downtime(&rate, UINT64_MAX) == UINT64_MAX);
	assert_true(gm_migrate_rate_end(&rate, UINT64_MAX) == UINT64_MAX);
	assert_true(gm_migrate_rate_round(&rate, &round).downtime_ns == UINT64_MAX);
	assert_true(rate.elapsed_ns == UINT64_MAX);
	/* Nothing was measured: of no bytes it is known all the same. */
	rate = measured(0, SECOND, 0);
	assert_true(gm_migrate_rate_sent(&rate) == 0);
	assert_true(gm_migrate_rate_downtime(&rate, 1) == UINT64_MAX);
	assert_true(gm_migrate_rate_downtime(&rate, 0) == 20 * MS);
	rate = measured(1000, 0, 1000);
	assert_true(gm_migrate_rate_sent(&rate) == 0 && gm_migrate_rate_dirtied(&rate) == 0);
}

static void one_odd_round_moves_nothing(void **state)
{
	(void)state;
	for (uint32_t odd = 1; odd <= 12; odd++) {
		struct gm_migrate_rate rate;

		assert_int_equal(gm_migrate_rate_init(&rate, &usual), 0);
		for (uint32_t i = 1; i <= 12; i++) {
			struct gm_migrate_rate_round round = {.ns = SECOND,
				.sent = i == odd ? GIB(100) : GIB(1),
				.dirtied = i == odd ? GIB(100) : MIB(100),
				.left = GIB(64)};

			gm_migrate_rate_round(&rate, &round);
			if (i == 1 && odd == 1)
				continue;
			assert_true(gm_migrate_rate_sent(&rate) == GIB(1));
			assert_true(gm_migrate_rate_dirtied(&rate) == MIB(100));
		}
	}
}

static void what_lasts_is_believed_after_two_rounds(void **state)
{
	struct gm_migrate_rate rate;

	(void)state;
	assert_int_equal(gm_migrate_rate_init(&rate, &usual), 0);
	for (uint32_t i = 1; i <= 12; i++) {
		struct gm_migrate_rate_round round = {
			.ns = SECOND, .sent = i > 6 ? MIB(10) : GIB(1), .left = GIB(64)};

		gm_migrate_rate_round(&rate, &round);
		assert_true(gm_migrate_rate_sent(&rate) == (i > 7 ? MIB(10) : GIB(1)));
	}
}

static struct guest any_guest(struct rng *rng)
{
	uint64_t memory = MIB(64) << rng_below(rng, 11);

	return (struct guest){.memory = memory,
		.set = memory / (1 + rng_below(rng, 8)),
		.line = MIB(50 + rng_below(rng, 5000))};
}

static struct gm_migrate_rate_policy any_policy(struct rng *rng)
{
	struct gm_migrate_rate_policy policy = usual;

	policy.downtime_ns = (50 + rng_below(rng, 500)) * MS;
	policy.switch_ns = rng_below(rng, 25) * MS;
	return policy;
}

/* The line as it was measured is at most 10 per cent off; the promise is kept within 25. */
static void a_steady_guest_gets_the_downtime_that_was_asked_for(void **state)
{
	struct rng rng = {test_seed(103)};

	(void)state;
	for (unsigned long i = 0; i < support_scale(5000); i++) {
		struct gm_migrate_rate_policy policy = any_policy(&rng);
		struct guest guest = any_guest(&rng);
		struct course c = {.left = guest.memory};

		guest.noise = 10;
		guest.dirties = share(guest.line, rng_below(&rng, 60), 100);
		assert_int_equal(gm_migrate_rate_init(&c.rate, &policy), 0);
		do {
			one_round(&c, &guest, &rng);
			/* It was not put off either. */
			if (c.verdict.action == GM_MIGRATE_RATE_ROUND && c.rounds >= 2)
				assert_true(c.downtime_ns > policy.downtime_ns / 4 * 3);
		} while (c.verdict.action == GM_MIGRATE_RATE_ROUND);
		if (!is_within(&c) || c.downtime_ns > policy.downtime_ns / 4 * 5)
			fail_msg("guest %lu: action %d, %llu ns expected, %llu ns", i,
				c.verdict.action, (unsigned long long)c.verdict.downtime_ns,
				(unsigned long long)c.downtime_ns);
		assert_int_equal(c.verdict.throttle, 0);
	}
}

/* A burst, a line that was full, a round of zeros: the guest is not throttled for it, nor the promise broken. */
static void one_odd_round_changes_no_verdict(void **state)
{
	static const uint32_t speeds[] = {2, 20, 100, 500, 5000};
	struct rng rng = {test_seed(107)};
	struct gm_migrate_rate_policy policy = usual;

	(void)state;
	policy.throttle_first = 20;
	policy.throttle_step = 10;
	policy.throttle_max = 90;
	for (unsigned long i = 0; i < support_scale(5000); i++) {
		struct guest guest = any_guest(&rng);
		struct course c;

		guest.noise = 5;
		guest.dirties = share(guest.line, rng_below(&rng, 50), 100);
		guest.odd = 1 + (uint32_t)rng_below(&rng, 8);
		guest.odd_line = speeds[rng_below(&rng, 5)];
		guest.odd_dirties = speeds[rng_below(&rng, 5)];
		c = run(&guest, &policy, &rng);
		assert_true(is_within(&c) && c.downtime_ns <= policy.downtime_ns / 4 * 5);
		assert_int_equal(c.verdict.throttle, 0);
	}
}

static void a_guest_that_is_too_quick_is_slowed_down_until_it_converges(void **state)
{
	struct rng rng = {test_seed(109)};
	unsigned int most = 0;

	(void)state;
	for (unsigned long i = 0; i < support_scale(3000); i++) {
		struct gm_migrate_rate_policy policy = any_policy(&rng);
		struct guest guest = any_guest(&rng);
		struct course c;

		policy.rounds = 200;
		policy.throttle_first = 1 + (uint32_t)rng_below(&rng, 30);
		policy.throttle_step = 5 + (uint32_t)rng_below(&rng, 20);
		policy.throttle_max = 99;
		/* Too much to be sent at once, however often it is written. */
		guest.set = share(guest.line, 2 * policy.downtime_ns, SECOND) +
			    rng_below(&rng, guest.memory);
		guest.memory += guest.set;
		guest.dirties = share(guest.line, 110 + rng_below(&rng, 2000), 100);
		c = run(&guest, &policy, &rng);
		assert_true(is_within(&c) && c.downtime_ns <= policy.downtime_ns / 4 * 5);
		assert_true(c.verdict.throttle != 0);
		most = c.verdict.throttle > most ? c.verdict.throttle : most;
	}
	assert_true(most > 50);
}

/* Quick from the fourth round on: it takes two for the middle, and two for each step. */
static void each_step_of_the_throttle_gets_two_rounds(void **state)
{
	static const uint32_t expected[] = {0, 0, 0, 0, 0, 20, 20, 30, 30, 35, 35, 35};
	struct gm_migrate_rate_policy policy = usual;
	struct gm_migrate_rate_round round = {.ns = SECOND, .sent = GIB(1), .left = GIB(4)};
	struct gm_migrate_rate rate;

	(void)state;
	policy.throttle_first = 20;
	policy.throttle_step = 10;
	policy.throttle_max = 35;
	assert_int_equal(gm_migrate_rate_init(&rate, &policy), 0);
	for (uint32_t r = 1; r <= sizeof(expected) / sizeof(expected[0]); r++) {
		round.dirtied = r > 3 ? GIB(2) : MIB(1);
		assert_int_equal(gm_migrate_rate_round(&rate, &round).throttle, expected[r - 1]);
	}
	/* What was measured of the guest before it was throttled does not count. */
	assert_int_equal(gm_migrate_rate_init(&rate, &policy), 0);
	round.dirtied = GIB(8);
	for (uint32_t r = 1; r <= 3; r++)
		gm_migrate_rate_round(&rate, &round);
	assert_int_equal(rate.throttle, 20);
	round.dirtied = MIB(64);
	gm_migrate_rate_round(&rate, &round);
	assert_true(gm_migrate_rate_dirtied(&rate) == MIB(64));
}

static void a_round_of_nothing_says_nothing_of_the_line(void **state)
{
	struct gm_migrate_rate rate = measured(GIB(1), SECOND, MIB(1));
	struct gm_migrate_rate_round nothing = {.ns = SECOND, .dirtied = MIB(2), .left = GIB(4)};

	(void)state;
	gm_migrate_rate_round(&rate, &nothing);
	assert_true(gm_migrate_rate_sent(&rate) == GIB(1));
	assert_int_equal(rate.rounds, 2);
}

static void the_target_itself_is_within_it(void **state)
{
	struct gm_migrate_rate_round round = {.ns = SECOND, .sent = 1000000000, .left = 280000001};
	struct gm_migrate_rate rate;

	(void)state;
	assert_int_equal(gm_migrate_rate_init(&rate, &usual), 0);
	gm_migrate_rate_round(&rate, &round);
	assert_int_equal(gm_migrate_rate_round(&rate, &round).action, GM_MIGRATE_RATE_ROUND);
	round.left--;
	assert_int_equal(gm_migrate_rate_round(&rate, &round).action, GM_MIGRATE_RATE_HAND_OVER);
}

static void no_throttle_helps_a_target_that_is_too_short(void **state)
{
	struct gm_migrate_rate_policy policy = usual;
	struct guest guest = {.memory = GIB(8), .set = GIB(4), .dirties = GIB(2), .line = GIB(1)};
	struct rng rng = {1};
	struct course c;

	(void)state;
	policy.throttle_first = policy.throttle_step = 10;
	policy.throttle_max = 99;
	policy.switch_ns = policy.downtime_ns + 1;
	c = run(&guest, &policy, &rng);
	assert_int_equal(c.verdict.action, GM_MIGRATE_RATE_CANCEL);
	assert_int_equal(c.verdict.throttle, 0);
	/* One that is longer by a little is reached. */
	policy.switch_ns = policy.downtime_ns - 50 * MS;
	policy.rounds = 100;
	c = run(&guest, &policy, &rng);
	assert_true(is_within(&c) && c.verdict.throttle > 50);
}

static void limits_end_it_as_the_policy_says(void **state)
{
	struct guest guest = {.memory = GIB(8), .set = GIB(4), .dirties = GIB(2), .line = GIB(1)};
	struct rng rng = {1};

	(void)state;
	for (int a = GM_MIGRATE_RATE_HAND_OVER; a <= GM_MIGRATE_RATE_CANCEL; a++) {
		struct gm_migrate_rate_policy policy = usual;
		struct course c;

		policy.at_limit = (enum gm_migrate_rate_action)a;
		for (policy.rounds = 1; policy.rounds <= 30; policy.rounds++) {
			c = run(&guest, &policy, &rng);
			assert_int_equal(c.rounds, policy.rounds);
			assert_int_equal(c.verdict.action, a);
			assert_true(c.verdict.downtime_ns == 4 * SECOND + 20 * MS);
			assert_true(c.verdict.end_ns == (a == GM_MIGRATE_RATE_CANCEL ? UINT64_MAX
								: a == GM_MIGRATE_RATE_POSTCOPY
									? 20 * MS
									: 4 * SECOND + 20 * MS));
		}
		/* 8 s, then 4 s each. */
		policy.rounds = 40;
		policy.time_ns = 16 * SECOND + 1;
		c = run(&guest, &policy, &rng);
		assert_int_equal(c.rounds, 4);
		assert_int_equal(c.verdict.action, a);
		policy.time_ns = 16 * SECOND;
		c = run(&guest, &policy, &rng);
		assert_int_equal(c.rounds, 3);
	}
}

static void a_guest_that_rests_is_handed_over_at_once(void **state)
{
	struct guest guest = {.memory = GIB(1), .set = GIB(1), .line = GIB(1)};
	struct gm_migrate_rate_policy policy = usual;
	struct rng rng = {1};
	struct course c = run(&guest, &policy, &rng);

	(void)state;
	assert_true(is_within(&c) && c.rounds == 1 && c.verdict.end_ns == 20 * MS);
	/* But one round alone is not believed: of zeros it is quick. */
	guest.dirties = MIB(1);
	c = run(&guest, &policy, &rng);
	assert_true(is_within(&c) && c.rounds == 2);
}

static void bursts_end_within_the_rounds(void **state)
{
	struct rng rng = {test_seed(113)};
	unsigned int ends[5] = {0};

	(void)state;
	for (unsigned long i = 0; i < support_scale(3000); i++) {
		struct gm_migrate_rate_policy policy = any_policy(&rng);
		struct guest guest = any_guest(&rng);
		struct course c = {.left = guest.memory};

		policy.rounds = 1 + (uint32_t)rng_below(&rng, 60);
		policy.time_ns = rng_below(&rng, 2) ? rng_below(&rng, 200 * SECOND) : 0;
		policy.at_limit = (enum gm_migrate_rate_action)(2 + rng_below(&rng, 3));
		if (rng_below(&rng, 2)) {
			policy.throttle_first = policy.throttle_step = 10;
			policy.throttle_max = 80;
		}
		guest.noise = 90;
		assert_int_equal(gm_migrate_rate_init(&c.rate, &policy), 0);
		do {
			guest.dirties = rng_below(&rng, 4) ? guest.line / 20 : 10 * guest.line;
			one_round(&c, &guest, &rng);
			assert_true(c.rounds <= policy.rounds && c.verdict.throttle <= 80);
			assert_true(!policy.time_ns || c.before_ns < policy.time_ns);
			/* What is said of the end is not before the downtime's. */
			if (c.verdict.action == GM_MIGRATE_RATE_ROUND)
				assert_true(c.verdict.end_ns >= policy.switch_ns);
		} while (c.verdict.action == GM_MIGRATE_RATE_ROUND);
		ends[c.verdict.action]++;
		assert_true(is_within(&c) || c.verdict.action == policy.at_limit);
		assert_true(is_within(&c) || c.rounds == policy.rounds ||
			    (policy.time_ns && c.elapsed_ns >= policy.time_ns));
	}
	assert_true(ends[GM_MIGRATE_RATE_HAND_OVER] > ends[GM_MIGRATE_RATE_CANCEL]);
	assert_true(ends[GM_MIGRATE_RATE_POSTCOPY] && ends[GM_MIGRATE_RATE_CANCEL]);
}

/* Whatever is told: bounds hold, and more bytes never take less time. */
static void no_numbers_break_it(void **state)
{
	struct rng rng = {test_seed(127)};

	(void)state;
	for (unsigned long i = 0; i < support_scale(3000); i++) {
		struct gm_migrate_rate_policy policy = usual;
		struct gm_migrate_rate rate;

		policy.downtime_ns = rng_edge(&rng) | 1;
		policy.switch_ns = rng_edge(&rng);
		policy.time_ns = rng_edge(&rng);
		policy.rounds = 1 + (uint32_t)rng_below(&rng, 50);
		policy.throttle_first = policy.throttle_step = policy.throttle_max = 99;
		assert_int_equal(gm_migrate_rate_init(&rate, &policy), 0);
		for (uint32_t r = 1; r <= 60; r++) {
			const struct gm_migrate_rate_round round = {.ns = rng_edge(&rng),
				.sent = rng_edge(&rng),
				.dirtied = rng_edge(&rng),
				.left = rng_edge(&rng)};
			struct gm_migrate_rate_verdict v = gm_migrate_rate_round(&rate, &round);
			uint64_t more = round.left | rng_next(&rng);

			assert_in_range(v.action, GM_MIGRATE_RATE_ROUND, GM_MIGRATE_RATE_CANCEL);
			assert_true(r < policy.rounds || v.action != GM_MIGRATE_RATE_ROUND);
			assert_true(v.throttle == 0 || v.throttle == 99);
			assert_true(v.downtime_ns >= policy.switch_ns);
			assert_true(gm_migrate_rate_downtime(&rate, more) >= v.downtime_ns);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(policies_have_bounds),
		cmocka_unit_test(rates_are_those_that_were_measured),
		cmocka_unit_test(what_is_too_large_is_the_largest_number),
		cmocka_unit_test(one_odd_round_moves_nothing),
		cmocka_unit_test(what_lasts_is_believed_after_two_rounds),
		cmocka_unit_test(a_steady_guest_gets_the_downtime_that_was_asked_for),
		cmocka_unit_test(one_odd_round_changes_no_verdict),
		cmocka_unit_test(a_guest_that_is_too_quick_is_slowed_down_until_it_converges),
		cmocka_unit_test(each_step_of_the_throttle_gets_two_rounds),
		cmocka_unit_test(a_round_of_nothing_says_nothing_of_the_line),
		cmocka_unit_test(the_target_itself_is_within_it),
		cmocka_unit_test(no_throttle_helps_a_target_that_is_too_short),
		cmocka_unit_test(limits_end_it_as_the_policy_says),
		cmocka_unit_test(a_guest_that_rests_is_handed_over_at_once),
		cmocka_unit_test(bursts_end_within_the_rounds),
		cmocka_unit_test(no_numbers_break_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
