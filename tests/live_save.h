/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * live_save.h - what the tests of live saving share: a space whose memory a pager protects, threads that write to it
 * and can be paused, and a look at what is in a file.
 */
#ifndef GM_TESTS_LIVE_SAVE_H
#define GM_TESTS_LIVE_SAVE_H

#include <fcntl.h>
#include <guestmem/discard.h>
#include <guestmem/guard.h>
#include <guestmem/snapshot_live.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fault.h"
#include "one_pager.h"
#include "random.h"

#define AT MIB(2)
#define MOST MIB(16)
#define WRITERS 2

static struct gm_space *space;
static struct gm_reader *reader;
static struct gm_snapshot_live *live;
static uint64_t id;
static uint64_t len;
static uint8_t *hva;
static char dir[64];
static uint8_t *instant; /* the memory as it was */

static inline const char *in_dir(const char *name)
{
	static char paths[4][128];
	static unsigned int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static inline int make_dir(void **state)
{
	(void)state;
	/* Files that are made durable some thousand times. */
	strcpy(dir, access("/dev/shm", W_OK) ? "/tmp/gm-live-XXXXXX" : "/dev/shm/gm-live-XXXXXX");
	instant = malloc(MOST);
	return mkdtemp(dir) && instant ? 0 : -1;
}

static inline int remove_dir(void **state)
{
	static const char *const names[] = {"a", "b", ".a.part", ".b.part"};

	(void)state;
	free(instant);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlink(in_dir(names[i]));
	return rmdir(dir);
}

/* ---- memory ---- */

static inline void make_space(uint64_t bytes, const struct gm_block_opts *block)
{
	struct gm_region_info info = {.size = sizeof(info)};

	len = bytes;
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)), &space, &err));
	assert_ok(gm_reader_create(space, "one", &reader, &err));
	assert_ok(gm_space_add(
		space, GM_OPTS(gm_region_desc, .gpa = AT, .backing = block), &id, &err));
	assert_int_equal(gm_space_region(space, id, &info), 0);
	hva = info.hva;
}

static inline void protect_all(void)
{
	assert_ok(gm_pager_add_space(
		pager, space, AT, len, AREA(.way = GM_PAGER_PROTECT), NULL, &err));
}

static inline void make_live(uint64_t room)
{
	assert_ok(gm_snapshot_live_create(
		space, pager, GM_OPTS(gm_snapshot_live_opts, .room = room), &live, &err));
}

/* Memory that is there, its pager, a live save. */
static inline void start_live(uint64_t bytes, const struct gm_block_opts *block, uint64_t room)
{
	start_pager(MIB(1));
	make_space(bytes, block);
	protect_all();
	make_live(room);
}

static inline void stop_live(void)
{
	gm_snapshot_live_destroy(live);
	stop_pager();
	gm_reader_destroy(reader);
	gm_space_destroy(space);
}

/* Runs of holes, zeros, words, noise. */
static inline void fill_memory(struct rng *rng)
{
	unsigned int sort = 0;

	for (uint64_t at = 0; at < len; at += PAGE) {
		if (rng_below(rng, 8) == 0)
			sort = (unsigned int)rng_below(rng, 4);
		for (uint64_t i = 0; i < PAGE && sort; i += 8) {
			uint64_t word = sort == 1   ? 0
					: sort == 2 ? rng_below(rng, 3)
						    : rng_next(rng);

			*(volatile uint64_t *)(hva + at + i) = word;
		}
	}
}

static inline uint64_t sum_of(const uint8_t *bytes)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < len; i += 8)
		sum = (sum ^ *(const uint64_t *)(bytes + i)) * 0x9e3779b97f4a7c15u;
	return sum;
}

/* ---- writers ---- */

static pthread_t writers[WRITERS];
static unsigned int nr_writers;
static _Atomic bool stop_writing;
static _Atomic uint64_t written;
static pthread_rwlock_t running = PTHREAD_RWLOCK_INITIALIZER; /* who pauses has it alone */

static inline void *write_on(void *arg)
{
	struct rng rng = {test_seed((uintptr_t)arg)};
	_Atomic uint64_t *words = (_Atomic uint64_t *)(void *)hva;

	while (!stop_writing) {
		pthread_rwlock_rdlock(&running);
		for (unsigned int i = 0; i < 64; i++)
			atomic_store_explicit(&words[rng_below(&rng, len / 8)], rng_next(&rng),
				memory_order_relaxed);
		written += 64;
		pthread_rwlock_unlock(&running);
		sched_yield();
	}
	return NULL;
}

static inline void start_writers(void)
{
	stop_writing = false;
	written = 0;
	for (nr_writers = 0; nr_writers < WRITERS; nr_writers++)
		assert_int_equal(pthread_create(&writers[nr_writers], NULL, write_on,
					 (void *)(uintptr_t)(nr_writers + 1)),
			0);
}

static inline void stop_writers(void)
{
	stop_writing = true;
	while (nr_writers > 0)
		pthread_join(writers[--nr_writers], NULL);
}

/* ---- saving ---- */

static inline struct gm_snapshot_live_stats live_stats(void)
{
	struct gm_snapshot_live_stats now = {.size = sizeof(now)};

	assert_int_equal(gm_snapshot_live_stats(live, &now), 0);
	return now;
}

static inline void arm(struct gm_log *log)
{
	pthread_rwlock_wrlock(&running);
	memcpy(instant, hva, len);
	assert_ok(gm_snapshot_live_arm(live, log, &err));
	pthread_rwlock_unlock(&running);
}

static inline int save(const char *name)
{
	return gm_snapshot_live_save(live, in_dir(name),
		GM_OPTS(gm_snapshot_opts, .codec = GM_SNAPSHOT_RAW), NULL, &err);
}

static inline void *save_aside(void *name)
{
	return (void *)(intptr_t)gm_snapshot_live_save(live, in_dir(name),
		GM_OPTS(gm_snapshot_opts, .codec = GM_SNAPSHOT_RAW), NULL, NULL);
}

/* Are the files, each on the one before, what was there at the instant? */
static inline void check_saved(const char *const *names, size_t nr)
{
	struct gm_snapshot *snapshots[2];
	struct gm_source *saved;
	uint8_t *buf = malloc(len);

	assert_non_null(buf);
	for (size_t i = 0; i < nr; i++) {
		int fd = open(in_dir(names[i]), O_RDONLY | O_CLOEXEC);

		assert_true(fd >= 0);
		assert_ok(gm_snapshot_open(fd, &snapshots[i], &err));
		assert_ok(gm_snapshot_verify(snapshots[i], NULL, NULL, NULL, &err));
		close(fd);
	}
	assert_ok(gm_snapshot_source(snapshots, nr, 0, &saved, &err));
	assert_int_equal(gm_source_len(saved), len);
	assert_ok(gm_source_read(saved, 0, buf, len, &err));
	for (uint64_t at = 0; at < len; at += PAGE) {
		if (memcmp(buf + at, instant + at, PAGE) != 0)
			fail_msg("page 0x%jx is not what it was", (uintmax_t)(at / PAGE));
	}
	gm_source_destroy(saved);
	for (size_t i = 0; i < nr; i++)
		gm_snapshot_close(snapshots[i]);
	free(buf);
}

static inline void check_file(const char *name)
{
	check_saved(&name, 1);
}

#endif
