/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_trim.c - pages of zeros are given back, and no write is ever lost: beside writers by the library, by raw
 * pointers and by system calls, and under pages that a ring has pinned.
 */
#include "one_discard.h"

#include <linux/io_uring.h>
#include <pthread.h>
#include <sys/ioctl.h>

#include <guestmem/log.h>
#include <guestmem/policy.h>
#include <guestmem/watch.h>

#include "fault.h"
#include "random.h"

static struct gm_trim_result *trimmed(void)
{
	static struct gm_trim_result r;

	r = (struct gm_trim_result){.size = sizeof(r)};
	return &r;
}

static void pages_of_zeros_go_and_others_stay(void **state)
{
	struct rng rng = {test_seed(31)};
	static bool zero[LEN / 4096];
	struct gm_trim_result *r = trimmed();
	struct gm_log *log;
	uint64_t nr = 0;

	(void)state;
	start_backing(&backings[ANON]);
	for (uint64_t i = 0; i < LEN / PAGE; i++) {
		zero[i] = i / 700 == 1 || rng_below(&rng, 3) == 0;
		/* One byte anywhere is enough to stay. */
		memset(host(AT) + i * PAGE, 0, PAGE);
		if (zero[i])
			nr++;
		else
			host(AT)[i * PAGE + rng_below(&rng, PAGE)] = 1;
	}
	assert_ok(gm_log_create(space, GM_OPTS(gm_log_opts, .first = AT, .len = LEN), &log, &err));
	assert_int_equal(resident_at(host(AT), LEN), LEN);
	assert_ok(gm_space_trim(space, 0, GIB(1), 0, r, &err));
	assert_int_equal(r->looked, LEN);
	assert_int_equal(r->freed, nr * PAGE);
	assert_int_equal(r->busy + r->left, 0);
	assert_int_equal(resident_at(host(AT), LEN), LEN - nr * PAGE);
	for (uint64_t i = 0; i < LEN / PAGE; i++) {
		uint64_t sum = 0;

		for (uint64_t j = 0; j < PAGE; j++)
			sum += host(AT)[i * PAGE + j];
		assert_int_equal(sum, zero[i] ? 0 : 1);
	}
	assert_int_equal(gm_log_count(log, 0, 0), 0);
	/* Nothing is protected any more, and there is nothing to be gained again. */
	fill_bytes(AT, 5, LEN);
	assert_ok(gm_space_trim(space, AT, LEN, 0, r, &err));
	assert_int_equal(r->freed, 0);
	assert_bytes(AT, 5, LEN);
	assert_ok(gm_log_destroy(log, &err));
	stop_backing();
}

static void huge_pages_go_whole(void **state)
{
	struct gm_trim_result *r = trimmed();

	(void)state;
	start_backing(&backings[THP]);
	memset(host(AT), 0, LEN);
	host(AT)[MIB(3)] = 1;
	assert_ok(gm_space_trim(space, AT, LEN, 0, r, &err));
	assert_int_equal(r->freed, LEN - MIB(2));
	assert_int_equal(resident_at(host(AT), LEN), MIB(2));
	assert_int_equal(host(AT)[MIB(3)], 1);
	/* Its parts go once it is split; since Linux 6.12 with the split itself. */
	assert_ok(gm_policy_split(space, AT, LEN, NULL, &err));
	assert_ok(gm_space_trim(space, AT, LEN, 0, r, &err));
	assert_int_equal(resident_at(host(AT), LEN), PAGE);
	assert_int_equal(host(AT)[MIB(3)], 1);
	/* A range of part of a huge page leaves it alone. */
	assert_ok(gm_discard(space, AT, LEN, GM_DISCARD_NOW, 0, NULL, &err));
	memset(host(AT), 0, LEN);
	assert_ok(gm_space_trim(space, AT + MIB(1), MIB(2), 0, r, &err));
	assert_int_equal(r->freed, 0);
	stop_backing();
}

static void shared_memory_is_trimmed_only_while_nobody_writes(void **state)
{
	(void)state;
	for (int i = 0; i < BACKINGS; i++) {
		const struct backing *b = &backings[i];
		bool beside = i == ANON || i == THP;
		bool stopped = beside || i == MEMFD || i == ANON_SHARED || i == FILE_SHARED ||
			       i == HUGETLB || i == HUGETLB_MEMFD || i == HUGETLB_SHARED;
		struct gm_trim_result *r = trimmed();
		uint64_t before;

		start_backing(b);
		fill_bytes(AT, 0, LEN);
		fill_bytes(AT + MIB(2), 1, PAGE);
		if (!b->far)
			assert_bytes(AT, 0, MIB(2));
		if (!beside) {
			assert_ok(gm_space_trim(space, AT, LEN, 0, r, &err));
			assert_int_equal(r->freed, 0);
			assert_int_equal(r->left, LEN);
		}
		before = taken();
		assert_ok(gm_space_trim(space, AT, LEN, GM_TRIM_STOPPED, r, &err));
		if (!stopped) {
			assert_int_equal(r->left, LEN);
			assert_int_equal(taken(), before);
		} else {
			uint64_t want = b->page > PAGE ? LEN - MIB(2) : LEN - PAGE;

			/* Of a transparent huge page parts go too, though it frees them later. */
			assert_int_equal(r->freed, want);
			if (before - taken() != want)
				fail_msg("%s: took 0x%llx, then 0x%llx", b->name,
					(unsigned long long)before, (unsigned long long)taken());
		}
		assert_bytes(AT + MIB(2), 1, PAGE);
		assert_bytes(AT, 0, MIB(2));
		stop_backing();
	}
}

static void others_who_watch_or_forbid(void **state)
{
	struct gm_trim_result *r = trimmed();
	struct gm_watch *watch;

	(void)state;
	start_backing(&backings[ANON]);
	memset(host(AT), 0, LEN);
	assert_ok(gm_watch_create(space, &watch, &err));
	assert_fails(gm_space_trim(space, AT, LEN, 0, r, &err), EBUSY, "another userfaultfd");
	assert_int_equal(r->freed, 0);
	assert_ok(gm_watch_destroy(watch, &err));
	assert_ok(gm_discard_inhibit(space, AT, PAGE, GM_INHIBIT_ALL, &err));
	assert_fails(gm_space_trim(space, AT, LEN, 0, r, &err), EBUSY, "inhibited");
	assert_fails(gm_space_trim(space, AT, LEN, GM_TRIM_STOPPED, r, &err), EBUSY, "");
	assert_int_equal(gm_discard_allow(space, AT, PAGE, GM_INHIBIT_ALL), 0);
	assert_int_equal(resident_at(host(AT), LEN), LEN);
	assert_fails(gm_space_trim(space, AT, LEN, 0x10, r, &err), EINVAL, "flags");
	assert_fails(gm_space_trim(space, UINT64_MAX, 2, 0, r, &err), ERANGE, "wrap");
	assert_ok(gm_space_trim(space, AT, LEN, 0, r, &err));
	assert_int_equal(r->freed, LEN);
	stop_backing();
}

/* Buffers of a ring are pinned as a device's are: what is written to them goes past page tables. */
static void pinned_pages_are_left(void **state)
{
	struct io_uring_params params = {0};
	struct iovec buffer;
	struct gm_trim_result *r = trimmed();
	int ring = (int)syscall(SYS_io_uring_setup, 4, &params);

	(void)state;
	if (ring < 0) {
		printf("skipped: no io_uring here\n");
		skip();
	}
	start_backing(&backings[ANON]);
	memset(host(AT), 0, LEN);
	buffer = (struct iovec){host(AT) + 10 * PAGE, 5 * PAGE};
	assert_int_equal(
		syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1), 0);
	assert_ok(gm_space_trim(space, AT, LEN, 0, r, &err));
	assert_int_equal(r->busy, 5 * PAGE);
	assert_int_equal(r->freed, LEN - 5 * PAGE);
	assert_int_equal(resident_at(host(AT) + 10 * PAGE, 5 * PAGE), 5 * PAGE);
	close(ring);
	stop_backing();
}

/* ---- beside writers ---- */

#define WRITERS 3
#define SLOTS 512u

static int over;

/* Pages of its own: each is 0 or holds the number that was written last, and only the writer makes it 0. */
static void *write_numbers(void *arg)
{
	uintptr_t me = (uintptr_t)arg;
	uint64_t mine[SLOTS] = {0};
	struct rng rng = {test_seed(40 + me)};
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	uint8_t *hva = host(AT);
	struct gm_reader *own;

	assert_int_equal(gm_reader_create(space, "writer", &own, NULL), 0);
	for (uint64_t n = 1; !__atomic_load_n(&over, __ATOMIC_RELAXED); n++) {
		uint64_t slot = rng_below(&rng, SLOTS);
		uint64_t off = (slot * WRITERS + me) * PAGE + rng_below(&rng, 500) / 500 * 8;
		uint64_t got = 0;
		uint64_t old = mine[slot];

		assert_int_equal(gm_read_u64(gm_reader_enter(own), AT + off, &got), 0);
		gm_reader_leave(own);
		if (got != old)
			fail_msg("writer %lu: page %lu has %lu, not %lu: a write was lost",
				(unsigned long)me, (unsigned long)slot, (unsigned long)got,
				(unsigned long)old);
		mine[slot] = n % 2 ? n : 0;
		if (n % 2 && me == 0) {
			/* A raw store, as a vCPU's. */
			__atomic_store_n((uint64_t *)(void *)(hva + off), n, __ATOMIC_RELAXED);
		} else if (n % 2) {
			assert_int_equal(gm_write_u64(gm_reader_enter(own), AT + off, n), 0);
			gm_reader_leave(own);
		} else {
			/* Zeros by the kernel: the page can be trimmed again. */
			assert_int_equal(read(zero, hva + off, 8), 8);
		}
	}
	gm_reader_destroy(own);
	close(zero);
	return NULL;
}

static void no_write_is_lost(void **state)
{
	static const int kinds[] = {ANON, THP};

	(void)state;
	for (int k = 0; k < 2; k++) {
		pthread_t threads[WRITERS];
		struct gm_trim_result *r = trimmed();
		uint64_t freed = 0;

		start_backing(&backings[kinds[k]]);
		over = 0;
		for (uintptr_t i = 0; i < WRITERS; i++)
			assert_int_equal(
				pthread_create(&threads[i], NULL, write_numbers, (void *)i), 0);
		/* Writers that are fast leave it nothing for a while. */
		for (unsigned long n = 0;
			n < support_scale(150) || (freed == 0 && n < support_scale(20000)); n++) {
			assert_ok(gm_space_trim(space, AT, LEN, 0, r, &err));
			freed += r->freed;
			if (k == 1 && n % 10 == 0)
				gm_policy_split(space, AT, LEN, NULL, NULL);
		}
		__atomic_store_n(&over, 1, __ATOMIC_RELAXED);
		for (int i = 0; i < WRITERS; i++)
			pthread_join(threads[i], NULL);
		assert_true(freed > 0);
		stop_backing();
	}
}

/* ---- faults ---- */

static int trim_all(void *ctx)
{
	struct gm_trim_result r = {.size = sizeof(r)};
	int rc;

	memset(host(AT), 0, MIB(4));
	memset(host(AT) + PAGE, 1, PAGE);
	rc = gm_space_trim(space, AT, LEN, *(uint32_t *)ctx, &r, &err);
	fault_disarm();
	if (rc) {
		assert_int_equal(err.code, rc);
		assert_true(strlen(err.text) > 0);
	}
	/* Nobody finds a page protected, nothing is lost. */
	assert_bytes(AT, 0, PAGE);
	assert_bytes(AT + PAGE, 1, PAGE);
	memset(host(AT), 2, LEN);
	assert_bytes(AT, 2, LEN);
	return rc;
}

static void every_call_may_fail(void **state)
{
	uint32_t flags = 0;

	(void)state;
	start_backing(&backings[ANON]);
	memset(host(AT), 2, LEN);
	assert_true(fault_sweep(trim_all, &flags) > 10);
	flags = GM_TRIM_STOPPED;
	assert_true(fault_sweep(trim_all, &flags) > 3);
	stop_backing();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_of_zeros_go_and_others_stay),
		cmocka_unit_test(huge_pages_go_whole),
		cmocka_unit_test(shared_memory_is_trimmed_only_while_nobody_writes),
		cmocka_unit_test(others_who_watch_or_forbid),
		cmocka_unit_test(pinned_pages_are_left),
		cmocka_unit_test(no_write_is_lost),
		cmocka_unit_test(every_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
