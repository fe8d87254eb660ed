/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_sparse.c - sparse regions: nothing is taken before it is touched, the count is exact to the page, thresholds
 * are told, the kernel refuses what is over, memory comes back, huge pages stay within the bloat that is allowed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <guestmem/guard.h>
#include <guestmem/memmap.h>

#include "fault.h"
#include "one_space.h"
#include "random.h"

#define PAGE UINT64_C(4096)
#define AT GIB(1)

static struct gm_sparse *sparse;

#define SPARSE(...) GM_OPTS(gm_sparse_opts, .gpa = AT, .len = LEN, __VA_ARGS__)
#define LEN GIB(2)

static void start_sparse(const struct gm_sparse_opts *opts)
{
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(8)));
	assert_ok(gm_sparse_create(space, opts, &sparse, &err));
}

static void stop_sparse(void)
{
	assert_ok(gm_sparse_destroy(sparse, &err));
	stop();
}

static struct gm_sparse_info now(void)
{
	struct gm_sparse_info info = {.size = sizeof(info)};

	assert_ok(gm_sparse_info(sparse, &info, &err));
	return info;
}

static int store(uint64_t off, uint8_t byte)
{
	int rc = gm_write(gm_reader_enter(reader), AT + off, &byte, 1, NULL);

	gm_reader_leave(reader);
	return rc;
}

static uint8_t load(uint64_t off)
{
	uint8_t byte = 0xee;

	assert_int_equal(gm_read(gm_reader_enter(reader), AT + off, &byte, 1, NULL), 0);
	gm_reader_leave(reader);
	return byte;
}

/* ---- making ---- */

static void what_is_no_sparse_region_is_refused(void **state)
{
	struct gm_sparse *none = NULL;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(8)));
#define REFUSED(code, word, ...)                                                                   \
	assert_fails(gm_sparse_create(space, GM_OPTS(gm_sparse_opts, __VA_ARGS__), &none, &err),   \
		code, word)
	REFUSED(EINVAL, "1 GiB", .len = GIB(1) + MIB(1));
	REFUSED(EINVAL, "1 GiB", .gpa = MIB(1), .len = GIB(1));
	REFUSED(EINVAL, "1 GiB", .len = 0);
	REFUSED(EINVAL, "limit", .len = GIB(1), .limit = GIB(1) + PAGE);
	REFUSED(EINVAL, "limit", .len = GIB(1), .limit = 5000);
	REFUSED(EINVAL, "flags", .len = GIB(1), .flags = 0x80);
	REFUSED(EINVAL, "at the limit", .len = GIB(1), .at_limit = 3);
	REFUSED(EINVAL, "threshold", .len = GIB(1), .tell_at = {GIB(2)});
	REFUSED(EINVAL, "eventfd", .len = GIB(1), .event_plus = -1);
#undef REFUSED
	assert_null(none);
	/* Above the window addresses are equal modulo 1 GiB as well. */
	assert_ok(gm_sparse_create(
		space, GM_OPTS(gm_sparse_opts, .gpa = GIB(16), .len = GIB(1)), &none, &err));
	assert_ok(gm_sparse_destroy(none, &err));
	stop();
}

static void nothing_is_taken_before_a_touch(uint32_t flags)
{
	struct rng rng = {test_seed(7)};
	uint64_t before;
	struct gm_sparse_info info;

	start_sparse(SPARSE(.flags = flags, .limit = MIB(64)));
	info = now();
	assert_int_equal(info.used, 0);
	assert_int_equal(info.huge, 0);
	assert_int_equal(info.limit, MIB(64));
	assert_int_equal(info.hard, (flags & GM_SPARSE_HARD) != 0);
	assert_int_equal((uintptr_t)region(info.region).hva % GIB(1), 0);
	/* Each page that is touched, and no other, is counted: written by the library or by a host pointer. */
	for (uint64_t i = 0; i < 200; i++) {
		uint64_t off = i * MIB(8) + rng_below(&rng, MIB(2));

		before = now().used;
		if (i % 2)
			assert_int_equal(store(off, 1), 0);
		else
			((volatile uint8_t *)region(info.region).hva)[off] = 1;
		assert_int_equal(now().used, before + PAGE);
		assert_int_equal(store(off & ~(PAGE - 1), 1), 0);
		assert_int_equal(now().used, before + PAGE);
	}
	/* What the guest frees is given back, to the page. */
	assert_ok(gm_discard(space, AT, GIB(1), GM_DISCARD_NOW, 0, NULL, &err));
	assert_int_equal(now().used, (200 - 128) * PAGE);
	stop_sparse();
}

static void counts_are_exact_on_each_backing(void **state)
{
	(void)state;
	nothing_is_taken_before_a_touch(0);
	nothing_is_taken_before_a_touch(GM_SPARSE_SHARE);
	nothing_is_taken_before_a_touch(GM_SPARSE_HARD);
}

static void the_guest_is_told_of_ram_and_of_large_pages(void **state)
{
	struct gm_memmap_entry map[4];
	uint32_t edx = 0x100;
	size_t nr = 0;

	(void)state;
	start_sparse(SPARSE(.numa_plus = 2));
	assert_ok(gm_space_memmap(space, map, 4, &nr, &err));
	assert_int_equal(nr, 1);
	assert_int_equal(map[0].first, AT);
	assert_int_equal(map[0].last, AT + GIB(2) - 1);
	assert_int_equal(map[0].kind, GM_MEMMAP_RAM);
	assert_int_equal(map[0].node, 1);
	assert_false(gm_sparse_cpuid(1, &edx));
	assert_int_equal(edx, 0x100);
	assert_true(gm_sparse_cpuid(0x80000001, &edx));
	assert_int_equal(edx, 0x100 | 1u << 26);
	stop_sparse();
}

/* ---- the limit ---- */

static struct {
	uint64_t at[16];
	size_t nr;
} told;

static void tell(void *ctx, const struct gm_sparse_event *event)
{
	assert_ptr_equal(ctx, &told);
	assert_ptr_equal(event->sparse, sparse);
	assert_true(event->used >= event->at);
	assert_true(told.nr < 16);
	told.at[told.nr++] = event->at;
	/* What describes may be called from here, what does something may not. */
	assert_int_equal(now().used, event->used);
	assert_int_equal(gm_sparse_poll(sparse, NULL, NULL), -EBUSY);
}

static void thresholds_are_told_once(void **state)
{
	int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t count = 0;
	uint64_t used = 0;

	(void)state;
	told.nr = 0;
	start_sparse(SPARSE(.limit = MIB(4), .tell_at = {MIB(1), MIB(2)}, .event_plus = 1 + event,
		.tell = tell, .ctx = &told));
	for (uint64_t i = 0; i < MIB(5) / PAGE; i++) {
		assert_int_equal(store(i * PAGE, 1), 0);
		assert_int_equal(gm_sparse_poll(sparse, &used, &err), (i + 1) * PAGE >= MIB(4));
		assert_int_equal(used, (i + 1) * PAGE);
	}
	assert_int_equal(told.nr, 3);
	assert_int_equal(told.at[0], MIB(1));
	assert_int_equal(told.at[1], MIB(2));
	assert_int_equal(told.at[2], MIB(4));
	assert_int_equal(read(event, &count, 8), 8);
	assert_int_equal(count, 3);
	assert_int_equal(now().told, 3);
	assert_true(now().refused > 0);
	/* Passed again, told again. */
	assert_ok(gm_discard(space, AT, GIB(1), GM_DISCARD_NOW, 0, NULL, &err));
	assert_int_equal(gm_sparse_poll(sparse, &used, &err), 0);
	assert_int_equal(used, 0);
	for (uint64_t i = 0; i < MIB(1) / PAGE; i++)
		assert_int_equal(store(i * PAGE, 1), 0);
	assert_int_equal(gm_sparse_poll(sparse, &used, &err), 0);
	assert_int_equal(told.nr, 4);
	stop_sparse();
	close(event);
}

static void the_kernel_refuses_what_is_over(void **state)
{
	uint64_t n;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	start_sparse(SPARSE(.limit = MIB(1), .at_limit = GM_SPARSE_REFUSE));
	for (n = 0; n < GIB(1) / PAGE; n++) {
		if (store(n * PAGE, 1))
			break;
	}
	assert_int_equal(n, MIB(1) / PAGE);
	assert_int_equal(store(n * PAGE, 1), -EIO);
	assert_int_equal(now().used, MIB(1));
	/* What is there can be used, and read. */
	assert_int_equal(store(5 * PAGE, 7), 0);
	assert_int_equal(load(5 * PAGE), 7);
	assert_int_equal(gm_sparse_poll(sparse, NULL, &err), 1);
	/* Page by page: what is given back can be touched elsewhere. */
	assert_ok(gm_discard(space, AT, 3 * PAGE, GM_DISCARD_NOW, 0, NULL, &err));
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(store(GIB(1) + i * PAGE, 1), 0);
	assert_int_equal(store(GIB(1) + 3 * PAGE, 1), -EIO);
	/* Another limit, but none below what is there. */
	assert_fails(gm_sparse_set_limit(sparse, MIB(1) - PAGE, &err), EBUSY, "more is backed");
	assert_int_equal(now().limit, MIB(1));
	assert_ok(gm_sparse_set_limit(sparse, MIB(2), &err));
	assert_int_equal(store(GIB(1) + 3 * PAGE, 1), 0);
	assert_int_equal(now().used, MIB(1) + PAGE);
	assert_fails(gm_sparse_set_limit(sparse, 0, &err), EINVAL, "limit");
	assert_fails(gm_sparse_set_limit(sparse, GIB(3), &err), EINVAL, "limit");
	stop_sparse();
	assert_int_equal(gm_guard_remove(), 0);
}

/* The file can be given away; its limit goes with it, and no mount is left. */
static void another_process_is_held_to_it_and_may_die(void **state)
{
	int fd;
	int status;
	pid_t child;

	(void)state;
	start_sparse(SPARSE(.limit = MIB(1), .flags = GM_SPARSE_HARD));
	fd = now().fd;
	for (int sig = SIGBUS;; sig = SIGKILL) {
		child = fork();
		if (child == 0) {
			volatile uint8_t *at = mmap(NULL, GIB(1), PROT_READ | PROT_WRITE,
				MAP_SHARED, fd, (off_t)GIB(1));

			signal(SIGBUS, SIG_DFL);
			for (uint64_t i = 0; i < MIB(sig == SIGBUS ? 2 : 1) / PAGE; i++)
				at[i * PAGE] = 1;
			raise(SIGKILL);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), sig);
		assert_int_equal(now().used, MIB(1));
		if (sig == SIGKILL)
			break;
	}
	/* Its pages are the guest's. */
	assert_int_equal(load(GIB(1) + 3 * PAGE), 1);
	stop_sparse();
}

/* ---- taking back ---- */

static struct {
	uint64_t next; /* offset of what is given up */
	uint64_t end;
	bool elsewhere;
	size_t calls;
} free_list;

static size_t cold(void *ctx, uint64_t want, struct gm_sparse_cold *ranges, size_t max)
{
	size_t nr = 0;

	(void)ctx;
	free_list.calls++;
	assert_true(want > 0);
	if (free_list.elsewhere) {
		ranges[0] = (struct gm_sparse_cold){.gpa = AT - PAGE, .len = PAGE};
		ranges[1] = (struct gm_sparse_cold){.gpa = AT + GIB(1), .len = GIB(1) + PAGE};
		ranges[2] = (struct gm_sparse_cold){.gpa = AT, .len = PAGE, .mode = 77};
		return 3;
	}
	for (; nr < max && free_list.next < free_list.end && nr * PAGE < want; nr++) {
		ranges[nr] = (struct gm_sparse_cold){.gpa = AT + free_list.next, .len = PAGE};
		free_list.next += PAGE;
	}
	return nr;
}

static void zeros_go_before_what_is_cold(void **state)
{
	struct gm_sparse_reclaimed r = {.size = sizeof(r)};

	(void)state;
	memset(&free_list, 0, sizeof(free_list));
	free_list.next = MIB(200);
	free_list.end = MIB(200) + 100 * PAGE;
	start_sparse(SPARSE(.limit = MIB(64), .at_limit = GM_SPARSE_RECLAIM, .cold = cold));
	for (uint64_t i = 0; i < 100; i++) {
		assert_int_equal(store(i * PAGE, 0), 0);
		assert_int_equal(store(MIB(100) + i * PAGE, 1), 0);
		assert_int_equal(store(MIB(200) + i * PAGE, 2), 0);
	}
	assert_int_equal(now().used, 300 * PAGE);
	assert_int_equal(gm_sparse_reclaim(sparse, 200 * PAGE, 0, &r, &err), 0);
	assert_int_equal(r.before, 300 * PAGE);
	assert_int_equal(r.after, 200 * PAGE);
	assert_int_equal(r.zero, 100 * PAGE);
	assert_int_equal(free_list.calls, 0);
	assert_int_equal(gm_sparse_reclaim(sparse, 150 * PAGE, 0, &r, &err), 0);
	assert_int_equal(r.cold, 50 * PAGE);
	assert_int_equal(now().used, 150 * PAGE);
	/* At the limit the poll does it, and leaves some room. */
	assert_ok(gm_sparse_set_limit(sparse, 150 * PAGE, &err));
	assert_int_equal(gm_sparse_poll(sparse, NULL, &err), 0);
	assert_true(now().used < 150 * PAGE);
	/* What is in use stays, whatever is asked. */
	assert_int_equal(gm_sparse_reclaim(sparse, 0, 0, &r, &err), 1);
	assert_int_equal(now().used, 100 * PAGE);
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(load(MIB(100) + i * PAGE), 1);
	/* A callback that names what is not ours, or frees nothing, ends. */
	free_list.elsewhere = true;
	assert_int_equal(gm_sparse_reclaim(sparse, 0, 0, &r, &err), 1);
	assert_true(r.refused >= 3);
	assert_int_equal(r.code, -EINVAL);
	assert_int_equal(now().used, 100 * PAGE);
	assert_fails(gm_sparse_reclaim(sparse, 0, 0x10, &r, &err), EINVAL, "flags");
	stop_sparse();
}

static void shared_zeros_go_when_nobody_writes(void **state)
{
	struct gm_sparse_reclaimed r = {.size = sizeof(r)};

	(void)state;
	start_sparse(SPARSE(.flags = GM_SPARSE_SHARE));
	for (uint64_t i = 0; i < 64; i++)
		assert_int_equal(store(i * PAGE, i % 2), 0);
	assert_int_equal(gm_sparse_reclaim(sparse, 0, 0, &r, &err), 1);
	assert_int_equal(r.after, 64 * PAGE);
	assert_int_equal(gm_sparse_reclaim(sparse, 0, GM_SPARSE_STOPPED, &r, &err), 1);
	assert_int_equal(r.after, 32 * PAGE);
	assert_int_equal(r.zero, 32 * PAGE);
	stop_sparse();
}

static void what_listeners_need_stays(void **state)
{
	struct gm_sparse_reclaimed r = {.size = sizeof(r)};

	(void)state;
	memset(&free_list, 0, sizeof(free_list));
	free_list.end = 10 * PAGE;
	start_sparse(SPARSE(.cold = cold));
	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(store(i * PAGE, 1), 0);
	assert_ok(gm_discard_inhibit(space, AT, 5 * PAGE, GM_INHIBIT_ALL, &err));
	assert_int_equal(gm_sparse_reclaim(sparse, 0, 0, &r, &err), 1);
	assert_int_equal(r.after, 5 * PAGE);
	assert_int_equal(r.refused, 5);
	assert_int_equal(r.code, -EBUSY);
	assert_int_equal(gm_discard_allow(space, AT, 5 * PAGE, GM_INHIBIT_ALL), 0);
	stop_sparse();
}

/* ---- pages ---- */

static const struct gm_page_choice huge = {GM_PAGE_THP, 0};
static const struct gm_page_choice base = {GM_PAGE_BASE, 0};

static void sizes_of_pages_are_mixed(uint32_t flags)
{
	start_sparse(SPARSE(.flags = flags, .limit = MIB(256)));
	assert_ok(gm_sparse_pages(sparse, MIB(512), MIB(64), &huge, &err));
	assert_int_equal(store(0, 1), 0);
	assert_int_equal(now().used, PAGE);
	assert_int_equal(store(MIB(512) + MIB(7), 1), 0);
	assert_int_equal(now().used, PAGE + MIB(2));
	assert_int_equal(now().huge, MIB(2));
	assert_ok(gm_sparse_pages(sparse, MIB(512), MIB(64), &base, &err));
	assert_int_equal(store(MIB(512) + MIB(20), 1), 0);
	assert_int_equal(now().used, 2 * PAGE + MIB(2));
	assert_fails(gm_sparse_pages(sparse, GIB(2) - PAGE, MIB(2), &huge, &err), ERANGE, "end");
	stop_sparse();
}

static void sizes_of_pages_are_mixed_by_range(void **state)
{
	(void)state;
	sizes_of_pages_are_mixed(0);
	sizes_of_pages_are_mixed(GM_SPARSE_HARD);
}

/* One page in each of 128 blocks is there besides the 64 blocks that are full: how many become huge? */
static void promotions_stay_within_the_bloat(uint32_t flags)
{
	struct gm_policy_result r = {.size = sizeof(r)};
	struct gm_heat items[129];
	uint64_t useful;

	start_sparse(SPARSE(.flags = flags, .bloat = 100));
	for (uint64_t i = 0; i < 64; i++) {
		for (uint64_t at = 0; at < MIB(2); at += PAGE)
			assert_int_equal(store(i * MIB(2) + at, 1), 0);
	}
	for (uint64_t i = 0; i < 128; i++) {
		assert_int_equal(store(MIB(256) + i * MIB(2), 1), 0);
		items[i] = (struct gm_heat){1 + i, AT + MIB(256) + i * MIB(2)};
	}
	items[128] = (struct gm_heat){1000, 0x1000};
	useful = now().used;
	assert_ok(gm_sparse_promote(sparse, items, 129, 0, &r, &err));
	/* 10 % of 128.5 MiB: six blocks, the hottest. */
	assert_int_equal(r.huge, 6);
	assert_int_equal(now().huge, MIB(12));
	assert_int_equal(now().used - useful, r.added);
	assert_int_equal(now().added, r.added);
	assert_true(r.added <= useful / 10);
	/* Once more adds nothing: the bloat is spent. */
	assert_ok(gm_sparse_promote(sparse, items, 129, 0, &r, &err));
	assert_int_equal(r.added, 0);
	stop_sparse();
}

static void huge_pages_stay_within_the_bloat(void **state)
{
	(void)state;
	promotions_stay_within_the_bloat(0);
	promotions_stay_within_the_bloat(GM_SPARSE_SHARE);
}

/* ---- what fails ---- */

static int one_life(void *ctx)
{
	struct gm_sparse_reclaimed r = {.size = sizeof(r)};
	struct gm_sparse_opts opts = *(struct gm_sparse_opts *)ctx;
	struct gm_sparse *one = NULL;
	struct gm_sparse_info info = {.size = sizeof(info)};
	struct gm_error error = {0};
	struct gm_space *other = NULL;
	int rc = gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(4)), &other, &error);

	if (rc)
		return rc;
	rc = gm_sparse_create(other, &opts, &one, &error);
	if (!rc) {
		rc = gm_sparse_info(one, &info, &error);
		if (!rc) {
			struct gm_block_info block = {.size = sizeof(block)};

			gm_block_info(info.block, &block);
			*(volatile uint8_t *)block.hva = 1;
		}
		if (!rc)
			rc = gm_sparse_poll(one, NULL, &error);
		if (rc >= 0)
			rc = gm_sparse_reclaim(one, PAGE, 0, &r, &error);
		if (rc >= 0)
			rc = gm_sparse_pages(one, 0, MIB(2),
				opts.flags & GM_SPARSE_SHARE ? &base : &huge, &error);
		if (rc >= 0)
			rc = gm_sparse_set_limit(one, MIB(32), &error);
	}
	if (rc < 0)
		assert_int_equal(error.code, rc);
	fault_disarm();
	if (one)
		assert_ok(gm_sparse_destroy(one, &err));
	gm_space_destroy(other);
	return rc;
}

static void every_call_may_fail(void **state)
{
	static const uint32_t flags[] = {0, GM_SPARSE_SHARE, GM_SPARSE_HARD};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		unsigned long calls =
			fault_sweep(one_life, SPARSE(.flags = flags[i], .limit = MIB(64)));

		assert_true(calls > 10);
		printf("figure: faults %lu\n", calls);
	}
}

static void without_privilege_it_says_so(void **state)
{
	struct gm_sparse *none;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(8)));
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_tmpfs, .nth = 1, .error = EPERM});
	assert_fails(gm_sparse_create(space, SPARSE(.flags = GM_SPARSE_HARD), &none, &err), EPERM,
		"CAP_SYS_ADMIN");
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_sparse_region_is_refused),
		cmocka_unit_test(counts_are_exact_on_each_backing),
		cmocka_unit_test(the_guest_is_told_of_ram_and_of_large_pages),
		cmocka_unit_test(thresholds_are_told_once),
		cmocka_unit_test(the_kernel_refuses_what_is_over),
		cmocka_unit_test(another_process_is_held_to_it_and_may_die),
		cmocka_unit_test(zeros_go_before_what_is_cold),
		cmocka_unit_test(shared_zeros_go_when_nobody_writes),
		cmocka_unit_test(what_listeners_need_stays),
		cmocka_unit_test(sizes_of_pages_are_mixed_by_range),
		cmocka_unit_test(huge_pages_stay_within_the_bloat),
		cmocka_unit_test(every_call_may_fail),
		cmocka_unit_test(without_privilege_it_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
