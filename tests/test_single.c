/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_single.c - an aligned number of guest memory is read, written or changed by one instruction, which
 * touches nothing else: by every function, in every sort of memory, seen by stepping through the accesses.
 *
 * test_single [FILE [LEAST]]: with single_inline.c as a shared object, compiled in some other way, which has at
 * least so many accesses.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "one_space.h"
#include "single.h"
#include "sys/guard.h"

#define PAGE ((uint64_t)SINGLE_PAGE)
#define ASIDE (PAGE * 40 + 1) /* where nothing is aligned */

#ifdef GM_GUARD_GENERIC
#define HAS_16 false
#else
#define HAS_16 true
#endif

static const struct single_access *inline_accesses = single_inline;
static size_t inline_nr;
static size_t inline_least = 100;
static bool steps;

/* ---- memory of every sort ---- */

static struct gm_space *iova;
static struct gm_iommu *iommu;
static struct gm_reader *device;
static uint8_t *provided; /* three pages of a backend */
static uint8_t *bar;      /* three pages of a device */

/* Where the page is that is watched: in the middle of three, at @gpa of @reader's view. */
struct place {
	const char *name;
	struct gm_reader **reader;
	uint64_t gpa;
	bool no_rmw;
};

static const struct place places[] = {
	{"the main memory", &reader, 8 * PAGE, false},
	{"other memory of the window", &reader, GIB(1) + PAGE, false},
	{"memory outside of the window", &reader, GIB(32) + PAGE, false},
	{"a device's memory", &reader, GIB(2) + PAGE, true},
	{"a backend that translates", &reader, GIB(3) + PAGE, false},
	{"a backend that maps", &reader, GIB(4) + PAGE, false},
	{"memory behind an IOMMU", &device, 20 * PAGE + PAGE, false},
};

static int at(void *ctx, uint64_t off, uint64_t len, uint32_t perms, struct gm_backend_piece *ret)
{
	(void)ctx;
	*ret = (struct gm_backend_piece){.hva = provided + off, .len = len, .perms = perms};
	return 0;
}

static void no_more(void *ctx, const struct gm_backend_piece *piece)
{
	(void)ctx;
	(void)piece;
}

static uint8_t *three_pages(void)
{
	void *pages =
		mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(pages != MAP_FAILED);
	return pages;
}

static void add_backend(uint64_t gpa, const struct gm_backend_ops *ops)
{
	assert_ok(gm_space_add(space,
		DESC(.gpa = gpa,
			.backing = BLOCK(.len = 3 * PAGE, .backing = GM_BACKING_OPS, .ops = ops)),
		NULL, &err));
}

static void start_places(void)
{
	provided = three_pages();
	bar = three_pages();
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(16)));
	add(0, 64 * PAGE);
	add(GIB(1), 3 * PAGE);
	add(GIB(32), 3 * PAGE);
	assert_ok(gm_space_add(space,
		DESC(.gpa = GIB(2), .kind = GM_REGION_DEVMEM,
			.backing =
				BLOCK(.len = 3 * PAGE, .backing = GM_BACKING_POINTER, .addr = bar)),
		NULL, &err));
	add_backend(GIB(3), GM_OPTS(gm_backend_ops, .translate = at));
	add_backend(GIB(4), GM_OPTS(gm_backend_ops, .map = at, .unmap = no_more));
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW, .over = space), &iova,
		&err));
	assert_ok(gm_iommu_create(space, NULL, &iommu, &err));
	assert_ok(gm_space_add(iova, DESC(.kind = GM_REGION_IOMMU, .iommu = iommu), NULL, &err));
	assert_ok(gm_iommu_map(iommu, 20 * PAGE, 3 * PAGE, 7 * PAGE, GM_PERM_RW, &err));
	assert_ok(gm_iommu_map(iommu, ASIDE, 16, ASIDE, GM_PERM_RW, &err));
	assert_ok(gm_reader_create(iova, "device", &device, &err));
}

static void stop_places(void)
{
	gm_reader_destroy(device);
	gm_space_destroy(iova);
	gm_iommu_put(iommu);
	stop();
	munmap(provided, 3 * PAGE);
	munmap(bar, 3 * PAGE);
}

static uint8_t *page_of(const struct place *place)
{
	struct gm_region_info info = {.size = sizeof(info)};
	uint64_t gpa = place->reader == &device ? 8 * PAGE : place->gpa;

	if (gpa / GIB(1) == 3 || gpa / GIB(1) == 4)
		return provided + PAGE;
	assert_int_equal(gm_space_next(space, gpa, &info), 0);
	return (uint8_t *)info.hva + (gpa - info.gpa);
}

/* ---- one access ---- */

static uint64_t expected(const struct single_access *access, size_t width, uint64_t n)
{
	return access->swapped ? __builtin_bswap64(n) >> (64 - 8 * width) : n;
}

/* What an access is given, and what it must have done when it is over. */
struct trial {
	const struct single_access *access;
	const struct place *place;
	size_t width;
	size_t off;
};

static void fail_trial(const struct trial *t, const char *what)
{
	fail_msg("%s, %zu bytes at byte %zu of a page of %s: %s", t->access->name, t->width, t->off,
		t->place->name, what);
}

static void check_values(const struct trial *t, const uint8_t *number, const uint64_t *num)
{
	uint64_t is = 0;

	if (t->access->kind == SINGLE_RMW || t->access->kind == SINGLE_CHANGE)
		return;
	memcpy(&is, number, t->width);
	if (strstr(t->access->name, "fill")) {
		for (size_t i = 0; i < t->width; i++)
			assert_int_equal(number[i], (uint8_t)num[0]);
	} else if (memcmp(&(uint64_t){expected(t->access, t->width, num[0])}, &is, t->width)) {
		fail_trial(t, "another number is there, or was read");
	}
}

static void check_trial(const struct trial *t, const struct single_at *where, uint8_t *page)
{
	static const uint8_t olds[] = {0x1a, 0x2b, 0x3c, 0x4d, 0x5e, 0x6f, 0x70, 0x81, 0x92, 0xa3,
		0xb4, 0xc5, 0xd6, 0xe7, 0xf8, 0x09};
	uint64_t num[4] = {UINT64_C(0xf1e2d3c4b5a69788), UINT64_C(0x1122334455667788), 0, 0};
	bool zero = strcmp(t->access->name, "is_zero") == 0;
	const char *wrong;
	int rc;

	memset(page - PAGE, 0xee, 3 * PAGE);
	memcpy(page + t->off, olds, t->width);
	if (zero)
		memset(page + t->off, 0, t->width);
	memcpy(&num[2], page + t->off, t->width);
	if (t->access->kind == SINGLE_READ)
		num[0] = 0;
	single_begin(page, t->off, t->width);
	rc = t->access->fn(where, num);
	wrong = single_end(t->access->kind);
	if ((t->place->no_rmw && t->access->kind == SINGLE_RMW) || (t->width == 16 && !HAS_16)) {
		assert_int_equal(rc, -ENOTSUP);
		return;
	}
	if (rc != 0 && rc != 1)
		fail_trial(t, "it failed");
	if (wrong)
		fail_trial(t, wrong);
	check_values(t, page + t->off, num);
	memset(page + t->off, 0xee, t->width);
	if (memcmp(page - PAGE, page - PAGE + 1, 3 * PAGE - 1) != 0)
		fail_trial(t, "other bytes were written");
}

/* The three pages as a slice, if there are slices of such memory. */
static bool pin_pages(
	const struct single_at *where, uint64_t first, struct iovec *slice, struct gm_pin *pin)
{
	int rc = gm_pin_slice(where->view, first, 3 * PAGE, GM_PERM_RW, slice, pin);

	assert_true(rc == 0 || rc == -ENOTSUP);
	if (rc == 0)
		assert_int_equal(slice->iov_len, 3 * PAGE);
	return rc == 0;
}

/* At both ends of a page, where what reaches beyond the number is seen, and inside. */
static void check_width(
	const struct single_access *access, const struct place *place, size_t width, uint8_t *page)
{
	const size_t offs[] = {0, 64 + width, PAGE - width};
	bool by_slice = strncmp(access->name, "slice_", 6) == 0;
	struct gm_cache cache;
	struct iovec slice;
	struct gm_pin pin;

	for (size_t i = 0; i < 3; i++) {
		struct trial t = {access, place, width, offs[i]};
		struct single_at where = {.view = gm_reader_enter(*place->reader),
			.cache = &cache,
			.slice = &slice,
			.pin = &pin,
			.off = PAGE + offs[i],
			.gpa = place->gpa + offs[i],
			.aside = ASIDE,
			.width = width};

		assert_int_equal(
			gm_cache_init(&cache, where.view, place->gpa - PAGE, 3 * PAGE, GM_PERM_RW),
			0);
		if (!by_slice) {
			check_trial(&t, &where, page);
		} else if (pin_pages(&where, place->gpa - PAGE, &slice, &pin)) {
			check_trial(&t, &where, page);
			gm_pin_put(&pin);
		}
		gm_reader_leave(*place->reader);
	}
}

static void check_accesses(const struct single_access *accesses, size_t nr)
{
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		uint8_t *page = page_of(&places[i]);

		for (size_t j = 0; j < nr; j++) {
			const struct single_access *access = &accesses[j];

			if (access->width)
				check_width(access, &places[i], access->width, page);
			for (size_t width = 1; !access->width && width <= 8; width *= 2)
				check_width(access, &places[i], width, page);
		}
	}
}

/* Without a log, and with one: then writes of a page that is not marked go on out of line. */
static void check_all(const struct single_access *accesses, size_t nr)
{
	struct gm_log *log = NULL;

	if (!steps) {
		printf("skipped: stepping through instructions is for x86-64\n");
		skip();
	}
	start_places();
	check_accesses(accesses, nr);
	assert_ok(gm_log_create(space, NULL, &log, &err));
	check_accesses(accesses, nr);
	assert_ok(gm_log_destroy(log, &err));
	stop_places();
}

static void accesses_in_the_caller_are_single(void **state)
{
	(void)state;
	assert_true(inline_nr >= inline_least);
	check_all(inline_accesses, inline_nr);
}

static void accesses_by_calls_are_single(void **state)
{
	(void)state;
	check_all(single_calls, single_calls_nr);
}

/* ---- every version of the copies, whichever this machine uses ---- */

#if defined(__x86_64__) && !defined(GM_GUARD_GENERIC)
#define DECLARE(isa)                                                                               \
	size_t gm_guard_copy_from_##isa(void *, const void *, size_t, struct gm_guard_fault *);    \
	size_t gm_guard_copy_to_##isa(void *, const void *, size_t, struct gm_guard_fault *);      \
	size_t gm_guard_copy_both_##isa(void *, const void *, size_t, struct gm_guard_fault *);    \
	size_t gm_guard_fill_##isa(void *, int, size_t, struct gm_guard_fault *);                  \
	static int from_##isa(const struct single_at *at, uint64_t *num)                           \
	{                                                                                          \
		return (int)gm_guard_copy_from_##isa(                                              \
			num, (void *)(uintptr_t)at->gpa, at->width, NULL);                         \
	}                                                                                          \
	static int to_##isa(const struct single_at *at, uint64_t *num)                             \
	{                                                                                          \
		return (int)gm_guard_copy_to_##isa(                                                \
			(void *)(uintptr_t)at->gpa, num, at->width, NULL);                         \
	}                                                                                          \
	static int both_from_##isa(const struct single_at *at, uint64_t *num)                      \
	{                                                                                          \
		return (int)gm_guard_copy_both_##isa(                                              \
			num, (void *)(uintptr_t)at->gpa, at->width, NULL);                         \
	}                                                                                          \
	static int both_to_##isa(const struct single_at *at, uint64_t *num)                        \
	{                                                                                          \
		return (int)gm_guard_copy_both_##isa(                                              \
			(void *)(uintptr_t)at->gpa, num, at->width, NULL);                         \
	}                                                                                          \
	static int fill_##isa(const struct single_at *at, uint64_t *num)                           \
	{                                                                                          \
		return (int)gm_guard_fill_##isa(                                                   \
			(void *)(uintptr_t)at->gpa, (uint8_t)num[0], at->width, NULL);             \
	}
#define VERSION(isa)                                                                               \
	{"copy_from_" #isa, SINGLE_READ, 0, false, from_##isa},                                    \
		{"copy_to_" #isa, SINGLE_WRITE, 0, false, to_##isa},                               \
		{"copy_both_" #isa " from", SINGLE_READ, 0, false, both_from_##isa},               \
		{"copy_both_" #isa " to", SINGLE_WRITE, 0, false, both_to_##isa},                  \
	{                                                                                          \
		"fill_" #isa, SINGLE_WRITE, 0, false, fill_##isa                                   \
	}

DECLARE(sse2)
DECLARE(avx2)
DECLARE(avx512)

/* Numbers need no vectors, so each version runs on every machine. */
static void every_version_of_the_copies_is_single(void **state)
{
	static const struct single_access versions[] = {
		VERSION(sse2), VERSION(avx2), VERSION(avx512)};
	const struct place here = {"plain memory", NULL, 0, false};
	uint8_t *pages = three_pages();

	(void)state;
	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		for (size_t width = 1; width <= 8; width *= 2) {
			const size_t offs[] = {0, 64 + width, PAGE - width};

			for (size_t j = 0; j < 3; j++) {
				struct trial t = {&versions[i], &here, width, offs[j]};
				struct single_at where = {
					.width = width, .gpa = (uintptr_t)pages + PAGE + offs[j]};

				check_trial(&t, &where, pages + PAGE);
			}
		}
	}
	munmap(pages, 3 * PAGE);
}
#endif

/* ---- the watch itself ---- */

static int torn_read(const struct single_at *at, uint64_t *num)
{
	const volatile uint8_t *from = (const volatile uint8_t *)(uintptr_t)at->gpa;

	for (size_t i = 0; i < at->width; i++)
		((uint8_t *)num)[i] = from[i];
	return 0;
}

static int torn_write(const struct single_at *at, uint64_t *num)
{
	volatile uint16_t *to = (volatile uint16_t *)(uintptr_t)at->gpa;

	to[0] = (uint16_t)num[0];
	to[1] = (uint16_t)(num[0] >> 16);
	return 0;
}

#if defined(__x86_64__)
static int string_write(const struct single_at *at, uint64_t *num)
{
	void *to = (void *)(uintptr_t)at->gpa;
	size_t len = at->width;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(num), "+c"(len) : : "memory");
	return 0;
}
#else
#define string_write torn_write
#endif

typedef volatile uint64_t __attribute__((aligned(1))) misaligned;

static int wide_read(const struct single_at *at, uint64_t *num)
{
	uint64_t n = *(const misaligned *)(uintptr_t)at->gpa;

	num[0] = (uint32_t)n;
	return 0;
}

static int early_read(const struct single_at *at, uint64_t *num)
{
	num[0] = *(const misaligned *)(uintptr_t)(at->gpa - 4) >> 32;
	return 0;
}

static int no_write(const struct single_at *at, uint64_t *num)
{
	(void)at;
	(void)num;
	return 0;
}

/* Each of these is something that must not happen, with numbers of four bytes. */
static void what_is_not_single_is_noticed(void **state)
{
	static const struct {
		int (*fn)(const struct single_at *at, uint64_t *num);
		enum single_kind kind;
		size_t off;
	} mutants[] = {
		{torn_read, SINGLE_READ, 64},
		{torn_write, SINGLE_WRITE, 64},
		{torn_write, SINGLE_RMW, 64},
		{string_write, SINGLE_WRITE, 64},
		{wide_read, SINGLE_READ, PAGE - 4},
		{early_read, SINGLE_READ, 0},
		{no_write, SINGLE_WRITE, 64},
	};
	uint8_t *pages = three_pages();
	uint64_t num[4] = {0x1122334455667788};

	(void)state;
	if (!steps) {
		printf("skipped: stepping through instructions is for x86-64\n");
		skip();
	}
	for (size_t i = 0; i < sizeof(mutants) / sizeof(mutants[0]); i++) {
		struct single_at where = {
			.width = 4, .gpa = (uintptr_t)pages + PAGE + mutants[i].off};

		single_begin(pages + PAGE, mutants[i].off, 4);
		mutants[i].fn(&where, num);
		if (!single_end(mutants[i].kind))
			fail_msg("mutant %zu is not noticed", i);
	}
	munmap(pages, 3 * PAGE);
}

/* The accesses of a shared object instead of those that are linked in. */
static bool load(const char *path)
{
	void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const size_t *nr = so ? dlsym(so, "single_inline_nr") : NULL;

	inline_accesses = so ? dlsym(so, "single_inline") : NULL;
	if (!nr || !inline_accesses) {
		fprintf(stderr, "test_single: %s\n", dlerror());
		return false;
	}
	inline_nr = *nr;
	return true;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accesses_in_the_caller_are_single),
		cmocka_unit_test(accesses_by_calls_are_single),
#ifdef VERSION
		cmocka_unit_test(every_version_of_the_copies_is_single),
#endif
		cmocka_unit_test(what_is_not_single_is_noticed),
	};

	inline_nr = single_inline_nr;
	if (argc > 1 && !load(argv[1]))
		return 1;
	if (argc > 2)
		inline_least = strtoul(argv[2], NULL, 10);
	steps = single_steps();
	if (argc > 1)
		return cmocka_run_group_tests_name(
			"loaded", ((const struct CMUnitTest[]){tests[0]}), NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
