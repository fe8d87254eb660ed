/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_policy.c - pages at run time: filled, told by guest address, made huge and small again, by what page tables
 * show; pools demoted.
 */
#include "one_discard.h"

#include <guestmem/host.h>
#include <guestmem/policy.h>

#include "fault.h"
#include "sys/uapi.h"

static struct gm_policy_result *reached(void)
{
	static struct gm_policy_result r;

	r = (struct gm_policy_result){.size = sizeof(r)};
	return &r;
}

static struct gm_usage usage(uint64_t gpa, uint64_t len)
{
	struct gm_usage use = {.size = sizeof(use)};

	assert_ok(gm_space_extents(space, gpa, len, 0, NULL, NULL, &use, &err));
	return use;
}

/* ---- looking and filling ---- */

static struct gm_space_extent told[64];
static size_t nr_told;

static int note(void *arg, const struct gm_space_extent *extent)
{
	assert_true(nr_told < 64);
	told[nr_told++] = *extent;
	return arg ? *(int *)arg : 0;
}

static void assert_told(size_t i, uint64_t gpa, uint64_t len, uint32_t state)
{
	assert_true(i < nr_told);
	assert_int_equal(told[i].gpa, gpa);
	assert_int_equal(told[i].len, len);
	assert_int_equal(told[i].state, state);
	if (state != GM_EXTENT_FAR)
		assert_ptr_equal((void *)(uintptr_t)told[i].hva, host(gpa));
}

static void extents_are_told_by_guest_address(void **state)
{
	int stop_code = 7;
	struct gm_usage use;
	uint64_t id;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	assert_ok(gm_space_add(space,
		DESC(.gpa = AT, .backing = BLOCK(.len = 16 * PAGE, .flags = GM_BLOCK_SHARE)), &id,
		&err));
	add(AT + 16 * PAGE, 16 * PAGE);
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(32), .len = 2 * PAGE, .kind = GM_REGION_ALIAS, .target = id,
			.block_off = 3 * PAGE),
		NULL, &err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(64), .backing = BLOCK(.len = PAGE, .backing = GM_BACKING_MEMFD,
					     .flags = GM_BLOCK_UNMAPPED)),
		NULL, &err));
	host(AT + 3 * PAGE)[0] = 1;
	host(AT + 15 * PAGE)[0] = 1;
	host(AT + 16 * PAGE)[0] = 1;
	(void)*(volatile uint8_t *)host(AT + 20 * PAGE);
	nr_told = 0;
	use = (struct gm_usage){.size = sizeof(use)};
	assert_ok(gm_space_extents(space, 0, 0, 0, note, NULL, NULL, &err));
	assert_int_equal(nr_told, 0);
	assert_ok(gm_space_extents(space, 0, GIB(2), 0, note, NULL, &use, &err));
	assert_told(0, AT, 3 * PAGE, GM_EXTENT_HOLE);
	assert_told(1, AT + 3 * PAGE, PAGE, GM_EXTENT_PRESENT);
	assert_int_equal(told[1].page_log2, 12);
	assert_told(2, AT + 4 * PAGE, 11 * PAGE, GM_EXTENT_HOLE);
	assert_told(3, AT + 15 * PAGE, PAGE, GM_EXTENT_PRESENT);
	assert_told(4, AT + 16 * PAGE, PAGE, GM_EXTENT_PRESENT);
	assert_told(5, AT + 17 * PAGE, 3 * PAGE, GM_EXTENT_HOLE);
	assert_told(6, AT + 20 * PAGE, PAGE, GM_EXTENT_ZERO);
	assert_told(7, AT + 21 * PAGE, 11 * PAGE, GM_EXTENT_HOLE);
	/* By its other name the same bytes: its own mapping may not have the page yet. */
	assert_true(nr_told >= 10);
	assert_int_equal(told[8].gpa, MIB(32));
	assert_told(nr_told - 1, MIB(64), PAGE, GM_EXTENT_FAR);
	assert_true(use.present >= 3 * PAGE);
	assert_int_equal(use.zero, PAGE);
	/* Cut to the byte. */
	nr_told = 0;
	assert_ok(gm_space_extents(space, AT + 3 * PAGE + 5, PAGE, 0, note, NULL, NULL, &err));
	assert_int_equal(nr_told, 2);
	assert_told(0, AT + 3 * PAGE + 5, PAGE - 5, GM_EXTENT_PRESENT);
	assert_told(1, AT + 4 * PAGE, 5, GM_EXTENT_HOLE);
	nr_told = 0;
	assert_int_equal(gm_space_extents(space, 0, GIB(2), 0, note, &stop_code, NULL, &err), 7);
	assert_int_equal(nr_told, 1);
	assert_fails(
		gm_space_extents(space, UINT64_MAX, 2, 0, note, NULL, NULL, &err), ERANGE, "wrap");
	stop();
}

static void ranges_are_populated(void **state)
{
	(void)state;
	for (int i = 0; i < BACKINGS; i++) {
		const struct backing *b = &backings[i];

		if (b->far || i == LOCKED || i == MEMFD_LOCKED)
			continue;
		start_backing(b);
		if (i != POINTER)
			assert_int_equal(usage(AT, LEN).present, 0);
		/* Outwards to pages, and not further. */
		assert_ok(gm_space_populate(space, AT + MIB(2) + 1, MIB(2), NULL, &err));
		assert_int_equal(usage(AT, LEN).present, MIB(2) + (i == THP ? MIB(2) : b->page));
		assert_int_equal(usage(AT, MIB(2)).present, 0);
		assert_int_equal(usage(AT + MIB(2), MIB(2)).present, MIB(2));
		stop_backing();
	}
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(MIB(2), MIB(2));
	add(MIB(8), MIB(2));
	assert_ok(gm_space_populate(space, 0, GIB(4), NULL, &err));
	assert_int_equal(usage(0, GIB(4)).present, MIB(4));
	assert_fails(gm_space_populate(space, 0, 1, GM_OPTS(gm_populate_opts, .off = PAGE), &err),
		EINVAL, "no offset");
	/* The error names the guest address. */
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_madvise, .nth = 1, .forever = true, .error = ENOMEM});
	assert_fails(gm_space_populate(space, MIB(9), PAGE, NULL, &err), ENOMEM, "populate");
	assert_int_equal(err.gpa, MIB(9));
	assert_true(fault_hits() > 0);
	fault_disarm();
	stop();
}

/* ---- sizes ---- */

static const struct gm_page_choice thp = {GM_PAGE_THP, 0};
static const struct gm_page_choice base = {GM_PAGE_BASE, 0};

static void wishes_hold_for_pages_that_come(void **state)
{
	const struct gm_page_choice odd = {GM_PAGE_THP, 16};
	const struct gm_page_choice bad[] = {
		{GM_PAGE_HUGETLB, 21}, {GM_PAGE_BASE, 12}, {GM_PAGE_THP, 5}};

	(void)state;
	assert_true(support_knob("/sys/kernel/mm/transparent_hugepage/enabled", "madvise"));
	start_backing(&backings[ANON]);
	/* Base pages everywhere; huge ones in the middle. */
	assert_ok(gm_policy_set(space, AT + MIB(2), MIB(4), &thp, &err));
	assert_ok(gm_space_populate(space, AT, LEN, NULL, &err));
	assert_int_equal(usage(AT, LEN).by_log2[21], MIB(4));
	assert_int_equal(usage(AT + MIB(2), MIB(4)).by_log2[21], MIB(4));
	assert_ok(gm_policy_set(space, AT, LEN, &base, &err));
	assert_ok(gm_discard(space, AT, LEN, GM_DISCARD_NOW, 0, NULL, &err));
	assert_ok(gm_space_populate(space, AT, LEN, NULL, &err));
	assert_int_equal(usage(AT, LEN).by_log2[21], 0);
	assert_int_equal(usage(AT, LEN).by_log2[12], LEN);
	if (support_knob("/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled", "never"))
		assert_fails(gm_policy_set(space, AT, LEN, &odd, &err), ENOTSUP, "64 kB");
	for (int i = 0; i < 3; i++)
		assert_fails(gm_policy_set(space, AT, LEN, &bad[i], &err), EINVAL, "at run time");
	stop_backing();
	start_backing(&backings[HUGETLB]);
	assert_fails(gm_policy_set(space, AT, LEN, &thp, &err), ENOTSUP, "explicit");
	assert_fails(gm_policy_collapse(space, AT, LEN, 0, NULL, &err), ENOTSUP, "explicit");
	assert_fails(gm_policy_split(space, AT, LEN, NULL, &err), ENOTSUP, "explicit");
	stop_backing();
	start_backing(&backings[POINTER]);
	assert_fails(gm_policy_set(space, AT, LEN, &thp, &err), ENOTSUP, "the caller");
	stop_backing();
	start_backing(&backings[UNMAPPED]);
	assert_fails(gm_policy_collapse(space, AT, LEN, 0, NULL, &err), ENOTSUP, "maps");
	stop_backing();
}

static void check_collapse(const struct backing *b)
{
	struct gm_policy_result *r = reached();

	start_backing(b);
	/* The first block full, the second with one page, the third empty, half of the fourth asked for. */
	fill_bytes(AT, 1, MIB(2));
	fill_bytes(AT + MIB(2) + 5, 2, 1);
	assert_int_equal(usage(AT, LEN).by_log2[21], 0);
	assert_ok(gm_policy_collapse(space, AT, MIB(7), 0, r, &err));
	assert_int_equal(r->blocks, 3);
	assert_int_equal(r->before, 0);
	assert_int_equal(r->huge, 2);
	assert_int_equal(r->added, MIB(2) - PAGE);
	assert_int_equal(usage(AT, LEN).by_log2[21], MIB(4));
	assert_bytes(AT, 1, MIB(2));
	assert_bytes(AT + MIB(2), 0, 5);
	assert_bytes(AT + MIB(2) + 5, 2, 1);
	assert_ok(gm_policy_collapse(space, AT, LEN, GM_POLICY_TOUCH, r, &err));
	assert_int_equal(r->blocks, 4);
	assert_int_equal(r->before, 2);
	assert_int_equal(r->huge, 4);
	assert_int_equal(r->added, MIB(4));
	assert_int_equal(usage(AT, LEN).by_log2[21], LEN);
	assert_bytes(AT, 1, MIB(2));
	assert_bytes(AT + MIB(4), 0, MIB(4));
	/* Split: only what is touched, then all. */
	fill_bytes(AT, 3, LEN);
	assert_ok(gm_policy_split(space, AT + MIB(2) + PAGE, PAGE, r, &err));
	assert_int_equal(r->before, 1);
	assert_int_equal(r->huge, 0);
	assert_int_equal(usage(AT, LEN).by_log2[21], MIB(6));
	assert_ok(gm_policy_split(space, AT, LEN, r, &err));
	assert_int_equal(r->before, 3);
	/* Shared ones are mapped anew by small pages when they are touched. */
	assert_bytes(AT, 3, LEN);
	assert_int_equal(usage(AT, LEN).by_log2[21], 0);
	assert_int_equal(usage(AT, LEN).by_log2[12], LEN);
	stop_backing();
}

static void huge_pages_are_made_and_split(void **state)
{
	/* memfds are not given any by this setting. */
	(void)state;
	assert_true(support_knob("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "never"));
	check_collapse(&(struct backing){"plain", {.len = 0}, PAGE});
	check_collapse(&backings[MEMFD]);
	check_collapse(&backings[ANON_SHARED]);
}

static void what_cannot_be_collapsed_is_said(void **state)
{
	struct gm_policy_result *r = reached();

	(void)state;
	start_backing(&(struct backing){"plain", {.len = 0}, PAGE});
	assert_fails(gm_policy_collapse(space, AT, LEN, 0, r, &err), EINVAL, "became a huge page");
	assert_int_equal(r->blocks, 4);
	assert_int_equal(r->huge, 0);
	assert_fails(
		gm_policy_collapse(space, AT + PAGE, MIB(2), 0, r, &err), EINVAL, "0 whole blocks");
	assert_fails(gm_policy_collapse(space, AT, LEN, 0x10, r, &err), EINVAL, "flags");
	assert_ok(gm_policy_collapse(space, AT, 0, 0, r, &err));
	fill_bytes(AT, 1, LEN);
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_madvise, .nth = 1, .forever = true, .error = ENOMEM});
	assert_fails(
		gm_policy_collapse(space, AT, LEN, GM_POLICY_TOUCH, r, &err), ENOMEM, "became");
	assert_int_equal(r->code, -ENOMEM);
	assert_true(fault_hits() > 0);
	fault_disarm();
	/* Try again: three times. */
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_madvise, .nth = 1, .forever = true, .error = EAGAIN});
	assert_fails(gm_policy_collapse(space, AT, LEN, 0, r, &err), EAGAIN, "became");
	assert_int_equal(fault_hits(), 3);
	fault_disarm();
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_madvise, .nth = 1, .error = EAGAIN});
	assert_ok(gm_policy_collapse(space, AT, LEN, 0, r, &err));
	assert_int_equal(r->huge, 4);
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_madvise, .nth = 1, .forever = true, .error = EINVAL});
	assert_fails(gm_policy_split(space, AT, LEN, r, &err), ENOTSUP, "locked");
	fault_disarm();
	assert_int_equal(usage(AT, LEN).by_log2[21], LEN);
	stop_backing();
}

static void the_hottest_blocks_come_first(void **state)
{
	struct gm_heat items[] = {
		{1, AT}, {9, AT + MIB(2) + 77}, {5, AT + MIB(4)}, {7, MIB(900)}, {9, AT + MIB(3)}};
	struct gm_policy_result *r = reached();

	(void)state;
	start_backing(&(struct backing){"plain", {.len = 0}, PAGE});
	for (uint64_t at = 0; at < LEN; at += MIB(2))
		fill_bytes(AT + at, 1, MIB(1));
	/* Each costs 1 MiB: two of them. */
	assert_ok(gm_policy_promote(space, items, 5, MIB(2), 0, r, &err));
	assert_int_equal(r->huge, 3); /* one named twice */
	assert_int_equal(r->before, 1);
	assert_int_equal(r->added, MIB(2));
	assert_int_equal(r->over, 1);
	assert_int_equal(usage(AT, MIB(2)).by_log2[21], 0);
	assert_int_equal(usage(AT + MIB(2), MIB(4)).by_log2[21], MIB(4));
	/* In the caller's order, also where nothing is: the guest's page tables. */
	assert_ok(gm_discard(space, AT, LEN, GM_DISCARD_NOW, 0, NULL, &err));
	items[0] = (struct gm_heat){0, AT + MIB(6)};
	items[1] = (struct gm_heat){9, AT};
	assert_ok(gm_policy_promote(
		space, items, 2, MIB(2), GM_POLICY_IN_ORDER | GM_POLICY_TOUCH, r, &err));
	assert_int_equal(r->huge, 1);
	assert_int_equal(r->over, 1);
	assert_int_equal(r->added, MIB(2));
	assert_int_equal(usage(AT + MIB(6), MIB(2)).by_log2[21], MIB(2));
	assert_int_equal(usage(AT, MIB(6)).present, 0);
	assert_fails(gm_policy_promote(space, items, 2, 0, 0x40, r, &err), EINVAL, "flags");
	stop_backing();
}

/* ---- pools ---- */

static uint64_t pool(const char *name, unsigned int kib)
{
	char path[128];
	unsigned long nr = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%ukB/%s", kib, name);
	file = fopen(path, "r");
	if (!file || fscanf(file, "%lu", &nr) != 1)
		nr = 0;
	if (file)
		fclose(file);
	return nr;
}

static void a_pool_is_demoted_but_for_what_is_used(void **state)
{
	uint64_t done = 7;
	char text[24];
	uint64_t small;
	uint64_t spare;
	struct gm_block *held;

	(void)state;
	/* The smaller pool grows: both are put back at exit, this one first. */
	snprintf(text, sizeof(text), "%lu", (unsigned long)pool("nr_hugepages", 2048));
	assert_true(support_knob("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", text));
	if (!support_pool(30, 1)) {
		printf("skipped: the host has no room for a page of 1 GiB\n");
		skip();
	}
	small = pool("nr_hugepages", 2048);
	/* All are promised to a mapping that has not touched them. */
	spare = pool("free_hugepages", 1048576) - pool("resv_hugepages", 1048576);
	assert_ok(gm_block_create(
		BLOCK(.len = GIB(1) * spare, .pages = {{GM_PAGE_HUGETLB, 30}}), &held, &err));
	assert_fails(gm_host_demote(GIB(1), 1, &done, &err), EBUSY, "free and not promised");
	assert_int_equal(done, 0);
	assert_int_equal(pool("nr_hugepages", 2048), small);
	assert_ok(gm_block_populate(held, NULL, &err));
	assert_fails(gm_host_demote(GIB(1), 1, &done, &err), EBUSY, "");
	gm_block_put(held);
	assert_fails(gm_host_demote(GIB(1), spare + 1, &done, &err), EBUSY, "");
	assert_ok(gm_host_demote(GIB(1), 1, &done, &err));
	assert_int_equal(done, 1);
	assert_int_equal(pool("nr_hugepages", 2048), small + 512);
	assert_fails(gm_host_demote(MIB(3), 1, &done, &err), ENOTSUP, "no pool");
	assert_fails(gm_host_demote(MIB(2), 1, &done, &err), ENOTSUP, "demote");
	assert_ok(gm_host_demote(GIB(1), 0, &done, &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(extents_are_told_by_guest_address),
		cmocka_unit_test(ranges_are_populated),
		cmocka_unit_test(wishes_hold_for_pages_that_come),
		cmocka_unit_test(huge_pages_are_made_and_split),
		cmocka_unit_test(what_cannot_be_collapsed_is_said),
		cmocka_unit_test(the_hottest_blocks_come_first),
		cmocka_unit_test(a_pool_is_demoted_but_for_what_is_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
