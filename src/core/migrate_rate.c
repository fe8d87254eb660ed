/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_rate.c - see migrate_rate.h. */
#include "core/migrate_rate.h"

#include <errno.h>

#define SECOND UINT64_C(1000000000)
#define PATIENCE 2u /* rounds without hope before the guest is throttled */

static uint64_t sum(uint64_t a, uint64_t b)
{
	uint64_t both;

	return __builtin_add_overflow(a, b, &both) ? UINT64_MAX : both;
}

/* a * b / c, rounded up: of nothing 0, by nothing without end. */
static uint64_t part(uint64_t a, uint64_t b, uint64_t c)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	if (product == 0)
		return 0;
	if (c == 0)
		return UINT64_MAX;
	product = (product - 1) / c + 1;
	return product > UINT64_MAX ? UINT64_MAX : (uint64_t)product;
}

int gm_migrate_rate_init(struct gm_migrate_rate *rate, const struct gm_migrate_rate_policy *policy)
{
	bool throttles = policy->throttle_max != 0;

	if (policy->downtime_ns == 0 || policy->rounds == 0 ||
		policy->rounds > GM_MIGRATE_RATE_ROUNDS_MAX)
		return -EINVAL;
	if (policy->throttle_max > GM_MIGRATE_RATE_THROTTLE_MAX ||
		policy->throttle_first > policy->throttle_max ||
		policy->throttle_step > policy->throttle_max ||
		(throttles && (policy->throttle_first == 0 || policy->throttle_step == 0)))
		return -EINVAL;
	if (policy->at_limit < GM_MIGRATE_RATE_HAND_OVER ||
		policy->at_limit > GM_MIGRATE_RATE_CANCEL)
		return -EINVAL;
	*rate = (struct gm_migrate_rate){.policy = *policy};
	return 0;
}

static void add_sample(struct gm_migrate_rate_samples *samples, uint64_t bytes, uint64_t ns)
{
	samples->rates[samples->nr % GM_MIGRATE_RATE_WINDOW] = part(bytes, SECOND, ns);
	/* Counted no further than it tells where the next one goes. */
	if (++samples->nr == 2 * GM_MIGRATE_RATE_WINDOW)
		samples->nr = GM_MIGRATE_RATE_WINDOW;
}

static uint64_t lower(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t higher(uint64_t a, uint64_t b)
{
	return a < b ? b : a;
}

/*
 * The middle of three. Of two the lower: for what is sent it is the careful one, as a first round of zeros
 * goes fast; for what is dirtied it keeps a burst from counting.
 */
static uint64_t middle(const struct gm_migrate_rate_samples *samples)
{
	const uint64_t *r = samples->rates;

	if (samples->nr == 0)
		return 0;
	if (samples->nr == 1)
		return r[0];
	if (samples->nr == 2)
		return lower(r[0], r[1]);
	return higher(lower(r[0], r[1]), lower(higher(r[0], r[1]), r[2]));
}

uint64_t gm_migrate_rate_sent(const struct gm_migrate_rate *rate)
{
	return middle(&rate->sent);
}

uint64_t gm_migrate_rate_dirtied(const struct gm_migrate_rate *rate)
{
	return middle(&rate->dirtied);
}

static uint64_t time_for(const struct gm_migrate_rate *rate, uint64_t bytes)
{
	return part(bytes, SECOND, gm_migrate_rate_sent(rate));
}

uint64_t gm_migrate_rate_downtime(const struct gm_migrate_rate *rate, uint64_t left)
{
	return sum(time_for(rate, left), rate->policy.switch_ns);
}

static bool is_over(const struct gm_migrate_rate *rate, uint32_t rounds, uint64_t elapsed_ns)
{
	const struct gm_migrate_rate_policy *policy = &rate->policy;

	return rounds >= policy->rounds || (policy->time_ns && elapsed_ns >= policy->time_ns);
}

uint64_t gm_migrate_rate_end(const struct gm_migrate_rate *rate, uint64_t left)
{
	uint64_t dirtied = gm_migrate_rate_dirtied(rate);
	uint32_t rounds = rate->rounds;
	uint64_t ns = 0;

	while (gm_migrate_rate_downtime(rate, left) > rate->policy.downtime_ns) {
		uint64_t round_ns = time_for(rate, left);
		uint64_t next = part(round_ns, dirtied, SECOND);

		/* With these rates it never shrinks again. */
		if (next >= left || is_over(rate, rounds, sum(rate->elapsed_ns, ns)))
			return UINT64_MAX;
		ns = sum(ns, round_ns);
		left = next;
		rounds++;
	}
	return sum(ns, gm_migrate_rate_downtime(rate, left));
}

/* One step more, if there is one and it can help: not when the target is too short without any pages. */
static void throttle(struct gm_migrate_rate *rate)
{
	const struct gm_migrate_rate_policy *policy = &rate->policy;
	uint32_t more = rate->throttle ? policy->throttle_step : policy->throttle_first;
	uint32_t left = policy->throttle_max - rate->throttle;

	if (left == 0 || policy->switch_ns >= policy->downtime_ns)
		return;
	rate->throttle += more < left ? more : left;
	/* It is another guest from here on. */
	rate->dirtied.nr = 0;
	rate->hopeless = 0;
}

struct gm_migrate_rate_verdict gm_migrate_rate_round(
	struct gm_migrate_rate *rate, const struct gm_migrate_rate_round *round)
{
	struct gm_migrate_rate_verdict verdict = {.action = GM_MIGRATE_RATE_ROUND};

	rate->rounds += rate->rounds < GM_MIGRATE_RATE_ROUNDS_MAX;
	rate->elapsed_ns = sum(rate->elapsed_ns, round->ns);
	/* A round of nothing, or in no time, measures nothing. */
	if (round->ns && round->sent)
		add_sample(&rate->sent, round->sent, round->ns);
	if (round->ns)
		add_sample(&rate->dirtied, round->dirtied, round->ns);
	verdict.downtime_ns = gm_migrate_rate_downtime(rate, round->left);
	verdict.end_ns = gm_migrate_rate_end(rate, round->left);
	if (verdict.downtime_ns <= rate->policy.downtime_ns &&
		(round->left == 0 || rate->sent.nr >= 2)) {
		verdict.action = GM_MIGRATE_RATE_HAND_OVER;
	} else if (is_over(rate, rate->rounds, rate->elapsed_ns)) {
		verdict.action = rate->policy.at_limit;
	} else {
		if (verdict.end_ns != UINT64_MAX)
			rate->hopeless = 0;
		else if (rate->hopeless < PATIENCE)
			rate->hopeless++;
		/* Of three rounds at least, or the middle is not one. */
		if (rate->hopeless == PATIENCE && rate->sent.nr >= GM_MIGRATE_RATE_WINDOW)
			throttle(rate);
	}
	if (verdict.action == GM_MIGRATE_RATE_HAND_OVER)
		verdict.end_ns = verdict.downtime_ns;
	else if (verdict.action == GM_MIGRATE_RATE_POSTCOPY)
		verdict.end_ns = rate->policy.switch_ns;
	verdict.throttle = rate->throttle;
	return verdict;
}
