/* SPDX-License-Identifier: BSD-3-Clause */
/* one_queue.h - what the tests of virtqueues share: a queue of any sort in a space, with its driver and its device. */
#ifndef GM_TESTS_ONE_QUEUE_H
#define GM_TESTS_ONE_QUEUE_H

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <guestmem/virtq_driver.h>

#include "one_space.h"

#define DESC_AT MIB(1)
#define DRIVER_AT MIB(2)
#define DEVICE_AT (MIB(2) + KIB(256))
#define TABLES_AT MIB(3)
#define BUFFERS_AT MIB(4)
#define MEMORY MIB(16)

static struct gm_virtq *vq;
static struct gm_virtq_driver *driver;
static uint64_t ram;

static inline struct gm_virtq_opts queue_opts(uint32_t nr, uint32_t flags)
{
	return (struct gm_virtq_opts){.size = sizeof(struct gm_virtq_opts),
		.desc = DESC_AT,
		.driver = DRIVER_AT,
		.device = DEVICE_AT,
		.nr = nr,
		.flags = flags};
}

static inline uint32_t base_of(uint32_t flags)
{
	return flags & GM_VIRTQ_PACKED ? 0x80008000u : 0;
}

static inline const struct gm_view *enter(void)
{
	return gm_reader_enter(reader);
}

static inline void leave(void)
{
	gm_reader_leave(reader);
}

/* In a section from here to stop_queue(). */
static inline void start_queue(uint32_t nr, uint32_t flags)
{
	struct gm_virtq_opts opts = queue_opts(nr, flags);
	const struct gm_view *view;

	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	ram = add(0, MEMORY);
	view = enter();
	assert_ok(gm_virtq_create(&opts, &vq, &err));
	assert_ok(gm_virtq_driver_create(&opts, view, &driver, &err));
	assert_ok(gm_virtq_start(vq, view, base_of(flags), &err));
	leave();
}

static inline void stop_queue(void)
{
	gm_virtq_destroy(vq);
	gm_virtq_driver_destroy(driver);
	stop();
}

static inline void poke(uint64_t gpa, uint64_t value, size_t len)
{
	assert_int_equal(gm_write(enter(), gpa, &value, len, NULL), 0);
	leave();
}

static inline uint64_t peek(uint64_t gpa, size_t len)
{
	uint64_t value = 0;

	assert_int_equal(gm_read(enter(), gpa, &value, len, NULL), 0);
	leave();
	return value;
}

#endif
