/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_grant_threads.c - readers of a grant, and of a grant of that, while rights change and the source
 * does: who begins after a revocation has returned gets nothing, and whoever has begun is not disturbed.
 */
#include "one_grant.h"

#include <guestmem/access.h>
#include <guestmem/slice.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

/* The page whose rights come and go, one that stays, and where the source has other memory by turns. */
#define COMES (2 * PAGE)
#define STAYS (3 * PAGE)
#define TURNS MIB(4)

static uint32_t epoch; /* even: COMES is revoked */
static bool stop;

struct worker {
	pthread_t thread;
	struct gm_reader *reader;
	unsigned long granted;
	unsigned long revoked;
	unsigned long turns;
	const char *wrong;
	int wrong_rc;
};

static void found(struct worker *worker, const char *what, int rc)
{
	worker->wrong = what;
	worker->wrong_rc = rc;
}

static void try_comes(struct worker *worker, const struct gm_view *view, uint32_t before)
{
	uint64_t value;
	struct gm_pin pin = {0};
	struct iovec slice;
	int rc = gm_atomic_fetch_add_u64(view, COMES, __ATOMIC_RELAXED, 1, &value);
	int pinned;
	bool quiet;

	/* A pin keeps the memory until it is given back, whatever happens. */
	pinned = gm_pin_slice(view, COMES, 8, GM_PERM_RW, &slice, &pin);
	if (!pinned)
		__atomic_fetch_add((uint64_t *)slice.iov_base, 1, __ATOMIC_RELAXED);
	gm_pin_put(&pin);
	quiet = __atomic_load_n(&epoch, __ATOMIC_ACQUIRE) == before && before % 2 == 0;
	if (quiet && (rc != -EFAULT || pinned != -EFAULT))
		found(worker, "an access after a revocation", rc);
	if (rc && rc != -EFAULT)
		found(worker, "an access", rc);
	worker->granted += !rc;
	worker->revoked += quiet;
}

static void *work(void *arg)
{
	struct worker *worker = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED) && !worker->wrong) {
		uint32_t before = __atomic_load_n(&epoch, __ATOMIC_ACQUIRE);
		const struct gm_view *view = gm_reader_enter(worker->reader);
		uint64_t value;
		int rc;

		try_comes(worker, view, before);
		/* Never disturbed. */
		rc = gm_read_u64(view, STAYS, &value);
		if (rc || value != UINT64_C(0x0404040404040404))
			found(worker, "what stays", rc);
		/* One view has one memory. */
		rc = gm_read_u64(view, TURNS, &value);
		if (rc != gm_view_check(view, TURNS, 8, GM_PERM_R))
			found(worker, "what turns", rc);
		worker->turns += !rc;
		gm_reader_leave(worker->reader);
	}
	return NULL;
}

/* Changes of the source, at grant, beside it, and refused. */
static void *change_source(void *arg)
{
	unsigned long *changes = arg;
	struct gm_error own;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		uint64_t id;
		int rc;

		rc = gm_space_add(source,
			DESC(.gpa = TURNS,
				.backing = BLOCK(.len = 2 * PAGE, .flags = GM_BLOCK_SHARE)),
			&id, &own);
		if (rc) {
			sched_yield();
			continue;
		}
		do {
			rc = gm_space_remove(source, id, &own);
		} while (rc == -EBUSY);
		if (rc)
			return (void *)-1;
		++*changes;
		/* Leave others a turn. */
		usleep(300);
	}
	return NULL;
}

static int set(uint64_t gpa, uint32_t perms, uint32_t flags)
{
	int rc;

	while ((rc = gm_grant_set(grant, gpa, PAGE, perms, flags, &err)) == -EBUSY)
		sched_yield();
	return rc;
}

static void a_revocation_is_the_end_for_all_threads(void **state)
{
	unsigned long rounds = support_scale(150);
	static struct worker workers[3];
	struct gm_grant *inner;
	pthread_t changer;
	unsigned long changes = 0;
	void *failed;

	(void)state;
	make_source();
	make_grant(PARTS({0, 8 * PAGE, GM_PERM_RW, 0}, {TURNS, MIB(1), GM_PERM_RW, 0}), 0);
	assert_ok(gm_grant_create(gm_grant_space(grant),
		GM_OPTS(gm_grant_opts, .name = "inner", .nr_parts = 1,
			.parts = &(struct gm_grant_part){0, MIB(16), GM_PERM_RW, 0}),
		&inner, &err));
	assert_ok(gm_grant_set(grant, COMES, PAGE, 0, 0, &err));
	stop = false;
	for (size_t i = 0; i < 3; i++) {
		workers[i] = (struct worker){0};
		assert_ok(gm_reader_create(
			gm_grant_space(i < 2 ? grant : inner), "worker", &workers[i].reader, &err));
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	assert_int_equal(pthread_create(&changer, NULL, change_source, &changes), 0);
	for (unsigned long i = 0; i < rounds; i++) {
		__atomic_fetch_add(&epoch, 1, __ATOMIC_SEQ_CST);
		assert_ok(set(COMES, GM_PERM_RW, 0));
		if (i % 3 == 0)
			assert_ok(set(5 * PAGE, i % 2 ? GM_PERM_RW : GM_PERM_R, GM_GRANT_NOWAIT));
		sched_yield();
		assert_ok(set(COMES, 0, 0));
		__atomic_fetch_add(&epoch, 1, __ATOMIC_SEQ_CST);
		sched_yield();
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(changer, &failed);
	assert_null(failed);
	for (size_t i = 0; i < 3; i++) {
		pthread_join(workers[i].thread, NULL);
		if (workers[i].wrong)
			fail_msg("worker %zu: %s: %d", i, workers[i].wrong, workers[i].wrong_rc);
		print_message("worker %zu: %lu granted, %lu revoked, %lu turns\n", i,
			workers[i].granted, workers[i].revoked, workers[i].turns);
		assert_true(workers[i].granted > 0 && workers[i].revoked > 0);
		gm_reader_destroy(workers[i].reader);
	}
	print_message("%lu changes of the source\n", changes);
	assert_true(changes > 0);
	assert_ok(gm_grant_destroy(inner, &err));
	drop_all();
}

/* A shadow that is copied by two threads, each its half, while it is cut. */
struct copier {
	pthread_t thread;
	uint64_t gpa;
	int wrong;
};

static void *copy_both_ways(void *arg)
{
	struct copier *copier = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED) && !copier->wrong) {
		size_t done;
		int rc = gm_grant_copy_in(grant, copier->gpa, 4 * PAGE, &done);

		if (rc && rc != -EFAULT)
			copier->wrong = rc;
		rc = gm_grant_copy_out(grant, copier->gpa, 4 * PAGE, &done);
		if (rc && rc != -EFAULT)
			copier->wrong = rc;
	}
	return NULL;
}

static void a_shadow_is_cut_under_copies(void **state)
{
	unsigned long rounds = support_scale(80);
	struct copier copiers[2] = {{.gpa = 0}, {.gpa = 4 * PAGE}};

	(void)state;
	make_source();
	make_grant(PARTS({0, 8 * PAGE, GM_PERM_RW, 0}), GM_GRANT_SHADOW);
	stop = false;
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(
			pthread_create(&copiers[i].thread, NULL, copy_both_ways, &copiers[i]), 0);
	for (unsigned long i = 0; i < rounds; i++) {
		assert_ok(set((i % 8) * PAGE, 0, 0));
		assert_ok(set((i % 8) * PAGE, GM_PERM_RW, 0));
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < 2; i++) {
		pthread_join(copiers[i].thread, NULL);
		assert_int_equal(copiers[i].wrong, 0);
	}
	drop_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_revocation_is_the_end_for_all_threads),
		cmocka_unit_test(a_shadow_is_cut_under_copies),
	};

	/* The machine may be busy. */
	deadline_ns = 20000000000;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
