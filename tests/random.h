/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * random.h - repeatable randomness for tests.
 *
 * GM_TEST_SEED takes the place of a test's own seed, so that a failure which printed its seed can
 * be run again.
 */
#ifndef GM_TESTS_RANDOM_H
#define GM_TESTS_RANDOM_H

#include <stdint.h>
#include <stdlib.h>

struct rng {
	uint64_t state;
};

/* A seed for each number; with GM_TEST_SEED in the environment others, by it. */
static inline uint64_t test_seed(uint64_t usual)
{
	const char *text = getenv("GM_TEST_SEED");

	return text ? strtoull(text, NULL, 0) * 0x9e3779b97f4a7c15u + usual : usual;
}

/* splitmix64 */
static inline uint64_t rng_next(struct rng *rng)
{
	uint64_t z = (rng->state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* 0 to n - 1 */
static inline uint64_t rng_below(struct rng *rng, uint64_t n)
{
	return rng_next(rng) % n;
}

/* A number that is likely to lie at an edge: near 0, near a power of two, near 2^64, or anywhere.
 */
static inline uint64_t rng_edge(struct rng *rng)
{
	uint64_t near = rng_below(rng, 5) - 2;

	switch (rng_below(rng, 4)) {
	case 0:
		return near;
	case 1:
		return (UINT64_C(1) << rng_below(rng, 64)) + near;
	case 2:
		return rng_next(rng) >> rng_below(rng, 64);
	default:
		return rng_next(rng);
	}
}

#endif
