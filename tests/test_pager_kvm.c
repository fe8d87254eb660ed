/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager_kvm.c - a guest whose memory is filled while it runs: by a thread that is told, and by the vCPU's own
 * thread; with prefetch, discards and a device's readv beside it.
 */
#include <guestmem/discard.h>

#include "one_guest.h"
#include "one_pager.h"

#define AT GIB(1)
#define PAGES 1024u
#define LEN (PAGES * PAGE)
#define EXIT_MEMORY_FAULT 39u /* then flags, gpa, size */

static uint8_t *hva;
static uint64_t area;

static void start_all(bool shared, uint32_t flags)
{
	uint64_t id = 0;

	start_guest(KVM_OPTS(0), 1);
	assert_ok(gm_space_add(space,
		DESC(.gpa = AT, .backing = BLOCK(.len = LEN, .flags = shared ? GM_BLOCK_SHARE : 0)),
		&id, &err));
	hva = region(id).hva;
	start_pager(LEN);
	assert_ok(gm_pager_add_space(
		pager, space, AT, LEN, AREA(.source = source, .flags = flags), &area, &err));
}

static void stop_all(void)
{
	stop_pager();
	stop_guest();
}

/* What it adds up of @nr pages, and how often it left because of a missing page. */
static uint64_t sum(uint64_t first, uint64_t nr, unsigned int *ret_left)
{
	struct guest_params *params = guest_start(&guest, 0, GUEST_SUM);

	params->base = AT + first * PAGE;
	params->mask = PAGES - 1;
	params->count = nr;
	params->offset = 0;
	params->value = 0;
	params->seed = 1;
	*ret_left = 0;
	for (;;) {
		int rc = guest_run(&guest, 0);
		const struct kvm_run *run = guest.cpus[0].run;
		uint64_t gpa;

		if (rc == KVM_EXIT_IO && guest_is_done(&guest, 0))
			return params->value;
		assert_int_equal(rc, -EFAULT);
		/* Not every KVM says where; the payload goes from page to page. */
		gpa = AT + (first + *ret_left) * PAGE;
		if (run->exit_reason == EXIT_MEMORY_FAULT)
			memcpy(&gpa, (const uint8_t *)&run->hw + 8, sizeof(gpa));
		assert_true(gpa >= AT && gpa - AT < LEN);
		assert_int_equal(gm_pager_resolve(pager, hva + (gpa - AT)), 0);
		(*ret_left)++;
	}
}

static uint64_t expected(uint64_t first, uint64_t nr)
{
	uint64_t all = 0;

	for (uint64_t page = first; page < first + nr; page++)
		all += word_at(page * PAGE);
	return all;
}

static void a_guest_is_filled_while_it_runs(void **state)
{
	unsigned int left;

	(void)state;
	for (int shared = 0; shared < 2; shared++) {
		start_all(shared, 0);
		start_stepping();
		assert_true(sum(0, 200, &left) == expected(0, 200));
		assert_int_equal(left, 0);
		assert_int_equal(gm_pager_prefetch(pager, area, 300 * PAGE, 200 * PAGE), 0);
		assert_true(sum(200, 400, &left) == expected(200, 400));
		/* The guest's balloon. */
		assert_ok(gm_discard(
			space, AT + 100 * PAGE, 50 * PAGE, GM_DISCARD_NOW, 0, NULL, &err));
		assert_ok(gm_discard(
			space, AT + 700 * PAGE, 50 * PAGE, GM_DISCARD_NOW, 0, NULL, &err));
		assert_true(sum(0, 200, &left) == expected(0, 100) + expected(150, 50));
		assert_true(sum(600, 200, &left) == expected(600, 100) + expected(750, 50));
		guest_store_u64(AT + 900 * PAGE, 77);
		assert_int_equal(guest_load_u64(AT + 900 * PAGE), 77);
		stop_stepping();
		assert_true(stats().loaded > 0);
		assert_int_equal(stats().poisoned, 0);
		stop_all();
	}
}

/* Shared memory is continued, private copied into, by the vCPU's own thread. */
static void a_vcpu_resolves_its_own_faults(void **state)
{
	unsigned int left;

	(void)state;
	for (int shared = 0; shared < 2; shared++) {
		start_all(shared, GM_PAGER_SIGBUS);
		assert_true(sum(0, 300, &left) == expected(0, 300));
		assert_true(left >= 300);
		assert_true(sum(0, 300, &left) == expected(0, 300));
		assert_int_equal(stats().loaded, 300);
		stop_all();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_is_filled_while_it_runs),
		cmocka_unit_test(a_vcpu_resolves_its_own_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
