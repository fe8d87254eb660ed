/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_device.h - a device for tests of the vhost-user back-end: it answers each chain with its bytes inverted. */
#ifndef GM_TESTS_VHOST_DEVICE_H
#define GM_TESTS_VHOST_DEVICE_H

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "support.h"

#define QUEUES 3u

static struct gm_error err;

struct device {
	struct gm_vhost_backend *b;
	struct gm_vhost_queue queue[QUEUES];
	bool runs[QUEUES];
	uint32_t starts;
	uint32_t stops;
	uint32_t kicks;
	uint32_t translated;
	uint32_t drains;
	uint32_t memory;
	uint32_t resets;
	uint32_t comes;
	uint32_t goes;
	uint8_t status;
	uint64_t features;
	int refuse; /* what callbacks return */
	uint8_t config[64];
	bool suspended;
	struct gm_virtq_item held; /* taken and not given back */
	struct gm_chain_elem held_elems[8];
	bool holds;
};

static inline int dev_start(void *ctx, const struct gm_vhost_queue *queue)
{
	struct device *d = ctx;

	assert_false(d->runs[queue->index]);
	if (d->refuse)
		return d->refuse;
	d->queue[queue->index] = *queue;
	d->runs[queue->index] = true;
	d->starts++;
	return 0;
}

static inline void dev_stop(void *ctx, uint32_t index, bool suspend)
{
	struct device *d = ctx;

	assert_true(d->runs[index]);
	/* A chain that could not be done: it is noted as in flight, or put back. */
	if (d->holds && !suspend && index == 0)
		gm_virtq_unpop(d->queue[0].vq, &d->held);
	d->holds = false;
	d->runs[index] = false;
	d->suspended = suspend;
	d->stops++;
}

static inline void dev_kick(void *ctx, uint32_t index)
{
	(void)index;
	((struct device *)ctx)->kicks++;
}

static inline int dev_get_config(void *ctx, uint32_t off, void *buf, uint32_t len)
{
	struct device *d = ctx;

	if (off > sizeof(d->config) || len > sizeof(d->config) - off)
		return -EINVAL;
	memcpy(buf, d->config + off, len);
	return 0;
}

static inline int dev_set_config(
	void *ctx, uint32_t off, const void *buf, uint32_t len, uint32_t flags)
{
	struct device *d = ctx;

	(void)flags;
	if (off > sizeof(d->config) || len > sizeof(d->config) - off)
		return -EINVAL;
	memcpy(d->config + off, buf, len);
	return 0;
}

static inline void dev_translated(void *ctx)
{
	((struct device *)ctx)->translated++;
}

static inline int dev_drain(void *ctx)
{
	((struct device *)ctx)->drains++;
	return 0;
}

static inline void dev_memory(void *ctx)
{
	((struct device *)ctx)->memory++;
}

static inline int dev_features(void *ctx, uint64_t features)
{
	struct device *d = ctx;

	if (d->refuse)
		return d->refuse;
	d->features = features;
	return 0;
}

static inline void dev_reset(void *ctx)
{
	((struct device *)ctx)->resets++;
}

static inline void dev_status(void *ctx, uint8_t status)
{
	((struct device *)ctx)->status = status;
}

static inline int dev_state(void *ctx, uint32_t direction, int fd)
{
	struct device *d = ctx;

	if (d->refuse)
		return d->refuse;
	if (direction == 0 ? write(fd, d->config, 8) != 8 : read(fd, d->config, 8) != 8)
		return -EIO;
	close(fd);
	return 0;
}

static inline int dev_check_state(void *ctx)
{
	return ((struct device *)ctx)->refuse;
}

static inline int dev_shared(void *ctx, const uint8_t uuid[16])
{
	(void)ctx;
	return uuid[0] == 7 ? eventfd(0, EFD_CLOEXEC) : -ENOENT;
}

static inline void dev_connected(void *ctx, bool yes)
{
	struct device *d = ctx;

	if (yes)
		d->comes++;
	else
		d->goes++;
}

static const struct gm_vhost_backend_ops dev_ops = {
	.size = sizeof(dev_ops),
	.queue_start = dev_start,
	.queue_stop = dev_stop,
	.queue_kick = dev_kick,
	.get_config = dev_get_config,
	.set_config = dev_set_config,
	.translated = dev_translated,
	.drain = dev_drain,
	.memory = dev_memory,
	.features = dev_features,
	.reset = dev_reset,
	.status = dev_status,
	.state = dev_state,
	.check_state = dev_check_state,
	.shared_object = dev_shared,
	.connected = dev_connected,
};

/* On a copy of the chain, so that it can be done again. */
static inline int dev_echo(
	const struct gm_virtq_item *item, const struct gm_view *view, uint32_t *ret)
{
	struct gm_chain chain = item->chain;
	uint8_t bytes[256];
	size_t nr = (size_t)gm_chain_left(&chain, GM_CHAIN_READABLE);
	size_t done = 0;
	int rc;

	assert_true(nr <= sizeof(bytes));
	rc = gm_chain_read(&chain, view, bytes, nr, NULL);
	if (rc)
		return rc;
	for (size_t i = 0; i < nr; i++)
		bytes[i] = (uint8_t)~bytes[i];
	rc = gm_chain_write(&chain, view, bytes, nr, &done);
	*ret = (uint32_t)done;
	return rc;
}

/* Serves what is there. Returns chains, or what failed; a chain that failed stays held. */
static inline int dev_serve(struct device *d, uint32_t index)
{
	struct gm_vhost_queue *q = &d->queue[index];
	struct gm_reader *reader;
	const struct gm_view *view;
	int nr = 0;
	int rc = 0;

	assert_true(d->runs[index]);
	assert_int_equal(gm_reader_create(q->space, "device", &reader, &err), 0);
	view = gm_reader_enter(reader);
	while (rc == 0) {
		uint32_t len = 0;

		if (!d->holds) {
			rc = gm_virtq_pop(q->vq, view, d->held_elems, 8, &d->held, &err);
			if (rc <= 0)
				break;
		}
		d->holds = true;
		rc = dev_echo(&d->held, view, &len);
		if (rc)
			break;
		rc = gm_virtq_push(q->vq, view, &d->held, len);
		d->holds = rc != 0;
		nr += rc == 0;
	}
	if (gm_virtq_wants_call(q->vq, view) > 0)
		assert_int_equal(gm_vhost_backend_call(d->b, index), 0);
	gm_reader_leave(reader);
	gm_reader_destroy(reader);
	return rc < 0 ? rc : nr;
}

#endif
