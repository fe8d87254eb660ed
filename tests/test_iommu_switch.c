/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_iommu_switch.c - an IOMMU that lets addresses through, or is led to another space, beside readers: each
 * access goes one way or the other, with the translations of that way.
 */
#include <errno.h>
#include <guestmem/iommu.h>
#include <guestmem/slice.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "random.h"
#include "support.h"

#define DESC(...) GM_OPTS(gm_region_desc, __VA_ARGS__)
#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)
#define PAGE UINT64_C(4096)
#define PAGES 64u
#define TOP UINT64_MAX

/* Two spaces with memory, @upper over @lower, and one of IOVAs over both. */
static struct gm_error err;
static struct gm_space *lower;
static struct gm_space *upper;
static struct gm_space *iova;
static struct gm_iommu *iommu;
static struct gm_reader *reader;

/* The first word of each page says of which space and which page it is. */
static uint64_t tag_of(const struct gm_space *space, uint64_t page)
{
	return (space == upper ? 1000 : 0) + page + 1;
}

static void tag_pages(struct gm_space *space)
{
	struct gm_reader *own;

	assert_ok(gm_space_add(space, DESC(.backing = BLOCK(.len = PAGES * PAGE)), NULL, &err));
	assert_ok(gm_reader_create(space, "tags", &own, &err));
	for (uint64_t i = 0; i < PAGES; i++)
		assert_int_equal(gm_write_u64(gm_reader_enter(own), i * PAGE, tag_of(space, i)), 0);
	for (uint64_t i = 0; i < PAGES; i++)
		gm_reader_leave(own);
	gm_reader_destroy(own);
}

static void begin(const struct gm_iommu_opts *opts)
{
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = GIB(1), .name = "lower"), &lower, &err));
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = GIB(1), .over = lower, .name = "upper"), &upper,
		&err));
	tag_pages(lower);
	tag_pages(upper);
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW, .over = upper), &iova,
		&err));
	assert_ok(gm_iommu_create(upper, opts, &iommu, &err));
	assert_ok(gm_space_add(iova, DESC(.kind = GM_REGION_IOMMU, .iommu = iommu), NULL, &err));
	assert_ok(gm_reader_create(iova, "device", &reader, &err));
}

static void end(void)
{
	gm_reader_destroy(reader);
	gm_space_destroy(iova);
	gm_iommu_put(iommu);
	gm_space_destroy(upper);
	gm_space_destroy(lower);
}

/* What a function returns in a section of the reader. */
#define IN_SECTION(call)                                                                           \
	({                                                                                         \
		const struct gm_view *view = gm_reader_enter(reader);                              \
		int rc_ = (call);                                                                  \
                                                                                                   \
		gm_reader_leave(reader);                                                           \
		rc_;                                                                               \
	})

static void assert_reads(uint64_t addr, const struct gm_space *space, uint64_t page)
{
	uint64_t tag = 0;

	assert_int_equal(IN_SECTION(gm_read_u64(view, addr, &tag)), 0);
	assert_int_equal(tag, tag_of(space, page));
}

static void assert_route(const struct gm_space *target, uint32_t flags)
{
	struct gm_iommu_info info = {.size = sizeof(info)};

	assert_int_equal(gm_iommu_info(iommu, &info), 0);
	assert_ptr_equal(info.target, target);
	assert_int_equal(info.flags, flags);
}

/* ---- one thread ---- */

static void addresses_are_let_through_untranslated(void **state)
{
	struct gm_iommu_part part = {0};
	struct iovec slice;
	struct gm_pin pin;
	uint64_t value;
	size_t needed;
	size_t done;

	(void)state;
	begin(GM_OPTS(gm_iommu_opts, .flags = GM_IOMMU_BYPASS));
	assert_route(upper, GM_IOMMU_BYPASS);
	assert_reads(5 * PAGE, upper, 5);
	/* What lies below decides, to the byte and up to the last one. */
	assert_int_equal(
		IN_SECTION(gm_fill(view, (PAGES - 1) * PAGE + 8, 0, 2 * PAGE, &done)), -EFAULT);
	assert_int_equal(done, PAGE - 8);
	assert_int_equal(IN_SECTION(gm_read_u8(view, TOP, &(uint8_t){0})), -EFAULT);
	assert_int_equal(IN_SECTION(gm_view_check(view, TOP, 2, GM_PERM_R)), -ERANGE);
	assert_int_equal(IN_SECTION(gm_view_check(view, PAGES * PAGE - 1, 0, GM_PERM_R)), 0);
	assert_int_equal(IN_SECTION(gm_view_check(view, PAGES * PAGE, 0, GM_PERM_R)), -EFAULT);
	assert_int_equal(gm_iommu_translate(iommu, 77, 1000, GM_PERM_RW, &part, 1, &needed), 0);
	assert_int_equal(needed, 1);
	assert_true(part.iova == 77 && part.target == 77 && part.len == 1000 &&
		    part.state == GM_IOMMU_GOOD && part.perms == GM_PERM_RW);
	assert_int_equal(gm_iommu_translate(iommu, TOP, 2, GM_PERM_R, &part, 1, &needed), -ERANGE);
	assert_int_equal(gm_iommu_translate(iommu, 0, 1, GM_PERM_R, NULL, 0, &needed), -ENOBUFS);
	/* A translation is kept beside it, and holds when it is asked for again. */
	assert_ok(gm_iommu_map(iommu, 5 * PAGE, PAGE, 9 * PAGE, GM_PERM_R, &err));
	assert_reads(5 * PAGE, upper, 5);
	assert_int_equal(IN_SECTION(gm_pin_slice(view, 5 * PAGE, 8, GM_PERM_RW, &slice, &pin)), 0);
	assert_ok(gm_iommu_switch(iommu, NULL, 0, &err));
	assert_route(upper, 0);
	assert_reads(5 * PAGE, upper, 9);
	assert_int_equal(IN_SECTION(gm_write_u64(view, 5 * PAGE, 1)), -EACCES);
	assert_int_equal(IN_SECTION(gm_read_u64(view, 6 * PAGE, &value)), -EFAULT);
	/* What was pinned before leads where it did. */
	assert_int_equal(*(uint64_t *)slice.iov_base, tag_of(upper, 5));
	gm_pin_put(&pin);
	assert_ok(gm_iommu_switch(iommu, NULL, GM_IOMMU_BYPASS | GM_IOMMU_FORGET, &err));
	assert_reads(5 * PAGE, upper, 5);
	assert_ok(gm_iommu_switch(iommu, NULL, 0, &err));
	assert_int_equal(IN_SECTION(gm_read_u64(view, 5 * PAGE, &value)), -EFAULT);
	assert_fails(gm_iommu_switch(iommu, NULL, 4, &err), EINVAL, "flags 0x4");
	assert_route(upper, 0);
	end();
	assert_fails(gm_iommu_create(
			     NULL, GM_OPTS(gm_iommu_opts, .flags = GM_IOMMU_FORGET), &iommu, &err),
		EINVAL, "flags 0x2");
}

/* A region's own permissions hold, and where it lies does not matter. */
static void what_is_let_through_keeps_to_its_region(void **state)
{
	struct gm_space *part;
	struct gm_reader *own;
	uint64_t value = 0;

	(void)state;
	begin(GM_OPTS(gm_iommu_opts, .flags = GM_IOMMU_BYPASS));
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW, .over = upper), &part,
		&err));
	assert_ok(gm_space_add(part,
		DESC(.kind = GM_REGION_IOMMU, .iommu = iommu, .gpa = GIB(8), .len = 4 * PAGE,
			.perms = GM_PERM_R),
		NULL, &err));
	assert_ok(gm_reader_create(part, "part", &own, &err));
	/* The IOVA is the offset in the region. */
	assert_int_equal(gm_read_u64(gm_reader_enter(own), GIB(8) + 3 * PAGE, &value), 0);
	assert_int_equal(value, tag_of(upper, 3));
	assert_int_equal(gm_write_u64(gm_reader_enter(own), GIB(8), 1), -EACCES);
	assert_int_equal(gm_read_u64(gm_reader_enter(own), 3 * PAGE, &value), -EFAULT);
	assert_int_equal(gm_read_u64(gm_reader_enter(own), GIB(8) + 4 * PAGE - 4, &value), -EFAULT);
	for (int i = 0; i < 4; i++)
		gm_reader_leave(own);
	gm_reader_destroy(own);
	gm_space_destroy(part);
	end();
}

static void an_iommu_is_led_to_another_space(void **state)
{
	struct gm_space *other;
	struct gm_iommu *low;
	const struct gm_view *view;
	uint64_t value;

	(void)state;
	begin(NULL);
	assert_ok(gm_iommu_map(iommu, 0, PAGES * PAGE, 0, GM_PERM_RW, &err));
	assert_reads(7 * PAGE, upper, 7);
	assert_ok(gm_iommu_switch(iommu, lower, 0, &err));
	assert_route(lower, 0);
	assert_reads(7 * PAGE, lower, 7);
	assert_ok(gm_iommu_switch(iommu, upper, GM_IOMMU_BYPASS, &err));
	assert_reads(7 * PAGE, upper, 7);
	/* A section may see both, and keeps the maps of both. */
	view = gm_reader_enter(reader);
	assert_int_equal(gm_read_u64(view, 0, &value), 0);
	assert_int_equal(value, tag_of(upper, 0));
	assert_ok(gm_iommu_switch(iommu, lower, GM_IOMMU_FORGET, &err));
	assert_int_equal(gm_read_u64(view, 0, &value), -EFAULT);
	assert_fails(gm_space_synchronize(iova, 1000000, &err), ETIMEDOUT, "device");
	gm_reader_leave(reader);
	assert_ok(gm_space_synchronize(iova, 0, &err));
	/* Not to where it could lead round in a circle, nor to a map that sections do not keep. */
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = GIB(1), .name = "other"), &other, &err));
	assert_fails(gm_iommu_switch(iommu, other, 0, &err), EINVAL, "\"other\"");
	assert_fails(gm_iommu_switch(iommu, iova, 0, &err), EINVAL, "higher");
	assert_ok(gm_iommu_create(lower, NULL, &low, &err));
	assert_fails(gm_iommu_switch(low, upper, 0, &err), EINVAL, "\"upper\"");
	assert_route(lower, 0);
	/* Where it leads now does not say where it may be: it can be led up again. */
	assert_fails(
		gm_space_add(upper,
			DESC(.gpa = GIB(2), .len = PAGE, .kind = GM_REGION_IOMMU, .iommu = iommu),
			NULL, &err),
		EINVAL, "over which");
	gm_iommu_put(low);
	gm_space_destroy(other);
	end();
}

/* A length of 0, which a peer may send, is neither nothing nor everything. */
static void no_length_is_a_trap(void **state)
{
	uint64_t value;

	(void)state;
	begin(NULL);
	assert_ok(gm_iommu_map(iommu, 0, PAGE, 3 * PAGE, GM_PERM_RW, &err));
	assert_fails(gm_iommu_map(iommu, 0, 0, 0, GM_PERM_RW, &err), EINVAL, "no bytes");
	assert_fails(gm_iommu_map(iommu, 5, 0, 0, GM_PERM_RW, &err), EINVAL, "no bytes");
	assert_int_equal(gm_iommu_unmap(iommu, 0, 0), -EINVAL);
	assert_int_equal(gm_iommu_unmap(iommu, 5, 0), -EINVAL);
	assert_int_equal(gm_iommu_unmap(iommu, 1, TOP - 1), 0);
	assert_int_equal(IN_SECTION(gm_read_u8(view, 0, &(uint8_t){0})), 0);
	assert_int_equal(IN_SECTION(gm_read_u64(view, 0, &value)), -EFAULT);
	assert_ok(gm_iommu_map(iommu, 0, PAGE, 3 * PAGE, GM_PERM_RW, &err));
	assert_reads(0, upper, 3);
	gm_iommu_unmap_all(iommu);
	assert_int_equal(IN_SECTION(gm_read_u64(view, 0, &value)), -EFAULT);
	end();
}

/* ---- who waits ---- */

static int asked;

static int never_answer(void *ctx, uint64_t addr, uint64_t len, uint32_t perms)
{
	(void)ctx;
	(void)addr;
	(void)len;
	(void)perms;
	__atomic_fetch_add(&asked, 1, __ATOMIC_RELEASE);
	return 0;
}

static void *read_and_wait(void *arg)
{
	struct gm_reader *own;
	uint64_t *value = arg;

	if (gm_reader_create(iova, "waits", &own, NULL))
		return NULL;
	if (gm_read_u64(gm_reader_enter(own), 8 * PAGE, value))
		*value = TOP;
	gm_reader_leave(own);
	gm_reader_destroy(own);
	return NULL;
}

static void who_waits_for_a_translation_goes_on_with_the_switch(void **state)
{
	uint64_t value = 0;
	pthread_t thread;

	(void)state;
	begin(GM_OPTS(gm_iommu_opts, .miss = never_answer, .timeout_ns = UINT64_C(60000000000)));
	asked = 0;
	assert_int_equal(pthread_create(&thread, NULL, read_and_wait, &value), 0);
	while (!__atomic_load_n(&asked, __ATOMIC_ACQUIRE))
		gm_space_reclaim(iova);
	assert_ok(gm_iommu_switch(iommu, lower, GM_IOMMU_BYPASS, &err));
	pthread_join(thread, NULL);
	assert_int_equal(value, tag_of(lower, 8));
	/* What was asked of the space before is asked of the next one anew. */
	assert_ok(gm_iommu_switch(iommu, NULL, 0, &err));
	assert_int_equal(pthread_create(&thread, NULL, read_and_wait, &value), 0);
	while (__atomic_load_n(&asked, __ATOMIC_ACQUIRE) < 2)
		gm_space_reclaim(iova);
	assert_ok(gm_iommu_switch(iommu, upper, 0, &err));
	while (__atomic_load_n(&asked, __ATOMIC_ACQUIRE) < 3)
		gm_space_reclaim(iova);
	assert_ok(gm_iommu_map(iommu, 8 * PAGE, PAGE, 9 * PAGE, GM_PERM_R, &err));
	pthread_join(thread, NULL);
	assert_int_equal(value, tag_of(upper, 9));
	end();
}

/* ---- beside readers ---- */

#define READERS 2

static int stop;
static uint64_t seen[4]; /* by the way that was gone */
static uint64_t bad;

/*
 * The lower space is reached straight or by translations that change nothing, the upper one by translations
 * that turn pages around: no other sort of page is seen.
 */
static void *read_on(void *arg)
{
	struct rng rng = {(uintptr_t)arg};
	struct gm_reader *own;

	if (gm_reader_create(iova, "reads", &own, NULL))
		return NULL;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		/* The middle is the same both ways. */
		uint64_t page = rng_below(&rng, PAGES);
		uint64_t tag = 0;
		int rc = gm_read_u64(gm_reader_enter(own), page * PAGE, &tag);
		int way = rc                                       ? 0
			  : tag == tag_of(lower, page)             ? 1
			  : tag == tag_of(upper, PAGES - 1 - page) ? 2
								   : 3;

		gm_reader_leave(own);
		if (way == 3 || (rc && rc != -EFAULT))
			__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&seen[way], 1, __ATOMIC_RELAXED);
	}
	gm_reader_destroy(own);
	return NULL;
}

static void map_pages(bool around)
{
	for (uint64_t i = 0; i < PAGES; i++)
		assert_ok(gm_iommu_map(iommu, i * PAGE, PAGE, (around ? PAGES - 1 - i : i) * PAGE,
			GM_PERM_R, &err));
}

static void readers_go_one_way_or_the_other(void **state)
{
	pthread_t threads[READERS];
	unsigned long n = 0;

	(void)state;
	begin(NULL);
	stop = 0;
	bad = 0;
	memset(seen, 0, sizeof(seen));
	for (uintptr_t i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_on, (void *)(i + 1)), 0);
	while (n < support_scale(3000) || __atomic_load_n(&seen[1], __ATOMIC_RELAXED) < 2000 ||
		__atomic_load_n(&seen[2], __ATOMIC_RELAXED) < 2000) {
		bool up = n++ % 2;
		bool straight = !up && n % 3 == 0;

		assert_ok(gm_iommu_switch(iommu, up ? upper : lower,
			GM_IOMMU_FORGET | (straight ? GM_IOMMU_BYPASS : 0), &err));
		if (!straight)
			map_pages(up);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	printf("figure: iommu-switches %lu\n", n);
	assert_int_equal(bad, 0);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_let_through_untranslated),
		cmocka_unit_test(what_is_let_through_keeps_to_its_region),
		cmocka_unit_test(an_iommu_is_led_to_another_space),
		cmocka_unit_test(no_length_is_a_trap),
		cmocka_unit_test(who_waits_for_a_translation_goes_on_with_the_switch),
		cmocka_unit_test(readers_go_one_way_or_the_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
