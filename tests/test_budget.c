/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_budget.c - one amount of memory for two guests: shares, minima, headroom, pressure, who gives back and whose
 * blocks become huge.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <guestmem/budget.h>

#include "fault.h"
#include "one_space.h"

#define PAGE UINT64_C(4096)
#define GUESTS 2

/* A guest whose pages from @given up are not needed any more. */
struct one {
	struct gm_sparse *sparse;
	uint64_t gpa;
	uint64_t used; /* offset of the next page to be touched */
	uint64_t given;
	uint64_t kept; /* the callback names nothing below */
};

static struct one guests[GUESTS];
static struct gm_budget *budget;

static size_t cold(void *ctx, uint64_t want, struct gm_sparse_cold *ranges, size_t max)
{
	struct one *g = ctx;

	(void)max;
	if (g->used <= g->kept)
		return 0;
	want = (want + PAGE - 1) & ~(PAGE - 1);
	if (want > g->used - g->kept)
		want = g->used - g->kept;
	g->used -= want;
	ranges[0] = (struct gm_sparse_cold){.gpa = g->gpa + g->used, .len = want};
	return 1;
}

/* Every block that has a page, the hotter the lower; those of guest 1 are hotter. */
static size_t heat(void *ctx, struct gm_heat *items, size_t max)
{
	struct one *g = ctx;

	for (size_t i = 0; i < max && i < 8; i++)
		items[i] = (struct gm_heat){(g == &guests[1] ? 100 : 10) - i, g->gpa + i * MIB(2)};
	return 8;
}

static void start_guests(const struct gm_budget_opts *opts, uint32_t flags)
{
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(8)));
	assert_ok(gm_budget_create(opts, &budget, &err));
	for (int i = 0; i < GUESTS; i++) {
		struct one *g = &guests[i];

		*g = (struct one){.gpa = GIB(1 + i)};
		assert_ok(gm_sparse_create(space,
			GM_OPTS(gm_sparse_opts, .gpa = g->gpa, .len = GIB(1), .flags = flags,
				.cold = cold, .ctx = g),
			&g->sparse, &err));
	}
}

static void join(int i, uint64_t shares, uint64_t min)
{
	assert_ok(gm_budget_add(budget,
		GM_OPTS(gm_budget_share, .sparse = guests[i].sparse, .shares = shares, .min = min,
			.heat = heat, .ctx = &guests[i]),
		&err));
}

static void stop_guests(void)
{
	gm_budget_destroy(budget);
	for (int i = 0; i < GUESTS; i++)
		assert_ok(gm_sparse_destroy(guests[i].sparse, &err));
	stop();
}

static void touch(int i, uint64_t len)
{
	struct one *g = &guests[i];

	for (uint64_t end = g->used + len; g->used < end; g->used += PAGE) {
		uint8_t byte = 1;

		assert_int_equal(
			gm_write(gm_reader_enter(reader), g->gpa + g->used, &byte, 1, NULL), 0);
		gm_reader_leave(reader);
	}
}

static struct gm_sparse_info of(int i)
{
	struct gm_sparse_info info = {.size = sizeof(info)};

	assert_ok(gm_sparse_info(guests[i].sparse, &info, &err));
	return info;
}

static struct gm_budget_result balance(uint32_t pressure)
{
	struct gm_budget_result r = {.size = sizeof(r)};

	assert_ok(gm_budget_balance(budget, pressure, &r, &err));
	assert_true(r.limits <= r.total || r.over == r.limits - r.total);
	assert_int_equal(r.used, of(0).used + of(1).used);
	assert_int_equal(r.huge, of(0).huge + of(1).huge);
	return r;
}

static void shares_decide_and_the_larger_gives_back(void **state)
{
	struct gm_budget_result r;

	(void)state;
	start_guests(GM_OPTS(gm_budget_opts, .total = MIB(64)), 0);
	join(0, 3, 0);
	join(1, 1, 0);
	r = balance(0);
	assert_int_equal(of(0).limit, MIB(48));
	assert_int_equal(of(1).limit, MIB(16));
	assert_int_equal(r.freed, 0);
	touch(0, MIB(10));
	touch(1, MIB(40));
	r = balance(0);
	assert_int_equal(of(0).used, MIB(10));
	assert_int_equal(of(1).used, MIB(16));
	assert_int_equal(r.freed, MIB(24));
	assert_int_equal(r.over, 0);
	/* One that needs all it has keeps it, and the other has less. */
	guests[1].kept = MIB(30);
	touch(1, MIB(24));
	r = balance(0);
	assert_int_equal(of(1).used, MIB(30));
	assert_int_equal(of(1).limit, MIB(30));
	assert_int_equal(of(0).limit, MIB(34));
	assert_int_equal(r.limits, MIB(64));
	/* Both need more than there is: that is said. */
	guests[0].kept = MIB(50);
	touch(0, MIB(40));
	r = balance(0);
	assert_int_equal(r.over, MIB(16));
	assert_int_equal(gm_budget_remove(budget, guests[0].sparse), 0);
	assert_int_equal(gm_budget_remove(budget, guests[0].sparse), -ENOENT);
	stop_guests();
}

static void minima_and_headroom(void **state)
{
	(void)state;
	start_guests(GM_OPTS(gm_budget_opts, .total = MIB(64), .headroom = MIB(4)), 0);
	join(0, 1, MIB(40));
	assert_fails(
		gm_budget_add(budget,
			GM_OPTS(gm_budget_share, .sparse = guests[0].sparse, .shares = 1), &err),
		EEXIST, "already");
	assert_fails(gm_budget_add(budget,
			     GM_OPTS(gm_budget_share, .sparse = guests[1].sparse, .shares = 1,
				     .min = MIB(25)),
			     &err),
		ENOSPC, "not promised");
	assert_fails(
		gm_budget_add(budget, GM_OPTS(gm_budget_share, .sparse = guests[1].sparse), &err),
		EINVAL, "shares");
	join(1, 1, 0);
	balance(0);
	assert_int_equal(of(0).limit, MIB(40));
	assert_int_equal(of(1).limit, MIB(24));
	assert_int_equal(gm_budget_remove(budget, guests[0].sparse), 0);
	join(0, 1, MIB(8));
	/* What one does not use, the other may: half would be 32 MiB. */
	touch(1, MIB(40));
	assert_int_equal(balance(0).freed, 0);
	assert_int_equal(of(1).limit, MIB(44));
	assert_int_equal(of(0).limit, MIB(20));
	stop_guests();
}

static void pressure_takes_a_step(void **state)
{
	struct gm_budget_result r;
	uint32_t some;
	uint32_t full;
	char path[] = "/tmp/gm-test-psi-XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	start_guests(GM_OPTS(gm_budget_opts, .total = MIB(64), .pressure = 100, .step = 250), 0);
	join(0, 1, MIB(4));
	join(1, 1, 0);
	touch(0, MIB(8));
	touch(1, MIB(8));
	assert_int_equal(balance(99).freed, 0);
	r = balance(100);
	/* 16 MiB less a quarter, in whole pages of thousandths. */
	assert_in_range(r.freed, MIB(4) - 64 * PAGE, MIB(4));
	assert_true(r.used <= r.total);
	for (int i = 0; i < 40; i++)
		r = balance(1000);
	/* Not below the minimum. */
	assert_int_equal(of(0).used, MIB(4));
	assert_true(of(1).used <= PAGE);
	assert_ok(gm_pressure_read(NULL, &some, &full, &err));
	assert_in_range(some, 0, 1000);
	assert_true(full <= 1000);
#define TEXT                                                                                       \
	"some avg10=12.34 avg60=0.00 avg300=0.00 total=1\n"                                        \
	"full avg10=1.05 avg60=0.00 avg300=0.00 total=1\n"
	assert_int_equal(write(fd, TEXT, strlen(TEXT)), strlen(TEXT));
	assert_ok(gm_pressure_read(path, &some, &full, &err));
	assert_int_equal(some, 123);
	assert_int_equal(full, 10);
	assert_ok(gm_pressure_read(path, &some, NULL, &err));
	assert_int_equal(ftruncate(fd, 20), 0);
	assert_fails(gm_pressure_read(path, &some, &full, &err), EPROTO, "pressure");
	unlink(path);
	assert_fails(gm_pressure_read(path, &some, &full, &err), ENOTSUP, "PSI");
	close(fd);
	stop_guests();
}

static void the_hottest_of_all_become_huge(void **state)
{
	struct gm_budget_result r;

	(void)state;
	start_guests(GM_OPTS(gm_budget_opts, .total = MIB(256), .bloat = 100), 0);
	join(0, 1, 0);
	join(1, 1, 0);
	for (int g = 0; g < GUESTS; g++) {
		/* Half of each of eight blocks, and 32 MiB elsewhere. */
		for (uint64_t i = 0; i < 8; i++) {
			guests[g].used = i * MIB(2);
			touch(g, MIB(1));
		}
		guests[g].used = MIB(64);
		touch(g, MIB(32));
	}
	/* 80 MiB are there: eight may be added, a block adds one. All go to the guest whose blocks are hotter. */
	r = balance(0);
	assert_in_range(r.added, MIB(7), MIB(8));
	assert_int_equal(r.promoted, r.added / MIB(1));
	assert_int_equal(of(1).huge, r.promoted * MIB(2));
	assert_int_equal(of(0).huge, 0);
	/* Bloat that is spent stays spent. */
	r = balance(0);
	assert_in_range(of(1).added + of(0).added, MIB(7), MIB(9));
	stop_guests();
}

static int one_balance(void *ctx)
{
	struct gm_budget_result r = {.size = sizeof(r)};
	struct gm_error error = {0};
	struct gm_budget *other = NULL;
	int rc = gm_budget_create(
		GM_OPTS(gm_budget_opts, .total = MIB(2), .bloat = 100), &other, &error);

	(void)ctx;
	for (int i = 0; !rc && i < GUESTS; i++)
		rc = gm_budget_add(other,
			GM_OPTS(gm_budget_share, .sparse = guests[i].sparse, .shares = 1,
				.heat = heat, .ctx = &guests[i]),
			&error);
	if (!rc)
		rc = gm_budget_balance(other, 0, &r, &error);
	if (rc)
		assert_int_equal(error.code, rc);
	/* A limit that could not be set is counted as it is. */
	else
		assert_true(r.limits <= MIB(2) || r.over > 0);
	fault_disarm();
	gm_budget_destroy(other);
	for (int i = 0; i < GUESTS; i++) {
		assert_ok(gm_sparse_set_limit(guests[i].sparse, MIB(64), &err));
		if (of(i).used < MIB(1)) {
			guests[i].used = of(i).used;
			touch(i, MIB(1) - guests[i].used);
		}
	}
	return rc;
}

static void every_call_may_fail(void **state)
{
	(void)state;
	start_guests(GM_OPTS(gm_budget_opts, .total = MIB(64)), GM_SPARSE_HARD);
	one_balance(NULL);
	assert_true(fault_sweep(one_balance, NULL) > 10);
	stop_guests();
}

static void what_cannot_be_is_refused(void **state)
{
	struct gm_budget *none = NULL;

	(void)state;
	assert_fails(gm_budget_create(GM_OPTS(gm_budget_opts, .total = 0), &none, &err), EINVAL,
		"total");
	assert_fails(gm_budget_create(GM_OPTS(gm_budget_opts, .total = 4097), &none, &err), EINVAL,
		"pages");
	assert_fails(
		gm_budget_create(GM_OPTS(gm_budget_opts, .total = 4096, .step = 1001), &none, &err),
		EINVAL, "step");
	assert_fails(gm_budget_create(
			     GM_OPTS(gm_budget_opts, .total = 4096, .headroom = 1), &none, &err),
		EINVAL, "headroom of 1 bytes");
	assert_null(none);
	/* Nobody to share with. */
	assert_ok(gm_budget_create(GM_OPTS(gm_budget_opts, .total = MIB(1)), &budget, &err));
	assert_ok(gm_budget_balance(budget, 0, NULL, &err));
	gm_budget_destroy(budget);
	gm_budget_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares_decide_and_the_larger_gives_back),
		cmocka_unit_test(minima_and_headroom),
		cmocka_unit_test(pressure_takes_a_step),
		cmocka_unit_test(the_hottest_of_all_become_huge),
		cmocka_unit_test(every_call_may_fail),
		cmocka_unit_test(what_cannot_be_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
