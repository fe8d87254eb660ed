/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_residency_fault.c - every system call and allocation of residency and host is made to fail,
 * fall short and be interrupted: a clean error or the right answer, and nothing left behind.
 */
#include "support.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "fault.h"
#include "kinds.h"

static struct kind memory;

/* Half of it, in extents of one page; few, because each is a call that can be made to fail. */
static int make_memory(void **state)
{
	(void)state;
	kind_anon_every_other_page(&memory);
	memory.len = 24 * 4096;
	memory.want.present = memory.len / 2;
	return 0;
}

static int drop_memory(void **state)
{
	(void)state;
	munmap(memory.addr, (size_t)16 << 20);
	return 0;
}

/* With a fault it may fail; without an error it must be right. */
static int measure(void *arg)
{
	uint32_t flags = *(uint32_t *)arg;
	struct gm_usage usage = {.size = sizeof(usage)};
	struct gm_residency *res;
	struct gm_error err;
	int rc = gm_residency_open(0, &res, &err);

	if (rc)
		return rc;
	rc = gm_residency_usage(res, (uintptr_t)memory.addr, memory.len, flags, &usage, &err);
	gm_residency_close(res);
	if (rc == 0)
		assert_int_equal(usage.present, memory.want.present);
	return rc;
}

static int list(void *arg)
{
	struct gm_mapping m = {.size = sizeof(m)};
	struct gm_residency *res;
	struct gm_mappings *it;
	struct gm_error err;
	bool found = false;
	int rc = gm_residency_open(0, &res, &err);

	if (rc)
		return rc;
	rc = gm_mappings_open(res, *(uint32_t *)arg, &it, &err);
	if (rc == 0) {
		while ((rc = gm_mappings_next(it, &m)) > 0)
			found |= m.start <= (uintptr_t)memory.addr &&
				 m.start + m.len >= (uintptr_t)memory.addr + memory.len;
		gm_mappings_close(it);
	}
	gm_residency_close(res);
	if (rc == 0)
		assert_true(found);
	return rc;
}

static int sums(void *arg)
{
	struct gm_process_memory sum = {.size = sizeof(sum)};
	struct gm_residency *res;
	struct gm_error err;
	int rc = gm_residency_open(0, &res, &err);

	(void)arg;
	if (rc)
		return rc;
	rc = gm_residency_process(res, &sum, &err);
	gm_residency_close(res);
	return rc;
}

static int probe(void *arg)
{
	struct gm_host host = {.size = sizeof(host)};
	struct gm_error err;

	(void)arg;
	return gm_host_probe(&host, &err);
}

static void a_failing_call_leaves_nothing_behind(void **state)
{
	(void)state;
	for (uint32_t flags = 0; flags < 8; flags++)
		fault_sweep(measure, &flags);
	for (uint32_t flags = 0; flags <= GM_MAPPINGS_DETAILS; flags++)
		fault_sweep(list, &flags);
	fault_sweep(sums, NULL);
	fault_sweep(probe, NULL);
}

static void short_reads_and_interruptions_change_nothing(void **state)
{
	static const size_t lengths[] = {1, 7, 100};

	(void)state;
	/* smaps of a sanitized process has many megabytes' worth of lines. */
	for (uint32_t flags = 0; flags <= GM_MAPPINGS_DETAILS; flags++) {
		for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_read,
				.nth = 1,
				.forever = true,
				.short_len =
					flags & GM_MAPPINGS_DETAILS ? 32 * lengths[i] : lengths[i],
				.eintr = 2});
			assert_int_equal(list(&flags), 0);
			assert_true(fault_hits() > 0);
			fault_disarm();
		}
	}
	for (uint32_t flags = 0; flags < 8; flags++) {
		fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_pread,
			.nth = 1,
			.forever = true,
			.short_len = 104,
			.eintr = 1});
		assert_int_equal(measure(&flags), 0);
		fault_disarm();
	}
}

/* A scan of several calls, of which a later one fails: no fall-back that counts twice. */
static void a_scan_that_breaks_off_is_an_error(void **state)
{
	struct gm_usage usage = {.size = sizeof(usage)};
	struct gm_residency *res;
	struct gm_error err;
	struct kind large;

	(void)state;
	kind_anon_every_other_page(&large);
	assert_ok(gm_residency_open(0, &res, &err));
	for (unsigned long nth = 1; nth <= 5; nth++) {
		int rc;

		fault_set(&(struct fault_plan){
			.fn = FAULT_gm_sys_ioctl, .nth = nth, .forever = true, .error = EINVAL});
		rc = gm_residency_usage(res, (uintptr_t)large.addr, large.len, 0, &usage, &err);
		assert_true(fault_hits() > 0);
		fault_disarm();
		assert_int_equal(rc, nth == 1 ? 0 : -EINVAL);
		assert_int_equal(nth == 1 ? usage.present : large.want.present, large.want.present);
	}
	gm_residency_close(res);
	munmap(large.addr, large.len);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_scan_that_breaks_off_is_an_error),
		cmocka_unit_test(a_failing_call_leaves_nothing_behind),
		cmocka_unit_test(short_reads_and_interruptions_change_nothing),
	};

	return cmocka_run_group_tests(tests, make_memory, drop_memory);
}
