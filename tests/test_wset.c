/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_wset.c - recorded working sets: recorders, sets against a model that has a byte for each page, files with each
 * byte wrong, and what fails on the way.
 */
#include <errno.h>
#include <fcntl.h>
#include <guestmem/wset.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/wset.h"
#include "fault.h"
#include "random.h"
#include "services/checksum.h"
#include "support.h"

#define PAGE UINT64_C(4096)
#define PAGES 2000u
#define LEN (PAGES * PAGE - 100)

static struct gm_error err;
static const uint8_t name[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static char dir[] = "/tmp/guestmem-wset-XXXXXX";
static char path[64];

/* What a set is: which recordings saw a page, and the order. */
struct model {
	uint32_t seen[PAGES];
	uint32_t order[PAGES];
	size_t nr_order;
	uint32_t recordings;
};

/* ---- comparing ---- */

static struct gm_wset_info info_of(const struct gm_wset *set)
{
	struct gm_wset_info info = {.size = sizeof(info)};

	assert_int_equal(gm_wset_info(set, &info), 0);
	return info;
}

static void compare(const struct gm_wset *set, const struct model *m)
{
	struct gm_wset_info info = info_of(set);
	struct gm_wset_run run = {.len = 0};
	uint64_t pages = 0;
	uint64_t runs = 0;
	uint64_t off;

	assert_int_equal(info.recordings, m->recordings);
	assert_memory_equal(info.identity, name, 16);
	for (uint64_t page = 0; page < PAGES; page++) {
		bool in = gm_wset_next(set, page * PAGE, &run) == 0 && run.off == page * PAGE;

		assert_int_equal(in, m->seen[page] != 0);
		if (!in)
			continue;
		assert_int_equal(run.seen, m->seen[page]);
		assert_true(run.len <= LEN - run.off);
		pages++;
		if (page == 0 || m->seen[page - 1] != m->seen[page])
			runs++;
	}
	assert_int_equal(info.pages, pages);
	assert_int_equal(info.runs, runs);
	assert_int_equal(gm_wset_next(set, LEN, &run), -ENOENT);
	assert_int_equal(info.ordered, m->nr_order);
	for (size_t i = 0; i < m->nr_order; i++) {
		assert_int_equal(gm_wset_touch(set, i, &off), 0);
		assert_int_equal(off, m->order[i] * PAGE);
	}
	assert_int_equal(gm_wset_touch(set, m->nr_order, &off), -ENOENT);
}

static struct gm_wset *random_set(struct rng *rng, struct model *m)
{
	struct gm_wset_run runs[200];
	size_t nr = rng_below(rng, 200);
	struct gm_wset *set;

	memset(m, 0, sizeof(*m));
	m->recordings = 1;
	for (size_t i = 0; i < nr; i++) {
		uint64_t first = rng_below(rng, PAGES);
		uint64_t len = 1 + rng_below(rng, i % 7 ? 4 : 60);

		if (len > PAGES - first)
			len = PAGES - first;
		runs[i] = (struct gm_wset_run){.off = first * PAGE, .len = len * PAGE};
		if (len == PAGES - first)
			runs[i].len = LEN - first * PAGE;
		for (uint64_t page = first; page < first + len; page++) {
			if (!m->seen[page])
				m->order[m->nr_order++] = (uint32_t)page;
			m->seen[page] = 1;
		}
	}
	assert_ok(gm_wset_create(runs, nr, LEN, name, &set, &err));
	return set;
}

/* ---- sets ---- */

static struct gm_wset *load(void)
{
	struct gm_wset *set;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_ok(gm_wset_load(fd, name, &set, &err));
	close(fd);
	return set;
}

static uint64_t file_len(void)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t len = lseek(fd, 0, SEEK_END);

	close(fd);
	return (uint64_t)len;
}

static void a_set_is_what_it_was_after_a_file(void **state)
{
	struct rng rng = {test_seed(1)};
	static struct model m;

	(void)state;
	for (unsigned long i = 0; i < support_scale(60); i++) {
		struct gm_wset *set = random_set(&rng, &m);
		struct gm_wset *again;

		compare(set, &m);
		assert_ok(gm_wset_save(set, path, &err));
		assert_true(file_len() <= 88 + PAGES / 8 + 2 * info_of(set).pages);
		again = load();
		/* Of an order that takes too much the end is not there. */
		assert_true(info_of(again).ordered <= m.nr_order);
		assert_true(info_of(again).ordered >= m.nr_order / 2);
		m.nr_order = info_of(again).ordered;
		compare(again, &m);
		gm_wset_destroy(set);
		gm_wset_destroy(again);
	}
}

/* R: at most a bit for a page of the image and two bytes for one of the set, even if no page has a neighbour. */
static void a_file_has_its_bounds(void **state)
{
	const uint64_t pages = 1u << 18;
	struct gm_wset_run *runs = calloc(1u << 16, sizeof(*runs));
	struct gm_wset_info info;
	struct gm_wset *set;

	(void)state;
	assert_non_null(runs);
	for (uint64_t i = 0; i < 1u << 16; i++)
		runs[i] =
			(struct gm_wset_run){.off = i * 40503 % (1u << 16) * 4 * PAGE, .len = PAGE};
	assert_ok(gm_wset_create(runs, 1u << 16, pages * PAGE, name, &set, &err));
	info = info_of(set);
	assert_int_equal(info.pages, 1u << 16);
	assert_int_equal(info.ordered, 1u << 16);
	assert_ok(gm_wset_save(set, path, &err));
	gm_wset_destroy(set);
	assert_true(file_len() <= 88 + pages / 8 + 2 * info.pages);
	set = load();
	assert_int_equal(info_of(set).pages, info.pages);
	assert_true(info_of(set).ordered > 0);
	gm_wset_destroy(set);
	free(runs);
}

/* The order of those that are left, the latest set's first. */
static void model_order(const struct model *sets, size_t nr, struct model *all)
{
	bool there[PAGES] = {false};

	all->nr_order = 0;
	for (size_t i = nr; i-- > 0;) {
		for (size_t k = 0; k < sets[i].nr_order; k++) {
			uint32_t page = sets[i].order[k];

			if (all->seen[page] && !there[page])
				all->order[all->nr_order++] = page;
			there[page] = true;
		}
	}
}

static void model_merge(
	const struct model *sets, size_t nr, uint32_t last, uint32_t least, struct model *all)
{
	memset(all, 0, sizeof(*all));
	for (size_t i = 0; i < nr; i++) {
		for (uint32_t page = 0; page < PAGES; page++)
			all->seen[page] = all->seen[page] << 1 | sets[i].seen[page];
	}
	all->recordings = last && last < nr ? last : (uint32_t)nr;
	for (uint32_t page = 0; page < PAGES; page++) {
		all->seen[page] &= (1u << all->recordings) - 1;
		if ((uint32_t)__builtin_popcount(all->seen[page]) < (least ? least : 1))
			all->seen[page] = 0;
	}
	model_order(sets, nr, all);
}

static void merged_sets_are_what_the_model_says(void **state)
{
	static struct model models[5];
	static struct model all;
	struct rng rng = {test_seed(2)};
	struct gm_wset *sets[5];

	(void)state;
	for (unsigned long round = 0; round < support_scale(30); round++) {
		size_t nr = 1 + rng_below(&rng, 5);
		uint32_t last = (uint32_t)rng_below(&rng, 6);
		uint32_t least = (uint32_t)rng_below(&rng, 4);
		struct gm_wset *merged;

		for (size_t i = 0; i < nr; i++)
			sets[i] = random_set(&rng, &models[i]);
		model_merge(models, nr, last, least, &all);
		assert_ok(gm_wset_merge(sets, nr,
			GM_OPTS(gm_wset_merge_opts, .last = last, .least = least), &merged, &err));
		compare(merged, &all);
		gm_wset_destroy(merged);
		/* By two steps it is the same. */
		assert_ok(gm_wset_merge(sets, nr, NULL, &merged, &err));
		model_merge(models, nr, 0, 0, &all);
		compare(merged, &all);
		assert_ok(gm_wset_save(merged, path, &err));
		gm_wset_destroy(merged);
		merged = load();
		all.nr_order = info_of(merged).ordered;
		compare(merged, &all);
		gm_wset_destroy(merged);
		for (size_t i = 0; i < nr; i++)
			gm_wset_destroy(sets[i]);
	}
}

static void what_is_not_touched_any_more_is_forgotten(void **state)
{
	const struct gm_wset_run old = {.off = 0, .len = 10 * PAGE};
	const struct gm_wset_run young = {.off = 5 * PAGE, .len = 10 * PAGE};
	struct gm_wset *sets[2];
	struct gm_wset *both;
	struct gm_wset_run run;

	(void)state;
	assert_ok(gm_wset_create(&old, 1, LEN, name, &sets[0], &err));
	for (unsigned int i = 0; i < 40; i++) {
		assert_ok(gm_wset_create(&young, 1, LEN, name, &sets[1], &err));
		assert_ok(gm_wset_merge(
			sets, 2, GM_OPTS(gm_wset_merge_opts, .last = 4), &both, &err));
		assert_int_equal(info_of(both).pages, i < 3 ? 15 : 10);
		gm_wset_destroy(sets[0]);
		gm_wset_destroy(sets[1]);
		sets[0] = both;
	}
	assert_int_equal(info_of(both).recordings, 4);
	assert_int_equal(gm_wset_next(both, 0, &run), 0);
	assert_int_equal(run.off, 5 * PAGE);
	assert_int_equal(run.seen, 15);
	/* The intersection; and histories that are longer than there is room for. */
	for (unsigned int i = 0; i < 40; i++) {
		struct gm_wset *twice[2] = {sets[0], sets[0]};

		assert_ok(gm_wset_merge(twice, 2,
			GM_OPTS(gm_wset_merge_opts, .least = GM_WSET_EVERY), &both, &err));
		gm_wset_destroy(sets[0]);
		sets[0] = both;
		assert_int_equal(info_of(both).pages, 10);
	}
	assert_int_equal(info_of(both).recordings, GM_WSET_RECORDINGS);
	assert_int_equal(gm_wset_next(both, 0, &run), 0);
	assert_int_equal(run.seen, UINT32_MAX);
	gm_wset_destroy(both);
}

static void what_cannot_be_is_refused(void **state)
{
	const struct gm_wset_run outside = {.off = LEN - 1, .len = 2};
	const struct gm_wset_run wraps = {.off = PAGE, .len = UINT64_MAX};
	struct gm_wset *sets[2];
	struct gm_wset *set;
	struct gm_wset_recorder *recorder;
	uint8_t other[16] = {9};
	int fd;

	(void)state;
	assert_fails(gm_wset_create(&outside, 1, LEN, name, &set, &err), ERANGE, "image");
	assert_fails(gm_wset_create(&wraps, 1, LEN, name, &set, &err), ERANGE, "image");
	assert_fails(gm_wset_create(NULL, 0, 0, name, &set, &err), EINVAL, "length");
	assert_fails(
		gm_wset_create(NULL, 0, UINT64_C(1) << 44, name, &set, &err), EINVAL, "length");
	assert_fails(
		gm_wset_recorder_create(
			GM_OPTS(gm_wset_recorder_opts, .len = PAGE, .flags = 1), &recorder, &err),
		EINVAL, "out of bounds");
	assert_ok(gm_wset_create(NULL, 0, LEN, name, &sets[0], &err));
	assert_ok(gm_wset_create(NULL, 0, LEN, other, &sets[1], &err));
	assert_fails(gm_wset_merge(sets, 2, NULL, &set, &err), ESTALE, "another image");
	assert_fails(gm_wset_merge(sets, 0, NULL, &set, &err), EINVAL, "none");
	assert_ok(gm_wset_save(sets[1], path, &err));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_fails(gm_wset_load(fd, name, &set, &err), ESTALE, "another image");
	assert_ok(gm_wset_load(fd, NULL, &set, &err));
	gm_wset_destroy(set);
	close(fd);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_fails(gm_wset_load(fd, name, &set, &err), EPROTO, "regular");
	close(fd);
	assert_fails(gm_wset_save(sets[0], "/proc/nowhere/file", &err), ENOENT, "nowhere");
	gm_wset_destroy(sets[0]);
	gm_wset_destroy(sets[1]);
	gm_wset_destroy(NULL);
	gm_wset_recorder_destroy(NULL);
}

/* ---- files ---- */

static int load_bytes(const uint8_t *bytes, size_t len)
{
	int fd = memfd_create("wset", MFD_CLOEXEC);
	struct gm_wset *set = NULL;
	int rc;

	assert_int_equal(write(fd, bytes, len), len);
	rc = gm_wset_load(fd, name, &set, &err);
	if (rc)
		assert_true(err.text[0] != 0);
	gm_wset_destroy(set);
	close(fd);
	return rc;
}

static size_t small_file(uint8_t *bytes, size_t room)
{
	const struct gm_wset_run runs[] = {{.off = 700 * PAGE, .len = 3 * PAGE},
		{.off = 0, .len = PAGE}, {.off = 9 * PAGE, .len = 70 * PAGE}};
	struct gm_wset *sets[2];
	struct gm_wset *both;
	ssize_t len;
	int fd;

	assert_ok(gm_wset_create(runs, 3, LEN, name, &sets[0], &err));
	assert_ok(gm_wset_create(runs, 2, LEN, name, &sets[1], &err));
	assert_ok(gm_wset_merge(sets, 2, NULL, &both, &err));
	assert_ok(gm_wset_save(both, path, &err));
	gm_wset_destroy(sets[0]);
	gm_wset_destroy(sets[1]);
	gm_wset_destroy(both);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = read(fd, bytes, room);
	close(fd);
	assert_true(len > 88 && (size_t)len < room);
	return (size_t)len;
}

static void each_byte_and_each_length_counts(void **state)
{
	uint8_t bytes[1024];
	size_t len = small_file(bytes, sizeof(bytes));

	(void)state;
	assert_int_equal(load_bytes(bytes, len), 0);
	for (size_t i = 0; i < len; i++) {
		for (unsigned int bit = 0; bit < 8; bit++) {
			bytes[i] ^= (uint8_t)(1u << bit);
			assert_true(load_bytes(bytes, len) < 0);
			bytes[i] ^= (uint8_t)(1u << bit);
		}
		assert_true(load_bytes(bytes, i) < 0);
	}
	assert_true(load_bytes(bytes, len + 1) < 0);
	assert_int_equal(load_bytes(bytes, len), 0);
}

static void put_sum(uint8_t *bytes, size_t len)
{
	uint64_t sum;

	assert_true(gm_checksum_bytes(bytes, len - 8, &sum));
	memcpy(bytes + len - 8, &sum, 8);
}

/* Somebody wrote it who means harm: sums are right. */
static void a_liars_file_is_refused(void **state)
{
	static const struct {
		unsigned int at;
		uint64_t value;
		unsigned int size;
		const char *says;
	} lies[] = {
		{8, 2, 4, "version 2"},
		{12, 81, 4, "reserved"},
		{32, 0, 8, "image"},
		{32, UINT64_C(1) << 44, 8, "image"},
		{32, 100 * PAGE, 8, "in the image"},
		{40, 0, 4, "recordings"},
		{40, 33, 4, "recordings"},
		{40, 1, 4, NULL},
		{44, 1, 4, "reserved"},
		{48, 75, 8, "more or fewer"},
		{48, UINT64_MAX, 8, "room"},
		{56, UINT64_MAX, 8, "room"},
		{56, 2, 8, NULL},
		{64, UINT64_MAX / 2, 8, "room"},
		{64, 1, 8, "behind its end"},
		{72, 4000, 8, "longer"},
	};
	uint8_t bytes[1024];
	uint8_t twice[1024];
	size_t len = small_file(bytes, sizeof(bytes));

	(void)state;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		memcpy(twice, bytes, len);
		memcpy(twice + lies[i].at, &lies[i].value, lies[i].size);
		put_sum(twice, len);
		assert_true(load_bytes(twice, len) < 0);
		if (lies[i].says && !strstr(err.text, lies[i].says))
			fail_msg("lie %zu: \"%s\"", i, err.text);
	}
	/* The last page of the order is the one in front of it again: the distance is -1. */
	memcpy(twice, bytes, len);
	twice[len - 8 - 1] = 1;
	put_sum(twice, len);
	assert_int_equal(load_bytes(twice, len), -EPROTO);
	assert_non_null(strstr(err.text, "twice"));
}

/* ---- recorders ---- */

#define THREADS 4u

static struct gm_wset_recorder *recorder;

static void *note_all(void *arg)
{
	struct rng rng = {(uintptr_t)arg};

	for (unsigned int i = 0; i < 20000; i++)
		gm_wset_recorder_note(recorder, rng_below(&rng, PAGES + 50) * PAGE + i % PAGE);
	return NULL;
}

static void threads_note_each_page_once(void **state)
{
	pthread_t threads[THREADS];
	struct gm_wset *set;
	bool there[PAGES] = {false};

	(void)state;
	assert_ok(gm_wset_recorder_create(
		GM_OPTS(gm_wset_recorder_opts, .len = LEN), &recorder, &err));
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, note_all, (void *)(i + 1)), 0);
	/* Beside them. */
	for (unsigned int i = 0; i < 20; i++) {
		assert_ok(gm_wset_recorder_take(recorder, name, &set, &err));
		assert_true(info_of(set).ordered <= info_of(set).pages);
		gm_wset_destroy(set);
	}
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_ok(gm_wset_recorder_take(recorder, name, &set, &err));
	assert_int_equal(info_of(set).pages, PAGES);
	assert_int_equal(info_of(set).ordered, PAGES);
	for (uint64_t i = 0; i < PAGES; i++) {
		uint64_t off;

		assert_int_equal(gm_wset_touch(set, i, &off), 0);
		assert_false(there[off / PAGE]);
		there[off / PAGE] = true;
	}
	gm_wset_destroy(set);
	gm_wset_recorder_destroy(recorder);
}

static void an_order_has_an_end_and_a_set_has_not(void **state)
{
	struct gm_wset *set;

	(void)state;
	assert_ok(gm_wset_recorder_create(
		GM_OPTS(gm_wset_recorder_opts, .len = LEN, .order = 10), &recorder, &err));
	for (uint64_t i = 0; i < 100; i++)
		gm_wset_recorder_note(recorder, (PAGES - 1 - 2 * i) * PAGE);
	gm_wset_recorder_stop(recorder, true);
	gm_wset_recorder_note(recorder, 0);
	assert_ok(gm_wset_recorder_take(recorder, name, &set, &err));
	assert_int_equal(info_of(set).pages, 100);
	assert_int_equal(info_of(set).runs, 100);
	assert_int_equal(info_of(set).ordered, 10);
	gm_wset_destroy(set);
	gm_wset_recorder_stop(recorder, false);
	gm_wset_recorder_note(recorder, 0);
	assert_ok(gm_wset_recorder_take(recorder, name, &set, &err));
	assert_int_equal(info_of(set).pages, 101);
	gm_wset_destroy(set);
	gm_wset_recorder_destroy(recorder);
}

/* ---- faults ---- */

/* As the sweep wants it: 0, or what failed. */
static int all_steps(void *ctx)
{
	const struct gm_wset_run runs[] = {
		{.off = 0, .len = 3 * PAGE}, {.off = 40 * PAGE, .len = PAGE}};
	struct gm_wset *sets[2] = {NULL, NULL};
	struct gm_wset *merged = NULL;
	struct gm_wset *loaded = NULL;
	int fd = -1;
	int rc = gm_wset_create(runs, 2, LEN, name, &sets[0], &err);

	(void)ctx;
	if (!rc)
		rc = gm_wset_create(runs, 1, LEN, name, &sets[1], &err);
	if (!rc)
		rc = gm_wset_merge(sets, 2, NULL, &merged, &err);
	if (!rc)
		rc = gm_wset_save(merged, path, &err);
	if (!rc) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		rc = gm_wset_load(fd, name, &loaded, &err);
		close(fd);
	}
	if (rc)
		assert_int_equal(err.code, rc);
	gm_wset_destroy(sets[0]);
	gm_wset_destroy(sets[1]);
	gm_wset_destroy(merged);
	gm_wset_destroy(loaded);
	return rc;
}

static void each_call_may_fail(void **state)
{
	(void)state;
	assert_int_equal(all_steps(NULL), 0);
	fault_sweep(all_steps, NULL);
}

static int make_dir(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/set", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_set_is_what_it_was_after_a_file),
		cmocka_unit_test(a_file_has_its_bounds),
		cmocka_unit_test(merged_sets_are_what_the_model_says),
		cmocka_unit_test(what_is_not_touched_any_more_is_forgotten),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(each_byte_and_each_length_counts),
		cmocka_unit_test(a_liars_file_is_refused),
		cmocka_unit_test(threads_note_each_page_once),
		cmocka_unit_test(an_order_has_an_end_and_a_set_has_not),
		cmocka_unit_test(each_call_may_fail),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
