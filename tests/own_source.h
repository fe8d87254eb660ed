/* SPDX-License-Identifier: BSD-3-Clause */
/* own_source.h - a source of a test's own, in both forms, which lies, fails and ends as it is told. */
#ifndef GM_TESTS_OWN_SOURCE_H
#define GM_TESTS_OWN_SOURCE_H

#include <errno.h>
#include <sys/eventfd.h>

#include "support.h"

#define ROOM 4

/* Bytes that say where they are. */
static inline uint8_t byte_at(uint64_t at)
{
	return (uint8_t)(1 + (at * 7 + at / 251) % 255);
}

static inline void fill_from(uint8_t *bytes, uint64_t at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = byte_at(at + i);
}

struct own {
	int event;
	int lie;   /* what start, read, step answer instead */
	int error; /* what requests end with */
	int ends;  /* the step in which it ends */
	int steps;
	bool leaves; /* and leaves requests behind */
	bool hides;  /* its fd */
	size_t nr;
	size_t most;
	struct gm_source_read *reads[ROOM];
	struct gm_source_extent extent;
	int extent_rc;
	int destroyed;
};

static inline int own_read(
	void *ctx, uint64_t offset, void *buf, size_t len, struct gm_error *error)
{
	const struct own *own = ctx;

	(void)error;
	if (own->lie || own->error)
		return own->lie ? own->lie : own->error;
	fill_from(buf, offset, len);
	return 0;
}

static inline int own_start(void *ctx, struct gm_source_read *read)
{
	struct own *own = ctx;

	if (own->lie)
		return own->lie;
	if (own->nr == ROOM)
		return -EAGAIN;
	own->reads[own->nr++] = read;
	own->most = own->nr > own->most ? own->nr : own->most;
	assert_int_equal(eventfd_write(own->event, 1), 0);
	return 0;
}

/* Completes the newest: nobody may count on an order. */
static inline int own_step(void *ctx)
{
	struct own *own = ctx;
	struct gm_source_read *read;
	eventfd_t nr;

	if (++own->steps == own->ends && own->leaves)
		return -ECONNRESET;
	do {
		if (!own->nr)
			break;
		read = own->reads[--own->nr];
		fill_from(read->buf, read->offset, read->len);
		read->done(read, own->steps == own->ends ? -ECONNRESET : own->error);
	} while (own->steps == own->ends);
	if (!own->nr)
		(void)eventfd_read(own->event, &nr);
	return own->steps == own->ends ? -ECONNRESET : 0;
}

static inline int own_fd(void *ctx)
{
	const struct own *source = ctx;

	return source->hides ? -5 : source->event;
}

static inline int own_extent(void *ctx, uint64_t offset, struct gm_source_extent *extent)
{
	const struct own *own = ctx;

	(void)offset;
	*extent = own->extent;
	return own->extent_rc;
}

static inline void own_destroy(void *ctx)
{
	((struct own *)ctx)->destroyed++;
}

static struct own own;

#endif
