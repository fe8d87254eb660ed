/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * one_blk.h - what the tests of the block device share: a disk in memory that answers when and how it is told, a device
 * with a queue over one_queue.h, and a driver that cuts its chains in any way.
 */
#ifndef GM_TESTS_ONE_BLK_H
#define GM_TESTS_ONE_BLK_H

#include <endian.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include <guestmem/virtio_blk_stats.h>

#include "one_queue.h"

#include "memory_disk.h"

#define LINES 64u    /* requests out at most */
#define LINE KIB(64) /* of buffers, for each */
#define ELEMS 1024u  /* of a chain: a table of 16 KiB */

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };

/* ---- the device ---- */

static struct gm_disk *disk;
static struct gm_virtio_blk *blk;
static struct gm_virtio_blk_queue *q;

static inline void start_device(struct gm_disk *d, uint32_t nr, uint32_t flags)
{
	start_queue(nr, flags);
	disk = d;
	assert_ok(gm_virtio_blk_create(
		&(struct gm_virtio_blk_opts){.size = sizeof(struct gm_virtio_blk_opts),
			.disk = d,
			.serial = "a serial number"},
		&blk, &err));
	assert_ok(gm_virtio_blk_accept(blk, gm_virtio_blk_features(blk), &err));
	assert_ok(gm_virtio_blk_queue_create(blk,
		&(struct gm_virtio_blk_queue_opts){
			.size = sizeof(struct gm_virtio_blk_queue_opts), .vq = vq, .space = space},
		&q, &err));
}

static inline void stop_device(void)
{
	gm_virtio_blk_queue_destroy(q);
	gm_virtio_blk_destroy(blk);
	gm_disk_destroy(disk);
	stop_queue();
}

static inline struct gm_virtio_blk_stats stats_of(void)
{
	struct gm_virtio_blk_stats stats = {.size = sizeof(stats)};

	assert_int_equal(gm_virtio_blk_stats(q, &stats), 0);
	return stats;
}

/* ---- the driver ---- */

enum cut { WHOLE, PIECES, BYTES };

struct line {
	struct gm_chain_elem elems[ELEMS];
	size_t nr;
	uint64_t at; /* the next free byte of its buffers */
	bool is_out;
	bool is_back;
	uint32_t len; /* that came back */
	/* for the model */
	uint32_t type;
	uint64_t sector;
	uint64_t sectors;
	uint8_t *bytes;
};

static struct line lines[LINES];

static inline uint64_t buffers_of(const struct line *l)
{
	return BUFFERS_AT + (uint64_t)(l - lines) * LINE;
}

static inline struct line *new_line(void)
{
	for (size_t i = 0; i < LINES; i++) {
		if (!lines[i].is_out) {
			lines[i].nr = 0;
			lines[i].is_back = false;
			lines[i].at = buffers_of(&lines[i]);
			return &lines[i];
		}
	}
	return NULL;
}

/* Adds @len bytes to a side, in pieces: what the device reads has the bytes of @bytes. */
static inline void add_bytes(
	struct line *l, const void *bytes, size_t len, uint32_t side, enum cut cut, struct rng *rng)
{
	size_t at = 0;

	while (at < len) {
		struct gm_chain_elem *e = &l->elems[l->nr++];
		size_t n = len - at;

		if (cut == BYTES)
			n = 1;
		else if (cut == PIECES && l->nr < 40)
			n = rng_below(rng, 4) ? 1 + rng_below(rng, n) : rng_below(rng, 2);
		l->at += cut == PIECES ? rng_below(rng, 40) : 0;
		*e = (struct gm_chain_elem){.gpa = l->at, .len = n, .flags = side};
		l->at += n;
		assert_true(l->nr < ELEMS && l->at <= buffers_of(l) + LINE);
		if (bytes && n)
			assert_int_equal(
				gm_write(enter(), e->gpa, (const char *)bytes + at, n, NULL), 0);
		if (bytes && n)
			leave();
		at += n;
	}
}

/* What the device wrote, from its first byte. */
static inline void get_bytes(const struct line *l, void *bytes, size_t len)
{
	size_t at = 0;

	for (size_t i = 0; i < l->nr && at < len; i++) {
		const struct gm_chain_elem *e = &l->elems[i];
		size_t n = e->len < len - at ? e->len : len - at;

		if (!e->flags)
			continue;
		assert_int_equal(gm_read(enter(), e->gpa, (char *)bytes + at, n, NULL), 0);
		leave();
		at += n;
	}
	assert_int_equal(at, len);
}

static inline size_t room_of(const struct line *l)
{
	size_t len = 0;

	for (size_t i = 0; i < l->nr; i++)
		len += l->elems[i].flags ? l->elems[i].len : 0;
	return len;
}

static inline uint8_t status_of(const struct line *l)
{
	uint8_t bytes[LINE];
	size_t len = room_of(l);

	get_bytes(l, bytes, len);
	return bytes[len - 1];
}

struct head {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};

static inline void add_head(
	struct line *l, uint32_t type, uint64_t sector, enum cut cut, struct rng *rng)
{
	const struct head head = {htole32(type), 0x12345678, htole64(sector)};

	l->type = type;
	l->sector = sector;
	add_bytes(l, &head, sizeof(head), 0, cut, rng);
}

static inline void add_room(struct line *l, size_t len, enum cut cut, struct rng *rng)
{
	uint8_t fill[LINE];

	memset(fill, 0xee, len);
	add_bytes(l, fill, len, GM_CHAIN_WRITE, cut, rng);
}

/* 0, or -ENOSPC. More than 64 elements take a table. */
static inline int offer(struct line *l, uint32_t flags)
{
	uint64_t table =
		flags & GM_VIRTQ_INDIRECT ? TABLES_AT + (uint64_t)(l - lines) * KIB(16) : 0;
	int rc = gm_virtq_driver_add(driver, enter(), l->elems, l->nr, table, l);

	leave();
	assert_true(rc == 0 || rc == -ENOSPC);
	l->is_out = rc == 0;
	return rc;
}

static inline int show_driver(void)
{
	int rc = gm_virtq_driver_show(driver, enter());

	leave();
	assert_true(rc >= 0);
	return rc;
}

static inline struct line *take_back(void)
{
	void *token = NULL;
	uint32_t len = 0;
	int rc = gm_virtq_driver_take(driver, enter(), &token, &len, &err);
	struct line *l = token;

	leave();
	if (rc < 0)
		fail_msg("%s", err.text);
	if (!rc)
		return NULL;
	assert_true(l->is_out);
	l->is_out = false;
	l->is_back = true;
	l->len = len;
	return l;
}

/* Until it is back; the device runs as often as it says. */
static inline void await(struct line *l)
{
	for (int i = 0; i < 20000 && !l->is_back; i++) {
		int rc = gm_virtio_blk_run(q, 0, &err);

		if (rc < 0)
			fail_msg("%d: %s", rc, err.text);
		while (take_back())
			;
		if (!l->is_back && !(rc & GM_VIRTIO_BLK_MORE)) {
			struct pollfd wait = {.fd = gm_virtio_blk_fd(q), .events = POLLIN};

			assert_true(poll(&wait, 1, 20000) > 0);
		}
	}
	assert_true(l->is_back);
}

/* One request; its status. */
static inline uint8_t serve(struct line *l, uint32_t flags)
{
	assert_int_equal(offer(l, flags), 0);
	show_driver();
	await(l);
	return status_of(l);
}

static inline uint8_t write_sectors(uint64_t sector, const void *bytes, size_t len, uint32_t flags)
{
	struct line *l = new_line();

	add_head(l, OUT, sector, WHOLE, NULL);
	add_bytes(l, bytes, len, 0, WHOLE, NULL);
	add_room(l, 1, WHOLE, NULL);
	return serve(l, flags);
}

static inline uint8_t read_sectors(uint64_t sector, void *bytes, size_t len, uint32_t flags)
{
	struct line *l = new_line();
	uint8_t status;

	add_head(l, IN, sector, WHOLE, NULL);
	add_room(l, len + 1, WHOLE, NULL);
	status = serve(l, flags);
	get_bytes(l, bytes, len);
	assert_int_equal(l->len, status ? 0 : len + 1);
	return status;
}

struct segment {
	uint64_t sector;
	uint32_t sectors;
	uint32_t flags;
};

static inline uint8_t send_segments(
	uint32_t type, const struct segment *segments, size_t nr, uint32_t flags)
{
	struct line *l = new_line();

	add_head(l, type, 0, WHOLE, NULL);
	add_bytes(l, segments, nr * sizeof(*segments), 0, WHOLE, NULL);
	add_room(l, 1, WHOLE, NULL);
	return serve(l, flags);
}

static inline uint8_t flush_device(uint32_t flags)
{
	struct line *l = new_line();

	add_head(l, FLUSH, 0, WHOLE, NULL);
	add_room(l, 1, WHOLE, NULL);
	return serve(l, flags);
}

#endif
