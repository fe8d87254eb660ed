/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_kvm_sparse.c - limits under a guest that runs: what a vCPU meets at a limit that the kernel keeps, and how
 * it goes on; two guests' memory in one budget, with threads that write beside.
 */
#include <pthread.h>
#include <stdatomic.h>

#include <guestmem/budget.h>
#include <guestmem/guard.h>

#include "one_guest.h"

#define AT GIB(1)
#define OTHER GIB(2)

static struct gm_sparse *sparse[2];
static atomic_uint_fast64_t freed_below; /* pages of the guest below this offset are given up */

static size_t cold(void *ctx, uint64_t want, struct gm_sparse_cold *ranges, size_t max)
{
	uint64_t *next = ctx;
	uint64_t end = atomic_load(&freed_below);

	(void)max;
	if (*next >= end)
		return 0;
	want = (want + PAGE - 1) & ~(PAGE - 1);
	if (want > end - *next)
		want = end - *next;
	ranges[0] = (struct gm_sparse_cold){.gpa = AT + *next, .len = want};
	*next += want;
	return 1;
}

static uint64_t used(int i)
{
	struct gm_sparse_info info = {.size = sizeof(info)};

	assert_ok(gm_sparse_info(sparse[i], &info, &err));
	return info.used;
}

static void start_sparse(uint64_t limit, uint32_t at_limit, uint64_t *next)
{
	start_guest(KVM_OPTS(0), 1);
	*next = 0;
	freed_below = 0;
	assert_ok(gm_sparse_create(space,
		GM_OPTS(gm_sparse_opts, .gpa = AT, .len = GIB(1), .limit = limit,
			.flags = GM_SPARSE_HARD, .at_limit = at_limit, .cold = cold, .ctx = next),
		&sparse[0], &err));
}

/* One that touches @pages in a row: stores at random would meet some twice. */
static void touch_pages(uint64_t gpa, uint64_t pages)
{
	struct guest_params *params = guest_start(&guest, 0, GUEST_SUM);

	params->base = gpa;
	params->count = pages;
}

static void a_vcpu_is_refused_and_goes_on(void **state)
{
	uint64_t next;

	(void)state;
	start_sparse(MIB(1), GM_SPARSE_REFUSE, &next);
	/* Reads of a file's holes take pages as well. */
	touch_pages(AT, MIB(4) / PAGE);
	assert_int_equal(guest_run(&guest, 0), -EFAULT);
	assert_int_equal(used(0), MIB(1));
	/* The same again, until there is room: nothing is lost of what the guest did. */
	assert_int_equal(guest_run(&guest, 0), -EFAULT);
	assert_ok(gm_sparse_set_limit(sparse[0], MIB(8), &err));
	run_through();
	assert_int_equal(used(0), MIB(4));
	guest_store_u64(AT + MIB(100), 0x1234);
	assert_int_equal(guest_load_u64(AT + MIB(100)), 0x1234);
	assert_ok(gm_sparse_destroy(sparse[0], &err));
	stop_guest();
}

static void a_poll_makes_room_for_a_vcpu(void **state)
{
	uint64_t next;
	uint64_t refused = 0;
	int rc;

	(void)state;
	start_sparse(MIB(2), GM_SPARSE_RECLAIM, &next);
	touch_pages(AT, MIB(16) / PAGE);
	while ((rc = guest_run(&guest, 0)) == -EFAULT) {
		refused++;
		assert_int_equal(used(0), MIB(2));
		/* The guest is behind what it has read; all below goes. */
		atomic_store(&freed_below, next + MIB(2));
		assert_int_equal(gm_sparse_poll(sparse[0], NULL, &err), 0);
	}
	assert_int_equal(rc, KVM_EXIT_IO);
	assert_true(guest_is_done(&guest, 0));
	assert_in_range(refused, 7, MIB(16) / PAGE / 8);
	assert_true(used(0) <= MIB(2));
	assert_ok(gm_sparse_destroy(sparse[0], &err));
	stop_guest();
}

/* ---- a budget ---- */

static atomic_bool over;

/* A device's thread: writes to the second region as long as it may. */
static void *write_other(void *arg)
{
	struct gm_reader *mine;
	uint64_t *pages = arg;

	assert_int_equal(gm_reader_create(space, "writer", &mine, NULL), 0);
	for (uint64_t i = 0; !atomic_load(&over); i = (i + 1) % (MIB(32) / PAGE)) {
		uint8_t byte = 1;

		if (gm_write(gm_reader_enter(mine), OTHER + i * PAGE, &byte, 1, NULL) == 0)
			++*pages;
		gm_reader_leave(mine);
	}
	gm_reader_destroy(mine);
	return NULL;
}

static uint64_t other_hand;

/* Whatever it was that the device wrote. */
static size_t cold_other(void *ctx, uint64_t want, struct gm_sparse_cold *ranges, size_t max)
{
	(void)ctx;
	(void)max;
	want = (want + PAGE - 1) & ~(PAGE - 1);
	if (other_hand + want > MIB(32))
		other_hand = 0;
	if (want > MIB(32))
		want = MIB(32);
	ranges[0] = (struct gm_sparse_cold){.gpa = OTHER + other_hand, .len = want};
	other_hand += want;
	return 1;
}

static void two_guests_never_pass_one_budget(void **state)
{
	struct gm_budget_result r = {.size = sizeof(r)};
	struct gm_budget *budget;
	uint64_t written = 0;
	uint64_t next;
	uint64_t most = 0;
	pthread_t writer;
	int rc;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	start_sparse(MIB(8), GM_SPARSE_RECLAIM, &next);
	assert_ok(gm_sparse_create(space,
		GM_OPTS(gm_sparse_opts, .gpa = OTHER, .len = GIB(1), .limit = MIB(8),
			.flags = GM_SPARSE_HARD, .cold = cold_other),
		&sparse[1], &err));
	assert_ok(gm_budget_create(
		GM_OPTS(gm_budget_opts, .total = MIB(16), .headroom = MIB(1)), &budget, &err));
	for (int i = 0; i < 2; i++)
		assert_ok(gm_budget_add(budget,
			GM_OPTS(gm_budget_share, .sparse = sparse[i], .shares = 1, .min = MIB(2)),
			&err));
	atomic_store(&over, false);
	assert_int_equal(pthread_create(&writer, NULL, write_other, &written), 0);
	touch_pages(AT, MIB(64) / PAGE);
	while ((rc = guest_run(&guest, 0)) == -EFAULT) {
		uint64_t sum = used(0) + used(1);

		most = sum > most ? sum : most;
		atomic_store(&freed_below, next + MIB(1));
		gm_sparse_poll(sparse[0], NULL, NULL);
		assert_ok(gm_budget_balance(budget, 0, &r, &err));
		assert_true(r.limits <= MIB(16));
	}
	assert_int_equal(rc, KVM_EXIT_IO);
	atomic_store(&over, true);
	pthread_join(writer, NULL);
	assert_true(written > 0);
	assert_in_range(most, MIB(2), MIB(16));
	gm_budget_destroy(budget);
	assert_ok(gm_sparse_destroy(sparse[1], &err));
	assert_ok(gm_sparse_destroy(sparse[0], &err));
	stop_guest();
	assert_int_equal(gm_guard_remove(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_vcpu_is_refused_and_goes_on),
		cmocka_unit_test(a_poll_makes_room_for_a_vcpu),
		cmocka_unit_test(two_guests_never_pass_one_budget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
