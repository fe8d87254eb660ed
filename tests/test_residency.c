/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_residency.c - what backs memory, to the byte: every kind of memory, in this process and in a
 * foreign one, by every engine, and against what smaps says.
 */
#include "support.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kinds.h"

#define THP_DIR "/sys/kernel/mm/transparent_hugepage/"

/* Sum of the values of @key over the mappings of @pid that lie in the range. */
static uint64_t smaps_sum(pid_t pid, const struct kind *kind, const char *key)
{
	uint64_t from = (uintptr_t)kind->addr;
	char path[48] = "/proc/self/smaps";
	bool inside = false;
	uint64_t sum = 0;
	char line[512];
	FILE *file;

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		unsigned long first;
		unsigned long end;

		if (sscanf(line, "%lx-%lx ", &first, &end) == 2)
			inside = first >= from && end <= from + kind->len;
		else if (inside && strncmp(line, key, strlen(key)) == 0)
			sum += strtoull(line + strlen(key), NULL, 10) * 1024;
	}
	fclose(file);
	return sum;
}

static void agrees_with_smaps(pid_t pid, const struct kind *kind, const struct gm_usage *usage)
{
	uint64_t hugetlb =
		smaps_sum(pid, kind, "Shared_Hugetlb:") + smaps_sum(pid, kind, "Private_Hugetlb:");
	uint64_t pmd = smaps_sum(pid, kind, "AnonHugePages:") +
		       smaps_sum(pid, kind, "ShmemPmdMapped:") +
		       smaps_sum(pid, kind, "FilePmdMapped:");

	assert_int_equal(usage->present, smaps_sum(pid, kind, "Rss:") + hugetlb);
	assert_int_equal(usage->by_log2[21] + usage->by_log2[30], pmd + hugetlb);
	assert_int_equal(usage->swapped, smaps_sum(pid, kind, "Swap:"));
}

/* What is expected if folios and sharing are not looked up. */
static struct gm_usage without(const struct gm_usage *full, uint32_t flags)
{
	struct gm_usage want = *full;

	if (!(flags & GM_RESIDENCY_SHARED))
		want.shared = 0;
	/* Without PAGEMAP_SCAN folios must be looked at anyhow. */
	if (flags & (GM_RESIDENCY_FOLIOS | GM_RESIDENCY_NO_SCAN))
		return want;
	want.ksm = 0;
	want.split = 0;
	for (unsigned int log2 = 13; log2 < 21; log2++) {
		want.by_log2[12] += want.by_log2[log2];
		want.by_log2[log2] = 0;
	}
	return want;
}

static void same(const struct gm_usage *got, const struct gm_usage *want)
{
	assert_int_equal(got->present, want->present);
	assert_int_equal(got->zero, want->zero);
	assert_int_equal(got->swapped, want->swapped);
	assert_int_equal(got->shared, want->shared);
	assert_int_equal(got->ksm, want->ksm);
	assert_int_equal(got->split, want->split);
	assert_memory_equal(got->by_log2, want->by_log2, sizeof(got->by_log2));
}

struct seen {
	uint64_t at; /* nothing may come before it */
	uint64_t end;
	struct gm_usage sum;
};

static int in_order(void *arg, const struct gm_extent *e)
{
	struct seen *seen = arg;

	assert_true(e->len > 0 && e->start >= seen->at && e->len <= seen->end - e->start);
	seen->at = e->start + e->len;
	seen->sum.extents++;
	if (e->state == GM_EXTENT_PRESENT) {
		seen->sum.present += e->len;
		seen->sum.by_log2[e->page_log2] += e->len;
	} else if (e->state == GM_EXTENT_ZERO) {
		seen->sum.zero += e->len;
	} else {
		assert_int_equal(e->state, GM_EXTENT_SWAPPED);
		seen->sum.swapped += e->len;
	}
	return 0;
}

static void look_at(pid_t pid, const struct kind *kind)
{
	static const uint32_t ways[] = {0, GM_RESIDENCY_FOLIOS, GM_RESIDENCY_SHARED,
		GM_RESIDENCY_FOLIOS | GM_RESIDENCY_SHARED, GM_RESIDENCY_NO_SCAN,
		GM_RESIDENCY_NO_SCAN | GM_RESIDENCY_FOLIOS | GM_RESIDENCY_SHARED};
	struct gm_residency *res;
	struct gm_error err;

	assert_ok(gm_residency_open(pid, &res, &err));
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct gm_usage want = without(&kind->want, ways[i]);
		struct gm_usage got = {.size = sizeof(got)};
		uint64_t start = (uintptr_t)kind->addr;
		struct seen seen = {.at = start, .end = start + kind->len};

		assert_ok(gm_residency_usage(res, start, kind->len, ways[i], &got, &err));
		same(&got, &want);
		agrees_with_smaps(pid, kind, &got);
		assert_ok(gm_residency_extents(
			res, start, kind->len, ways[i], in_order, &seen, &got, &err));
		same(&got, &want);
		assert_int_equal(seen.sum.present, want.present);
		assert_int_equal(seen.sum.extents, got.extents);
		assert_memory_equal(seen.sum.by_log2, want.by_log2, sizeof(want.by_log2));
		assert_int_equal(got.sources & GM_SOURCE_SCAN ? 1 : 0,
			ways[i] & GM_RESIDENCY_NO_SCAN ? 0 : 1);
	}
	gm_residency_close(res);
}

/* The memory is made by a child, and looked at from here. */
static void look_at_foreign(kind_maker *make)
{
	struct kind kind;
	int status;
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		make(&kind);
		kind_need(write(fds[1], &kind, sizeof(kind)) == (ssize_t)sizeof(kind), "write");
		pause();
		_exit(0);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &kind, sizeof(kind)), sizeof(kind));
	close(fds[0]);
	look_at(pid, &kind);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void check(kind_maker *make)
{
	struct kind kind;

	make(&kind);
	look_at(0, &kind);
	munmap(kind.addr, kind.len);
	look_at_foreign(make);
}

static void thp_on_advice(void)
{
	assert_true(support_knob(THP_DIR "enabled", "madvise"));
}

static void every_other_base_page_is_counted_once(void **state)
{
	(void)state;
	check(kind_anon_every_other_page);
}

static void transparent_huge_pages_count_as_2m(void **state)
{
	(void)state;
	thp_on_advice();
	check(kind_anon_thp);
}

static void zero_pages_are_told_from_memory(void **state)
{
	(void)state;
	thp_on_advice();
	check(kind_zero_pages);
}

static void a_memfd_counts_as_far_as_it_is_mapped(void **state)
{
	(void)state;
	check(kind_memfd_base);
}

static void collapsed_memfd_pages_count_as_2m(void **state)
{
	(void)state;
	assert_true(support_knob(THP_DIR "shmem_enabled", "advise"));
	check(kind_memfd_collapsed);
}

static void multi_size_pages_count_by_their_folio(void **state)
{
	(void)state;
	assert_true(support_knob(THP_DIR "hugepages-64kB/enabled", "madvise"));
	assert_true(support_knob(THP_DIR "hugepages-2048kB/enabled", "never"));
	check(kind_multi_size);
	check(kind_multi_size_parts);
	assert_true(support_knob(THP_DIR "hugepages-64kB/enabled", "never"));
	assert_true(support_knob(THP_DIR "hugepages-2048kB/enabled", "inherit"));
}

static void explicit_huge_pages_count_by_their_size(void **state)
{
	(void)state;
	assert_true(support_pool(21, 4));
	check(kind_hugetlb_2m);
	assert_true(support_pool(30, 1));
	check(kind_hugetlb_1g);
}

static void pages_mapped_twice_are_shared(void **state)
{
	(void)state;
	check(kind_mapped_twice);
	assert_true(support_pool(30, 1));
	look_at_foreign(kind_hugetlb_1g_twice);
}

static void a_punched_hole_is_absent(void **state)
{
	(void)state;
	check(kind_punched);
}

static void a_huge_page_in_small_entries_counts_as_base_pages(void **state)
{
	(void)state;
	thp_on_advice();
	check(kind_split);
}

static void guard_pages_are_absent(void **state)
{
	(void)state;
	check(kind_guarded);
}

static void swapped_pages_are_counted(void **state)
{
	(void)state;
	if (!kind_swap_on())
		skip();
	check(kind_swapped);
}

static void merged_pages_are_counted(void **state)
{
	(void)state;
	assert_true(support_knob("/sys/kernel/mm/ksm/run", "1"));
	check(kind_merged);
	assert_true(support_knob("/sys/kernel/mm/ksm/run", "0"));
}

static void neighbours_of_different_kinds_are_told_apart(void **state)
{
	(void)state;
	thp_on_advice();
	assert_true(support_pool(21, 1));
	check(kind_mixed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_other_base_page_is_counted_once),
		cmocka_unit_test(transparent_huge_pages_count_as_2m),
		cmocka_unit_test(zero_pages_are_told_from_memory),
		cmocka_unit_test(a_memfd_counts_as_far_as_it_is_mapped),
		cmocka_unit_test(collapsed_memfd_pages_count_as_2m),
		cmocka_unit_test(multi_size_pages_count_by_their_folio),
		cmocka_unit_test(explicit_huge_pages_count_by_their_size),
		cmocka_unit_test(pages_mapped_twice_are_shared),
		cmocka_unit_test(a_punched_hole_is_absent),
		cmocka_unit_test(a_huge_page_in_small_entries_counts_as_base_pages),
		cmocka_unit_test(guard_pages_are_absent),
		cmocka_unit_test(swapped_pages_are_counted),
		cmocka_unit_test(merged_pages_are_counted),
		cmocka_unit_test(neighbours_of_different_kinds_are_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
