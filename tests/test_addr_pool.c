/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_addr_pool.c - giving out addresses.
 *
 * Named cases for the edges and refusals; long random runs against a plain array of states; every
 * allocation made to fail.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fault.h"
#include "random.h"
#include "support.h"

#define TOP UINT64_MAX
#define REQ(...) (&(struct gm_addr_request){.size = sizeof(struct gm_addr_request), __VA_ARGS__})
#define RANGE(a, b) (&(struct gm_addr_range){(a), (b)})

static struct gm_error err;

static struct gm_addr_pool *make_pool(uint64_t first, uint64_t last)
{
	struct gm_addr_pool *pool;

	assert_ok(gm_addr_pool_create(RANGE(first, last), &pool, &err));
	return pool;
}

static void must_be(const struct gm_addr_pool *pool, uint64_t addr, uint64_t first, uint64_t last,
	uint32_t state)
{
	struct gm_addr_info info = {.size = sizeof(info)};

	assert_int_equal(gm_addr_pool_at(pool, addr, &info), 0);
	if (info.range.first != first || info.range.last != last || info.state != state)
		fail_msg("at %#lx: [%#lx, %#lx] is %u, not [%#lx, %#lx] %u", addr, info.range.first,
			info.range.last, info.state, first, last, state);
}

/* ---- named cases ---- */

/* In [0x1000, 0xffff] with [0x4000, 0x4fff] and [0x9000, 0xbfff] taken. */
static const struct {
	const char *name;
	struct gm_addr_request req;
	int code;
	uint64_t first;
} cases[] = {
	{"the lowest", {.len = 0x1000}, 0, 0x1000},
	{"the highest", {.len = 0x1000, .policy = GM_ADDR_HIGHEST}, 0, 0xf000},
	{"the lowest that is long enough", {.len = 0x3001}, 0, 0x5000},
	{"as long as the room", {.len = 0x4000}, 0, 0x5000},
	{"a byte longer than all", {.len = 0x4001}, ENOSPC, 0x5000},
	{"the lowest that is aligned", {.len = 0x1000, .align = 0x2000}, 0, 0x2000},
	{"the highest that is aligned", {.len = 0x1000, .align = 0x2000, .policy = GM_ADDR_HIGHEST},
		0, 0xe000},
	{"none is aligned", {.len = 0x3000, .align = 0x4000}, 0, 0xc000},
	{"long enough but not aligned", {.len = 0x4000, .align = 0x8000}, ENOSPC, 0x5000},
	{"above a minimum", {.len = 0x1000, .min = 0x3001}, 0, 0x5000},
	{"from a minimum on", {.len = 0x1000, .min = 0x3000}, 0, 0x3000},
	{"below a maximum", {.len = 0x1000, .max = 0x8ffe, .policy = GM_ADDR_HIGHEST}, 0, 0x7fff},
	{"up to a maximum", {.len = 0x1000, .max = 0x8fff, .policy = GM_ADDR_HIGHEST}, 0, 0x8000},
	{"a window that is taken", {.len = 1, .min = 0x9000, .max = 0xbfff}, ENOSPC, 0x9000},
	{"a window that is too small", {.len = 2, .min = 0x5000, .max = 0x5000}, ENOSPC, 0x5000},
	{"limits wider than the pool", {.len = 0x1000, .max = TOP}, 0, 0x1000},
	{"exactly there", {.len = 0x1000, .at = 0x8000, .policy = GM_ADDR_EXACT}, 0, 0x8000},
	{"exactly the room", {.len = 0x4000, .at = 0x5000, .policy = GM_ADDR_EXACT}, 0, 0x5000},
	{"a byte into what is taken", {.len = 0x4001, .at = 0x5000, .policy = GM_ADDR_EXACT},
		EEXIST, 0x9000},
	{"from what is taken", {.len = 1, .at = 0x4fff, .policy = GM_ADDR_EXACT}, EEXIST, 0x4fff},
	{"across what is taken", {.len = 0x8000, .at = 0x1000, .policy = GM_ADDR_EXACT}, EEXIST,
		0x4000},
	{"exactly past the pool", {.len = 0x1001, .at = 0xf000, .policy = GM_ADDR_EXACT}, ERANGE,
		0xf000},
	{"exactly before the pool", {.len = 1, .at = 0xfff, .policy = GM_ADDR_EXACT}, ERANGE,
		0xfff},
	{"exactly past 2^64", {.len = 2, .at = TOP, .policy = GM_ADDR_EXACT}, ERANGE, TOP},
	{"exactly below the minimum",
		{.len = 1, .at = 0x1000, .min = 0x1001, .policy = GM_ADDR_EXACT}, ERANGE, 0x1000},
	{"exactly above the maximum",
		{.len = 2, .at = 0x1000, .max = 0x1000, .policy = GM_ADDR_EXACT}, ERANGE, 0x1000},
	{"exactly, not aligned", {.len = 1, .at = 0x1001, .align = 2, .policy = GM_ADDR_EXACT},
		EINVAL, 0x1001},
	{"nothing", {.len = 0}, EINVAL, 0},
	{"no power of two", {.len = 1, .align = 3}, EINVAL, 0},
	{"a minimum above the maximum", {.len = 1, .min = 0x3000, .max = 0x2fff}, EINVAL, 0x3000},
	{"an unknown policy", {.len = 1, .policy = 3}, EINVAL, 0},
	{"an address without the policy", {.len = 1, .at = 0x2000}, EINVAL, 0x2000},
	{"a reserved member", {.len = 1, .reserved = 1}, EINVAL, 0},
	{"all of 2^64 less one", {.len = TOP}, ENOSPC, 0x5000},
};

static struct gm_addr_pool *make_case(void)
{
	struct gm_addr_pool *pool = make_pool(0x1000, 0xffff);

	assert_ok(gm_addr_pool_reserve(pool, RANGE(0x4000, 0x4fff), &err));
	assert_ok(gm_addr_pool_reserve(pool, RANGE(0x9000, 0xbfff), &err));
	return pool;
}

static void addresses_are_given_out_as_named(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct gm_addr_pool *pool = make_case();
		struct gm_addr_request req = cases[i].req;
		struct gm_addr_range got = {7, 7};
		int rc;

		req.size = sizeof(req);
		memset(&err, 0, sizeof(err));
		rc = gm_addr_pool_alloc(pool, &req, &got, &err);
		if (rc != -cases[i].code)
			fail_msg("%s: %d: %s", cases[i].name, rc, err.text);
		if (rc == 0 && (got.first != cases[i].first || got.last - got.first != req.len - 1))
			fail_msg("%s: [%#lx, %#lx]", cases[i].name, got.first, got.last);
		if (rc && (got.first != 7 || err.code != rc || !err.text[0] ||
				  err.gpa != cases[i].first))
			fail_msg("%s: %#lx: %s", cases[i].name, err.gpa, err.text);
		if (rc == 0)
			must_be(pool, got.first, got.first, got.last, GM_ADDR_ALLOCATED);
		else
			must_be(pool, 0x1000, 0x1000, 0x3fff, GM_ADDR_FREE);
		gm_addr_pool_destroy(pool);
	}
}

static void an_error_names_what_is_free_at_most(void **state)
{
	struct gm_addr_pool *pool = make_case();
	struct gm_addr_range got;

	(void)state;
	assert_fails(gm_addr_pool_alloc(pool, REQ(.len = 0x5000), &got, &err), ENOSPC,
		"[0x5000, 0x8fff]");
	assert_int_equal(err.gpa, 0x5000);
	assert_int_equal(err.len, 0x4000);
	assert_fails(gm_addr_pool_alloc(pool, REQ(.len = 0x5000, .max = 0x6fff), &got, &err),
		ENOSPC, "[0x1000, 0x3fff]");
	assert_fails(gm_addr_pool_alloc(pool, REQ(.len = 0x4000, .align = 0x8000), &got, &err),
		ENOSPC, "not aligned");
	assert_fails(
		gm_addr_pool_alloc(pool, REQ(.len = 1, .min = 0x9000, .max = 0x9fff), &got, &err),
		ENOSPC, "nothing is");
	assert_int_equal(err.len, 0);
	assert_fails(gm_addr_pool_reserve(pool, RANGE(0x3000, 0x5000), &err), EEXIST,
		"[0x4000, 0x4fff] is reserved");
	assert_int_equal(err.gpa, 0x4000);
	assert_int_equal(err.len, 0x1000);
	gm_addr_pool_destroy(pool);
}

static void only_what_was_taken_is_given_back(void **state)
{
	struct gm_addr_pool *pool = make_pool(0x1000, 0xffff);
	struct gm_addr_range got[2];

	(void)state;
	assert_ok(gm_addr_pool_alloc(pool, REQ(.len = 0x1000), &got[0], &err));
	assert_ok(gm_addr_pool_alloc(pool, REQ(.len = 0x1000), &got[1], &err));
	assert_int_equal(got[1].first, 0x2000);
	/* Neighbours are two, and stay two. */
	assert_fails(gm_addr_pool_free(pool, RANGE(0x1000, 0x2fff), &err), ENOENT,
		"[0x1000, 0x1fff] is allocated");
	assert_fails(gm_addr_pool_free(pool, RANGE(0x1000, 0x17ff), &err), ENOENT, "as such");
	assert_fails(gm_addr_pool_free(pool, RANGE(0x1800, 0x1fff), &err), ENOENT, "as such");
	assert_fails(gm_addr_pool_free(pool, RANGE(0x3000, 0xffff), &err), ENOENT, "is free");
	assert_fails(gm_addr_pool_free(pool, RANGE(0x4000, 0x4fff), &err), ENOENT, "is free");
	assert_fails(gm_addr_pool_free(pool, RANGE(0x1000, 0xfff), &err), EINVAL, "before");
	assert_fails(gm_addr_pool_free(pool, RANGE(0, 0x1fff), &err), ERANGE, "pool");
	assert_fails(gm_addr_pool_free(pool, RANGE(0xffff, TOP), &err), ERANGE, "pool");
	must_be(pool, 0x1000, 0x1000, 0x1fff, GM_ADDR_ALLOCATED);
	must_be(pool, 0x2fff, 0x2000, 0x2fff, GM_ADDR_ALLOCATED);
	assert_ok(gm_addr_pool_free(pool, &got[0], &err));
	assert_fails(gm_addr_pool_free(pool, &got[0], &err), ENOENT, "is free");
	assert_ok(gm_addr_pool_free(pool, &got[1], &err));
	must_be(pool, 0x1000, 0x1000, 0xffff, GM_ADDR_FREE);
	gm_addr_pool_destroy(pool);
}

static void a_pool_may_be_all_addresses(void **state)
{
	struct gm_addr_pool *pool = make_pool(0, TOP);
	struct gm_addr_info info = {.size = sizeof(info)};
	struct gm_addr_range got;

	(void)state;
	assert_ok(gm_addr_pool_alloc(
		pool, REQ(.len = GIB(1), .align = GIB(1), .policy = GM_ADDR_HIGHEST), &got, &err));
	assert_int_equal(got.last, TOP);
	assert_int_equal(got.first, TOP - GIB(1) + 1);
	assert_ok(gm_addr_pool_free(pool, &got, &err));
	must_be(pool, TOP, 0, TOP, GM_ADDR_FREE);
	assert_ok(gm_addr_pool_alloc(pool,
		REQ(.len = UINT64_C(1) << 63, .align = UINT64_C(1) << 63, .min = 1), &got, &err));
	assert_int_equal(got.first, UINT64_C(1) << 63);
	assert_ok(gm_addr_pool_free(pool, &got, &err));
	assert_ok(gm_addr_pool_alloc(pool, REQ(.len = TOP), &got, &err));
	assert_int_equal(got.last, TOP - 1);
	must_be(pool, TOP, TOP, TOP, GM_ADDR_FREE);
	assert_ok(gm_addr_pool_free(pool, &got, &err));
	assert_ok(gm_addr_pool_reserve(pool, RANGE(0, TOP), &err));
	assert_fails(gm_addr_pool_alloc(pool, REQ(.len = 1), &got, &err), ENOSPC, "nothing is");
	assert_ok(gm_addr_pool_free(pool, RANGE(0, TOP), &err));
	must_be(pool, 0, 0, TOP, GM_ADDR_FREE);
	info.size = 1;
	assert_int_equal(gm_addr_pool_at(pool, 0, &info), -EINVAL);
	gm_addr_pool_destroy(pool);
}

static void a_pool_of_one_address_works(void **state)
{
	struct gm_addr_pool *pool = make_pool(TOP, TOP);
	struct gm_addr_info info = {.size = sizeof(info)};
	struct gm_addr_range got;

	(void)state;
	assert_fails(gm_addr_pool_alloc(pool, REQ(.len = 1, .align = 2), &got, &err), ENOSPC, "");
	assert_ok(gm_addr_pool_alloc(pool, REQ(.len = 1), &got, &err));
	assert_int_equal(got.first, TOP);
	assert_int_equal(gm_addr_pool_at(pool, TOP - 1, &info), -ERANGE);
	assert_fails(gm_addr_pool_create(RANGE(1, 0), &pool, &err), EINVAL, "before");
	gm_addr_pool_destroy(pool);
	gm_addr_pool_destroy(NULL);
}

static void requests_of_other_versions_are_looked_at(void **state)
{
	struct gm_addr_pool *pool = make_pool(0, 0xfff);
	struct {
		struct gm_addr_request req;
		uint64_t tail;
	} newer = {.req = {.size = sizeof(newer), .len = 1}};
	struct gm_addr_range got;

	(void)state;
	assert_ok(gm_addr_pool_alloc(pool, &newer.req, &got, &err));
	newer.tail = 1;
	assert_fails(gm_addr_pool_alloc(pool, &newer.req, &got, &err), E2BIG, "version");
	newer.req.size = 8;
	assert_fails(gm_addr_pool_alloc(pool, &newer.req, &got, &err), EINVAL, "version");
	gm_addr_pool_destroy(pool);
}

/* ---- long runs ---- */

#define BITS 512u

/* For each address the number of the range that took it, or 0. */
struct naive {
	uint32_t owner[BITS];
	uint32_t next;
	uint64_t base;
};

static bool is_free(const struct naive *n, uint64_t at, uint64_t len)
{
	for (uint64_t i = 0; i < len; i++) {
		if (at + i >= BITS || n->owner[at + i])
			return false;
	}
	return true;
}

/* Offset of what is to be given out, or BITS. */
static uint64_t naive_find(const struct naive *n, const struct gm_addr_request *req)
{
	uint64_t best = BITS;

	for (uint64_t at = 0; at < BITS; at++) {
		uint64_t first = n->base + at;

		if (first % req->align || first < req->min || first > req->max ||
			req->len - 1 > req->max - first || !is_free(n, at, req->len))
			continue;
		if (req->policy == GM_ADDR_EXACT && first != req->at)
			continue;
		if (best == BITS || req->policy == GM_ADDR_HIGHEST)
			best = at;
	}
	return best;
}

static void naive_take(struct naive *n, uint64_t at, uint64_t len)
{
	n->next++;
	for (uint64_t i = 0; i < len; i++)
		n->owner[at + i] = n->next;
}

static void random_alloc(struct gm_addr_pool *pool, struct naive *n, struct rng *rng)
{
	struct gm_addr_request req = {
		.size = sizeof(req),
		.len = 1 + rng_below(rng, UINT64_C(1) << rng_below(rng, 7)),
		.align = UINT64_C(1) << rng_below(rng, 6),
		.policy = (uint32_t)rng_below(rng, 3),
		.max = n->base + (BITS - 1),
	};
	struct gm_addr_range got;
	uint64_t want;
	int rc;

	if (rng_below(rng, 2)) {
		req.min = n->base + rng_below(rng, BITS);
		req.max -= rng_below(rng, BITS);
	}
	/* 0 would be the end of the pool. */
	if (req.max == 0)
		req.max = 1;
	if (req.min > req.max)
		req.min = 0;
	if (req.policy == GM_ADDR_EXACT)
		req.at = n->base + rng_below(rng, BITS) / req.align * req.align;
	want = naive_find(n, &req);
	rc = gm_addr_pool_alloc(pool, &req, &got, &err);
	if ((rc == 0) != (want != BITS) || (rc == 0 && got.first != n->base + want))
		fail_msg("alloc %#lx at %#lx, policy %u: %d %s", req.len, req.align, req.policy, rc,
			rc ? err.text : "");
	if (rc == 0)
		naive_take(n, want, req.len);
}

static void random_reserve(struct gm_addr_pool *pool, struct naive *n, struct rng *rng)
{
	uint64_t at = rng_below(rng, BITS);
	uint64_t len = 1 + rng_below(rng, 9);
	bool may = is_free(n, at, len);

	if (len > BITS - at)
		return;
	assert_int_equal(
		gm_addr_pool_reserve(pool, RANGE(n->base + at, n->base + at + (len - 1)), &err),
		may ? 0 : -EEXIST);
	if (may)
		naive_take(n, at, len);
}

/* What was taken at a random address, or a random range that nobody took. */
static void random_free(struct gm_addr_pool *pool, struct naive *n, struct rng *rng)
{
	uint64_t first = rng_below(rng, BITS);
	uint64_t last = first;
	uint32_t owner = n->owner[first];
	bool wrong = rng_below(rng, 4) == 0;
	int rc;

	while (first > 0 && n->owner[first - 1] == owner)
		first--;
	while (last + 1 < BITS && n->owner[last + 1] == owner)
		last++;
	if (wrong && last + 1 < BITS)
		last++;
	else
		wrong = false;
	rc = gm_addr_pool_free(pool, RANGE(n->base + first, n->base + last), &err);
	assert_int_equal(rc, owner && !wrong ? 0 : -ENOENT);
	for (uint64_t i = first; rc == 0 && i <= last; i++)
		n->owner[i] = 0;
}

static void check_all(const struct gm_addr_pool *pool, const struct naive *n)
{
	for (uint64_t at = 0; at < BITS;) {
		uint32_t owner = n->owner[at];
		uint64_t last = at;
		struct gm_addr_info info = {.size = sizeof(info)};

		while (last + 1 < BITS && n->owner[last + 1] == owner)
			last++;
		assert_int_equal(gm_addr_pool_at(pool, n->base + at, &info), 0);
		assert_int_equal(info.range.first, n->base + at);
		assert_int_equal(info.range.last, n->base + last);
		assert_int_equal(info.state != GM_ADDR_FREE, owner != 0);
		at = last + 1;
	}
}

static void random_run(uint64_t base, uint64_t seed)
{
	static struct naive n;
	struct gm_addr_pool *pool = make_pool(base, base + (BITS - 1));
	struct rng rng = {seed};

	n = (struct naive){.base = base};
	for (unsigned int i = 0; i < 4000; i++) {
		uint64_t dice = rng_below(&rng, 100);

		if (dice < 48)
			random_alloc(pool, &n, &rng);
		else if (dice < 56)
			random_reserve(pool, &n, &rng);
		else
			random_free(pool, &n, &rng);
		if (i % 16 == 0)
			check_all(pool, &n);
	}
	check_all(pool, &n);
	gm_addr_pool_destroy(pool);
}

static void random_runs_are_those_of_a_plain_array(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < support_scale(8); i++) {
		random_run(0, test_seed(100 + i));
		random_run(TOP - (BITS - 1), test_seed(200 + i));
		random_run((UINT64_C(1) << 32) - 100, test_seed(300 + i));
	}
}

/* ---- failing allocations ---- */

static int scenario(void *ctx)
{
	struct gm_addr_pool *pool;
	struct gm_addr_range got;
	int rc = gm_addr_pool_create(RANGE(0x1000, 0xffff), &pool, &err);

	(void)ctx;
	if (rc)
		return rc;
	rc = gm_addr_pool_alloc(pool, REQ(.len = 0x1000, .min = 0x3000, .max = 0x7fff), &got, &err);
	if (rc) {
		must_be(pool, 0x1000, 0x1000, 0xffff, GM_ADDR_FREE);
	} else {
		rc = gm_addr_pool_reserve(pool, RANGE(0x8000, 0x8fff), &err);
		must_be(pool, got.first, 0x3000, 0x3fff, GM_ADDR_ALLOCATED);
		if (rc)
			must_be(pool, 0x8000, 0x4000, 0xffff, GM_ADDR_FREE);
		/* Giving back works, whatever else fails. */
		assert_ok(gm_addr_pool_free(pool, &got, &err));
	}
	gm_addr_pool_destroy(pool);
	return rc;
}

static void each_allocation_may_fail(void **state)
{
	static const int errnos[] = {ENOMEM};
	const struct fault_sweep_opts opts = {.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 1};

	(void)state;
	assert_true(fault_sweep_opts(scenario, NULL, &opts) >= 2 * 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_given_out_as_named),
		cmocka_unit_test(an_error_names_what_is_free_at_most),
		cmocka_unit_test(only_what_was_taken_is_given_back),
		cmocka_unit_test(a_pool_may_be_all_addresses),
		cmocka_unit_test(a_pool_of_one_address_works),
		cmocka_unit_test(requests_of_other_versions_are_looked_at),
		cmocka_unit_test(random_runs_are_those_of_a_plain_array),
		cmocka_unit_test(each_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
