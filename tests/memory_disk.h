/* SPDX-License-Identifier: BSD-3-Clause */
/* memory_disk.h - a disk in memory, which answers when and how it is told. */
#ifndef GM_TESTS_MEMORY_DISK_H
#define GM_TESTS_MEMORY_DISK_H

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <guestmem/disk.h>

#include "random.h"

#define SECTOR 512u
#define SECTORS 2048u
#define DISK_LEN (SECTORS * SECTOR)

static struct {
	uint8_t bytes[DISK_LEN];
	struct gm_disk_info info;
	struct gm_disk_req *list[256]; /* under way */
	unsigned int nr;
	unsigned int room;       /* at most; 0 = 256 */
	unsigned int held;       /* steps do nothing */
	unsigned int fail_every; /* the n-th fails; 0 = none */
	unsigned int nr_done;
	unsigned int nr_failed;
	unsigned int steps;
	unsigned int flushes;
	unsigned int durable;
	bool random; /* some at a time, in any order */
	struct rng rng;
	int event;
} mem;

static inline int mem_look(void *ctx, struct gm_disk_info *ret)
{
	(void)ctx;
	*ret = mem.info;
	return 0;
}

static inline int mem_open(void *ctx, uint32_t depth, void **ret, struct gm_error *e)
{
	(void)depth;
	(void)e;
	mem.event = eventfd(0, EFD_NONBLOCK);
	*ret = ctx;
	return 0;
}

static inline void mem_close(void *own)
{
	(void)own;
	assert_int_equal(mem.nr, 0);
	close(mem.event);
}

static inline int mem_start(void *own, struct gm_disk_req *req)
{
	(void)own;
	if (mem.nr == (mem.room ? mem.room : 256))
		return -EAGAIN;
	mem.list[mem.nr++] = req;
	return 0;
}

static inline int mem_do(struct gm_disk_req *req)
{
	uint64_t at = req->off;

	mem.nr_done++;
	if (mem.fail_every && mem.nr_done % mem.fail_every == 0) {
		mem.nr_failed++;
		return mem.nr_failed % 2 ? -EIO : -ENOSPC;
	}
	mem.flushes += req->op == GM_DISK_FLUSH;
	mem.durable += req->op == GM_DISK_WRITE && (req->flags & GM_DISK_DURABLE);
	if (req->op == GM_DISK_ZERO)
		memset(mem.bytes + req->off, 0, req->len);
	if (req->op == GM_DISK_DISCARD)
		memset(mem.bytes + req->off, 0xdd, req->len);
	for (uint32_t i = 0; req->op <= GM_DISK_WRITE && i < req->nr; i++) {
		const struct iovec *s = &req->slices[i];

		if (req->op == GM_DISK_READ)
			memcpy(s->iov_base, mem.bytes + at, s->iov_len);
		else
			memcpy(mem.bytes + at, s->iov_base, s->iov_len);
		at += s->iov_len;
	}
	return 0;
}

static inline int mem_step(void *own)
{
	unsigned int nr = mem.random ? (unsigned int)rng_below(&mem.rng, mem.nr + 1) : mem.nr;

	(void)own;
	mem.steps++;
	if (mem.held)
		return 0;
	while (nr--) {
		unsigned int i = mem.random ? (unsigned int)rng_below(&mem.rng, mem.nr) : 0;
		struct gm_disk_req *req = mem.list[i];

		memmove(&mem.list[i], &mem.list[i + 1], (mem.nr - i - 1) * sizeof(*mem.list));
		mem.nr--;
		req->done(req, mem_do(req));
	}
	/* What is left is readable, as it were. */
	if (mem.nr) {
		const uint64_t one = 1;

		assert_int_equal(write(mem.event, &one, 8), 8);
	} else {
		uint64_t many;

		(void)!read(mem.event, &many, 8);
	}
	return 0;
}

static inline int mem_fd(void *own)
{
	(void)own;
	return mem.event;
}

static inline struct gm_disk *mem_disk(void)
{
	const struct gm_disk_ops ops = {
		.size = sizeof(ops),
		.name = "memory",
		.look = mem_look,
		.open = mem_open,
		.close = mem_close,
		.start = mem_start,
		.step = mem_step,
		.fd = mem_fd,
		.ctx = &mem,
	};
	struct gm_disk *ret = NULL;

	memset(&mem, 0, sizeof(mem));
	mem.info = (struct gm_disk_info){
		.len = DISK_LEN, .flags = GM_DISK_CAN_DISCARD | GM_DISK_CAN_FREE};
	mem.rng.state = test_seed(900);
	assert_ok(gm_disk_create(&ops, &ret, &err));
	return ret;
}

#endif
