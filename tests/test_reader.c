/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_reader.c - readers against a map that changes: each access gives right bytes or a clean
 * error.
 *
 * Every page of a region holds one 8-byte tag at its start. The writer adds, removes, moves,
 * replaces, resizes and protects; a reader that is told "0" must find a tag that was at that
 * address in some published map, and one that holds a pin must find the tag that it found when it
 * took it.
 */
#include "machine.h"
#include "random.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOTS 8u
#define SLOT_LEN MIB(1)
#define READERS 3
#define TAG UINT64_C(0x5a5a000000000000)

#define DESC(...) GM_OPTS(gm_region_desc, __VA_ARGS__)
#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)

static struct gm_error err;
static struct gm_space *space;
static int stop; /* atomic */

struct worker {
	pthread_t thread;
	uint64_t seed;
	uint64_t hits;   /* accesses that found a tag */
	uint64_t misses; /* clean errors */
	uint64_t wrong;
	uint64_t pins;
	uint64_t transfers;
};

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* A tag says which page of its slot it is for; zero is what fresh memory shows before it is tagged.
 */
static bool is_right(uint64_t value, uint64_t page)
{
	return value == 0 || value == (TAG | page);
}

static void hold_pin(struct worker *self, struct gm_reader *reader, uint64_t gpa, uint64_t page)
{
	const struct gm_view *view = gm_reader_enter(reader);
	struct iovec slice;
	struct gm_pin pin = {0};
	uint64_t before;
	uint64_t after;

	if (gm_pin_slice(view, gpa, 8, GM_PERM_R, &slice, &pin)) {
		gm_reader_leave(reader);
		return;
	}
	gm_reader_leave(reader);
	/* Outside of any section the map may change at will; the slice stays. */
	before = __atomic_load_n((uint64_t *)slice.iov_base, __ATOMIC_RELAXED);
	sched_yield();
	after = __atomic_load_n((uint64_t *)slice.iov_base, __ATOMIC_RELAXED);
	self->wrong += !is_right(before, page) || (before != 0 && after != before);
	self->pins++;
	gm_pin_put(&pin);
}

/* The kernel reads what the writer tags meanwhile, as it would what a guest writes: no race. */
#ifdef __SANITIZE_THREAD__
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
#else
#define AnnotateIgnoreReadsBegin(file, line) ((void)0)
#define AnnotateIgnoreReadsEnd(file, line) ((void)0)
#endif

/* A transfer of some pages to a file, long enough for the map to change under it. */
static void write_to_file(
	struct worker *self, struct gm_reader *reader, int fd, uint64_t gpa, uint64_t page)
{
	uint64_t nr = 64 < SLOT_LEN / 4096 - page ? 64 : SLOT_LEN / 4096 - page;
	struct gm_stream stream;
	uint64_t value;
	int rc = gm_stream_init_file(&stream, fd, 0, NULL);

	AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
	if (!rc)
		rc = gm_stream_write(&stream, reader, gpa, nr * 4096, GM_STREAM_EXACT, NULL);
	AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
	self->wrong += rc != 0 && rc != -EFAULT && rc != -EACCES;
	for (uint64_t i = 0; rc == 0 && i < nr; i++) {
		self->wrong += pread(fd, &value, sizeof(value), (off_t)(i * 4096)) != 8 ||
			       !is_right(value, page + i);
	}
	self->transfers += rc == 0;
}

static void *read_tags(void *arg)
{
	struct worker *self = arg;
	struct gm_reader *reader;
	int fd = memfd_create("worker", MFD_CLOEXEC);

	if (fd < 0 || gm_reader_create(space, "worker", &reader, NULL))
		return NULL;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		uint64_t slot = next_random(&self->seed) % SLOTS;
		uint64_t page = next_random(&self->seed) % (SLOT_LEN / 4096);
		uint64_t gpa = slot * 2 * SLOT_LEN + page * 4096;
		const struct gm_view *view = gm_reader_enter(reader);

		for (int i = 0; i < 16; i++) {
			uint64_t value = 0;
			int rc = gm_read_u64(view, gpa, &value);

			if (rc == 0 && is_right(value, page))
				self->hits++;
			else if (rc == -EFAULT || rc == -EACCES)
				self->misses++;
			else
				self->wrong++;
		}
		gm_reader_leave(reader);
		if (self->seed % 64 == 0)
			hold_pin(self, reader, gpa, page);
		if (self->seed % 16 == 1)
			write_to_file(self, reader, fd, gpa, page);
	}
	close(fd);
	gm_reader_destroy(reader);
	return NULL;
}

/* Tags all pages of a region through its host address: it is the writer's own. */
static void tag(uint64_t id)
{
	struct gm_region_info info = {.size = sizeof(info)};

	assert_int_equal(gm_space_region(space, id, &info), 0);
	for (uint64_t page = 0; page < info.len / 4096; page++)
		__atomic_store_n((uint64_t *)((uint8_t *)info.hva + page * 4096), TAG | page,
			__ATOMIC_RELAXED);
}

static void add_slot(uint64_t *ids, unsigned int slot, uint64_t random)
{
	static const uint32_t flags[] = {0, GM_BLOCK_SHARE};

	assert_ok(gm_space_add(space,
		DESC(.gpa = slot * 2 * SLOT_LEN,
			.backing = BLOCK(.len = SLOT_LEN, .flags = flags[random % 2])),
		&ids[slot], &err));
	tag(ids[slot]);
}

/* One change of one slot; a deadline that passes is a clean refusal. */
static int change(uint64_t *ids, unsigned int slot, uint64_t random)
{
	uint64_t id = ids[slot];
	uint64_t gpa = slot * 2 * SLOT_LEN;
	struct gm_txn *txn;
	int rc;

	if (!id) {
		add_slot(ids, slot, random);
		return 0;
	}
	if (random % 4 == 0) {
		assert_ok(gm_space_remove(space, id, &err));
		ids[slot] = 0;
		return 0;
	}
	assert_ok(gm_txn_begin(space, &txn, &err));
	if (random % 4 == 1) {
		rc = gm_txn_replace(
			txn, id, DESC(.gpa = gpa, .backing = BLOCK(.flags = GM_BLOCK_SHARE)), &err);
	} else if (random % 4 == 2) {
		rc = gm_txn_protect(txn, id, random & 64 ? GM_PERM_W : GM_PERM_RWX, &err);
	} else {
		/* Away by the length of a slot and back: tags stay right in their own addresses
		 * only. */
		rc = gm_txn_move(txn, id, (id % 2 ? GIB(32) : UINT64_C(1) << 40) + gpa, &err);
		if (!rc)
			rc = gm_txn_commit(txn, &err);
		if (!rc) {
			assert_ok(gm_txn_begin(space, &txn, &err));
			rc = gm_txn_move(txn, id, gpa, &err);
		}
	}
	if (!rc)
		rc = gm_txn_commit(txn, &err);
	if (rc) {
		gm_txn_abort(txn);
		return rc;
	}
	if (random % 4 == 1)
		tag(id);
	return 0;
}

static void readers_get_right_bytes_or_a_clean_error(void **state)
{
	struct worker workers[READERS] = {{0}};
	unsigned long rounds = support_scale(3000);
	uint64_t ids[SLOTS] = {0};
	uint64_t seed = test_seed(0x9e3779b97f4a7c15);
	unsigned long late = 0;
	uint64_t hits = 0;
	uint64_t pins = 0;
	uint64_t transfers = 0;

	(void)state;
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = GIB(64), .timeout_ns = UINT64_C(10000000000)),
		&space, &err));
	for (unsigned int slot = 0; slot < SLOTS; slot++)
		add_slot(ids, slot, slot);
	__atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS; i++) {
		workers[i].seed = (uint64_t)i * 7919 + 1;
		assert_int_equal(
			pthread_create(&workers[i].thread, NULL, read_tags, &workers[i]), 0);
	}
	for (unsigned long i = 0; i < rounds; i++) {
		uint64_t random = next_random(&seed);
		int rc = change(ids, (unsigned int)((random >> 8) % SLOTS), random >> 20);

		if (rc == -ETIMEDOUT)
			late++;
		else if (rc)
			fail_msg("change: %d %s", rc, err.text);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].wrong, 0);
		hits += workers[i].hits;
		pins += workers[i].pins;
		transfers += workers[i].transfers;
	}
	assert_ok(gm_space_wait(space, 0, &err));
	printf("figure: map-changes %lu\nfigure: changes-late %lu\nfigure: checked-reads %llu\n"
	       "figure: pins %llu\n"
	       "figure: transfers-beside-changes %llu\n",
		rounds, late, (unsigned long long)hits, (unsigned long long)pins,
		(unsigned long long)transfers);
	assert_true(hits > 0 && pins > 0 && transfers > 0);
	gm_space_destroy(space);
}

/* Readers come and go while the map changes. */
static void *come_and_go(void *arg)
{
	struct worker *self = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		struct gm_reader *reader;
		uint64_t value = 0;

		if (gm_reader_create(space, "guest", &reader, NULL)) {
			self->wrong++;
			break;
		}
		self->hits += gm_read_u64(gm_reader_enter(reader), 0, &value) == 0;
		gm_reader_leave(reader);
		gm_reader_destroy(reader);
	}
	return NULL;
}

static void readers_may_come_and_go(void **state)
{
	struct worker workers[READERS] = {{0}};
	uint64_t ids[SLOTS] = {0};

	(void)state;
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(64)), &space, &err));
	add_slot(ids, 0, 0);
	__atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS; i++)
		assert_int_equal(
			pthread_create(&workers[i].thread, NULL, come_and_go, &workers[i]), 0);
	for (unsigned long i = 0; i < support_scale(2000); i++)
		change(ids, 1, i * 4);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].wrong, 0);
		assert_true(workers[i].hits > 0);
	}
	gm_space_destroy(space);
}

/* Memory that is held back for readers stays bounded while publishing goes on. */
static void retired_views_do_not_pile_up(void **state)
{
	struct worker worker = {.seed = 5};
	uint64_t ids[SLOTS] = {0};
	int most = 0;

	(void)state;
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(64)), &space, &err));
	add_slot(ids, 0, 0);
	__atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
	assert_int_equal(pthread_create(&worker.thread, NULL, read_tags, &worker), 0);
	for (unsigned long i = 0; i < support_scale(5000); i++) {
		struct gm_txn *txn;
		int held;

		assert_ok(gm_txn_begin(space, &txn, &err));
		assert_ok(gm_txn_protect(txn, ids[0], i % 2 ? GM_PERM_R : GM_PERM_RWX, &err));
		assert_ok(gm_txn_commit(txn, &err));
		held = gm_space_reclaim(space);
		if (held > most)
			most = held;
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(worker.thread, NULL);
	assert_int_equal(worker.wrong, 0);
	printf("  at most %d views held back\n", most);
	/* A reader that is scheduled away in its section holds views for a time slice or two. */
	assert_true(most < 4000);
	gm_space_destroy(space);
}

static void every_kind_of_memory_is_read_and_written(void **state)
{
	struct machine machine;
	const struct gm_view *view;

	(void)state;
	machine_build(&machine);
	view = gm_reader_enter(machine.reader);
	for (int i = 0; i < MACHINE_REGIONS; i++) {
		uint64_t last = machine.gpa[i] + machine.len[i] - 8;
		int want = i == MACHINE_RESERVED ? -EFAULT : i == MACHINE_ROM ? -EACCES : 0;
		uint64_t value = 1;

		assert_int_equal(gm_write_u64(view, machine.gpa[i], 0x1122334455667788), want);
		assert_int_equal(gm_write_u64(view, last, 42), want);
		assert_int_equal(gm_read_u64(view, last, &value), want == -EACCES ? 0 : want);
		assert_int_equal(value, want == -EACCES ? 0 : want ? 1 : 42);
	}
	gm_reader_leave(machine.reader);
	machine_destroy(&machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_of_memory_is_read_and_written),
		cmocka_unit_test(readers_get_right_bytes_or_a_clean_error),
		cmocka_unit_test(readers_may_come_and_go),
		cmocka_unit_test(retired_views_do_not_pile_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
