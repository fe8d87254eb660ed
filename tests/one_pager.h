/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * one_pager.h - what the tests of the pager share: a source whose bytes follow from their position, a pager, a thread
 * that steps it.
 */
#ifndef GM_TESTS_ONE_PAGER_H
#define GM_TESTS_ONE_PAGER_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support.h"
#include "sys/sys.h"

#define PAGE UINT64_C(4096)
#define AREA(...) GM_OPTS(gm_pager_area_opts, __VA_ARGS__)

static struct gm_error err;
static struct gm_pager *pager;
static struct gm_source *source;
static pthread_t stepper;
static bool stepping;

/* The eight bytes at a multiple of eight: never zero. */
static inline uint64_t word_at(uint64_t offset)
{
	uint64_t z = (offset + 1) * UINT64_C(0x9e3779b97f4a7c15);

	return (z ^ z >> 29) | 1;
}

static inline void fill_words(void *buf, uint64_t offset, uint64_t len)
{
	uint64_t *to = buf;

	for (uint64_t i = 0; i < len / 8; i++)
		to[i] = word_at(offset + i * 8);
}

/* Of the source. */
static struct {
	_Atomic uint64_t bad;     /* this offset cannot be read; 0: none */
	_Atomic uint64_t zero;    /* from here on is nothing; 0: nowhere */
	_Atomic uint64_t slow_ns; /* a read takes as long */
	_Atomic uint64_t reads;
	_Atomic uint64_t bytes;
	uint32_t unit;
} of_source;

static inline int read_words(void *ctx, uint64_t offset, void *buf, size_t len, struct gm_error *e)
{
	uint64_t bad = of_source.bad;
	struct timespec slow = {0, (long)of_source.slow_ns};

	(void)ctx;
	(void)e;
	of_source.reads++;
	of_source.bytes += len;
	if (slow.tv_nsec)
		nanosleep(&slow, NULL);
	if (bad && bad - offset < len)
		return -EIO;
	fill_words(buf, offset, len);
	return 0;
}

static inline int extent_of_words(void *ctx, uint64_t offset, struct gm_source_extent *extent)
{
	uint64_t zero = of_source.zero;

	(void)ctx;
	extent->unit = of_source.unit;
	if (!zero)
		return 0;
	extent->kind = offset < zero ? GM_SOURCE_CHUNK : GM_SOURCE_ZERO;
	if (offset < zero && extent->len > zero - offset)
		extent->len = zero - offset;
	return 0;
}

static struct gm_pager_event told[64];
static _Atomic unsigned int nr_begun;
static _Atomic unsigned int nr_told;

/* Several threads may tell at once, and tell after a page was resolved. */
static inline void on_told(void *ctx, const struct gm_pager_event *event)
{
	unsigned int at = nr_begun++;

	(void)ctx;
	if (at < 64)
		told[at] = *event;
	nr_told++;
}

static inline void wait_told(unsigned int nr)
{
	uint64_t until = gm_sys_now_ns() + UINT64_C(30000000000);

	while (nr_told < nr) {
		if (gm_sys_now_ns() > until)
			fail_msg("%u events instead of %u", nr_told, nr);
		sched_yield();
	}
}

static inline void start_pager_with(uint64_t len, struct gm_pager_opts opts)
{
	struct gm_source_ops ops = {
		.size = sizeof(ops),
		.len = len,
		.read = read_words,
		.extent = extent_of_words,
	};

	memset(&of_source, 0, sizeof(of_source));
	nr_begun = 0;
	nr_told = 0;
	opts.size = sizeof(opts);
	opts.told = on_told;
	assert_ok(gm_source_create(&ops, &source, &err));
	assert_ok(gm_pager_create(&opts, &pager, &err));
}

static inline void start_pager(uint64_t len)
{
	start_pager_with(len, (struct gm_pager_opts){0});
}

static inline void *step_all(void *arg)
{
	return (void *)(intptr_t)gm_pager_run(arg);
}

static inline void start_stepping(void)
{
	assert_int_equal(pthread_create(&stepper, NULL, step_all, pager), 0);
	stepping = true;
}

static inline void stop_stepping(void)
{
	void *rc;

	if (!stepping)
		return;
	gm_pager_quit(pager);
	pthread_join(stepper, &rc);
	stepping = false;
	assert_int_equal((intptr_t)rc, 0);
}

static inline void stop_pager(void)
{
	stop_stepping();
	assert_ok(gm_pager_stop(pager, GM_PAGER_COMPLETE, 60000, &err));
	assert_ok(gm_pager_destroy(pager, &err));
	gm_source_destroy(source);
}

static inline uint8_t *map_anon(uint64_t len)
{
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(at != MAP_FAILED);
	return at;
}

static inline bool has_words(const uint8_t *at, uint64_t offset, uint64_t len)
{
	for (uint64_t i = 0; i < len; i += 8) {
		if (*(const volatile uint64_t *)(at + i) != word_at(offset + i))
			return false;
	}
	return true;
}

static inline bool has_zeros(const uint8_t *at, uint64_t len)
{
	for (uint64_t i = 0; i < len; i += 8) {
		if (*(const volatile uint64_t *)(at + i))
			return false;
	}
	return true;
}

static inline struct gm_pager_stats stats(void)
{
	struct gm_pager_stats now = {.size = sizeof(now)};

	assert_int_equal(gm_pager_stats(pager, &now), 0);
	return now;
}

static inline struct gm_pager_area_info area_info(uint64_t id)
{
	struct gm_pager_area_info info = {.size = sizeof(info)};

	assert_int_equal(gm_pager_area(pager, id, &info), 0);
	return info;
}

#endif
