/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * thread_blk.h - a driver of a virtio block device in a thread of the test, with the ring, the buffers and the sectors
 * of vCPU 0 of kvm_blk.h: what guest_blk.c does, by gm_virtq_driver(3).
 */
#ifndef GM_TESTS_THREAD_BLK_H
#define GM_TESTS_THREAD_BLK_H

#include <endian.h>
#include <stdatomic.h>

#include <guestmem/virtq_driver.h>

#include "kvm_blk.h"

struct thread_way {
	struct gm_chain_elem elems[4];
	bool out;
	bool writes;
	uint32_t version;
};

struct thread_blk {
	pthread_t thread;
	struct gm_reader *reader;
	struct gm_virtq_driver *driver;
	struct thread_way ways[BLK_WAYS];
	struct rng rng;
	uint32_t out;
	atomic_ullong done;
	atomic_bool stop;
	const char *failed; /* read after @broken */
	atomic_bool broken;
	struct gm_error err;
};

static struct thread_blk tb;

struct thread_head {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};

static inline void thread_blk_fails(const char *what)
{
	tb.failed = what;
	tb.broken = true;
}

/* A header, two pieces of any length, a status. */
static inline bool thread_blk_send(const struct gm_view *view, uint32_t way)
{
	const struct guest_blk *b = blk_of(0);
	struct thread_way *w = &tb.ways[way];
	const uint64_t buffer = b->buffers + way * BLK_WAY_LEN;
	const uint64_t cut = 8 * (1 + rng_below(&tb.rng, BLK_EACH / 8 - 1));
	struct thread_head head = {0, 0, htole64(blk_sector(0, way))};
	uint32_t side;
	uint64_t word;

	w->writes = !w->writes;
	w->version += w->writes;
	side = w->writes ? 0 : GM_CHAIN_WRITE;
	head.type = htole32(w->writes);
	w->elems[0] = (struct gm_chain_elem){.gpa = b->heads + way * BLK_HEAD, .len = sizeof(head)};
	w->elems[1] = (struct gm_chain_elem){.gpa = buffer + 64, .len = cut, .flags = side};
	w->elems[2] = (struct gm_chain_elem){
		.gpa = buffer + BLK_EACH + 192, .len = BLK_EACH - cut, .flags = side};
	w->elems[2].gpa += cut;
	w->elems[3] = (struct gm_chain_elem){
		.gpa = b->status + way * BLK_HEAD, .len = 1, .flags = GM_CHAIN_WRITE};
	for (uint64_t at = 0; at < BLK_EACH; at += 8) {
		const struct gm_chain_elem *e = &w->elems[at < cut ? 1 : 2];

		word = w->writes ? blk_word(0, way, w->version, at) : UINT64_MAX;
		if (gm_write(view, e->gpa + (at < cut ? at : at - cut), &word, 8, NULL))
			return false;
	}
	w->out = true;
	tb.out++;
	return gm_write(view, w->elems[0].gpa, &head, sizeof(head), NULL) == 0 &&
	       gm_virtq_driver_add(tb.driver, view, w->elems, 4, 0, w) == 0 &&
	       gm_virtq_driver_show(tb.driver, view) >= 0;
}

static inline bool thread_blk_check(
	const struct gm_view *view, const struct thread_way *w, uint32_t len)
{
	const uint32_t way = (uint32_t)(w - tb.ways);
	uint64_t cut = w->elems[1].len;
	uint8_t status = 0xff;
	uint64_t word = 0;

	if (gm_read(view, w->elems[3].gpa, &status, 1, NULL) || status ||
		len != (w->writes ? 1 : BLK_EACH + 1))
		return false;
	for (uint64_t at = 0; at < BLK_EACH && !w->writes; at += 8) {
		const struct gm_chain_elem *e = &w->elems[at < cut ? 1 : 2];

		if (gm_read(view, e->gpa + (at < cut ? at : at - cut), &word, 8, NULL) ||
			word != blk_word(0, way, w->version, at))
			return false;
	}
	return true;
}

/* 1: one is back; 0; -1: it is broken. */
static inline int thread_blk_take(const struct gm_view *view)
{
	struct thread_way *w;
	void *token = NULL;
	uint32_t len = 0;
	int rc = gm_virtq_driver_take(tb.driver, view, &token, &len, &tb.err);

	if (rc <= 0) {
		if (rc < 0)
			thread_blk_fails(tb.err.text);
		return rc;
	}
	w = token;
	if (!w->out || !thread_blk_check(view, w, len)) {
		thread_blk_fails(w->out ? "status or bytes" : "it was not out");
		return -1;
	}
	w->out = false;
	tb.out--;
	if (!tb.stop && !thread_blk_send(view, (uint32_t)(w - tb.ways))) {
		thread_blk_fails("no room");
		return -1;
	}
	tb.done++;
	return 1;
}

static inline void thread_blk_kick(void)
{
	const uint64_t one = 1;

	if (write(vcpus[0].kick, &one, sizeof(one)) != sizeof(one))
		thread_blk_fails("kick");
}

static inline void *thread_blk_loop(void *ctx)
{
	(void)ctx;
	for (uint32_t way = 0; way < BLK_WAYS; way++) {
		if (!thread_blk_send(gm_reader_enter(tb.reader), way))
			thread_blk_fails("no room at first");
		gm_reader_leave(tb.reader);
		thread_blk_kick();
	}
	while (!tb.broken && (tb.out || !tb.stop)) {
		int rc = thread_blk_take(gm_reader_enter(tb.reader));

		gm_reader_leave(tb.reader);
		if (rc == 1)
			thread_blk_kick();
		if (rc == 0)
			moment();
	}
	return NULL;
}

static inline void thread_blk_begin(void)
{
	const struct guest_blk *b = blk_of(0);
	const struct gm_virtq_opts opts = {.size = sizeof(opts),
		.desc = b->desc,
		.driver = b->avail,
		.device = b->used,
		.nr = b->nr,
		.flags = packed ? GM_VIRTQ_PACKED : 0};

	memset(&tb, 0, sizeof(tb));
	tb.rng.state = test_seed(77);
	assert_ok(gm_reader_create(space, "driver", &tb.reader, &err));
	assert_ok(gm_virtq_driver_create(&opts, gm_reader_enter(tb.reader), &tb.driver, &err));
	gm_reader_leave(tb.reader);
}

static inline void thread_blk_go(void)
{
	assert_int_equal(pthread_create(&tb.thread, NULL, thread_blk_loop, NULL), 0);
}

static inline void thread_blk_look(void)
{
	if (tb.broken)
		fail_msg("the driver: %s, done %llu", tb.failed, (unsigned long long)tb.done);
}

/* The versions that were written last are put where those of vCPU 0 are. */
static inline void thread_blk_end(void)
{
	tb.stop = true;
	assert_int_equal(pthread_join(tb.thread, NULL), 0);
	thread_blk_look();
	assert_int_equal(tb.out, 0);
	for (uint32_t way = 0; way < BLK_WAYS; way++)
		blk_of(0)->line[way].version = tb.ways[way].version;
	gm_virtq_driver_destroy(tb.driver);
	gm_reader_destroy(tb.reader);
}

#endif
