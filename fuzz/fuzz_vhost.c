/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_vhost.c - a front-end that says anything to a back-end, whose device serves what it is given.
 *
 * Messages: request, descriptors (how many in the low three bits, of which sort in the others), length (16 bits),
 * payload. Of a number in a payload whose top byte is 0xfe the next byte says which likely number it stands for, so
 * that addresses can be hit. A message with the number 0xff is a kick: the device serves all queues that run.
 */
#include <guestmem/guestmem.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM (UINT64_C(64) << 10)
#define USER UINT64_C(0x7f0000000000)
#define QUEUES 2u
#define MESSAGES_MAX 64u

static int ram;
static int event;
static int log_file;

struct device {
	struct gm_vhost_backend *b;
	struct gm_vhost_queue queue[QUEUES];
	bool runs[QUEUES];
};

static void must(bool what)
{
	if (!what)
		abort();
}

static int on_start(void *ctx, const struct gm_vhost_queue *queue)
{
	struct device *d = ctx;

	must(queue->index < QUEUES && !d->runs[queue->index]);
	d->queue[queue->index] = *queue;
	d->runs[queue->index] = true;
	return 0;
}

static void on_stop(void *ctx, uint32_t index, bool suspend)
{
	struct device *d = ctx;

	(void)suspend;
	must(index < QUEUES && d->runs[index]);
	d->runs[index] = false;
}

static int on_config(void *ctx, uint32_t off, void *buf, uint32_t len)
{
	(void)ctx;
	memset(buf, (int)off, len);
	return 0;
}

static const struct gm_vhost_backend_ops ops = {.size = sizeof(ops),
	.queue_start = on_start,
	.queue_stop = on_stop,
	.get_config = on_config};

/* A few chains of each, copied from their readable to their writable side. */
static void serve(struct device *d)
{
	for (uint32_t i = 0; i < QUEUES; i++) {
		struct gm_vhost_queue *q = &d->queue[i];
		struct gm_chain_elem elems[16];
		struct gm_virtq_item item;
		struct gm_reader *reader;
		const struct gm_view *view;

		if (!d->runs[i] || gm_reader_create(q->space, NULL, &reader, NULL))
			continue;
		view = gm_reader_enter(reader);
		for (int k = 0; k < 4 && gm_virtq_pop(q->vq, view, elems, 16, &item, NULL) > 0;
			k++) {
			uint8_t bytes[64] = {0};
			size_t done = 0;

			gm_chain_write(&item.chain, view, bytes, sizeof(bytes), &done);
			gm_virtq_push(q->vq, view, &item, (uint32_t)done);
			gm_vhost_backend_call(d->b, i);
		}
		gm_reader_leave(reader);
		gm_reader_destroy(reader);
	}
}

static void set_up(void)
{
	ram = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	log_file = memfd_create("log", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	event = eventfd(0, EFD_CLOEXEC);
	must(ram >= 0 && log_file >= 0 && event >= 0);
	must(ftruncate(ram, (off_t)RAM) == 0 && ftruncate(log_file, 4096) == 0);
	must(fcntl(ram, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	must(fcntl(log_file, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
}

static uint64_t likely(uint8_t which)
{
	static const uint64_t known[] = {USER, USER + 0x1000, USER + 0x2000, USER + 0x8000,
		USER + RAM - 4096, USER + RAM, RAM, RAM / 2, 4096, UINT64_MAX, UINT64_MAX - 4095,
		UINT64_C(1) << 30 | UINT64_C(1) << 32, UINT64_C(1) << 30 | UINT64_C(1) << 33,
		UINT64_C(1) << 30 | UINT64_C(1) << 34,
		UINT64_C(1) << 26 | UINT64_C(1) << 30 | UINT64_C(1) << 33, 0x1b62b};

	return known[which % (sizeof(known) / sizeof(known[0]))];
}

static void decode(struct gm_vhost_msg *msg, const uint8_t *data, size_t len)
{
	memcpy(msg->u.bytes, data, len);
	for (size_t at = 0; at + 8 <= len; at += 8) {
		uint64_t v;

		if (msg->u.bytes[at + 7] != 0xfe)
			continue;
		v = likely(msg->u.bytes[at]);
		memcpy(msg->u.bytes + at, &v, 8);
	}
}

static size_t one(struct device *d, const uint8_t *data, size_t size)
{
	struct gm_vhost_answered answered;
	struct gm_vhost_msg msg = {
		.request = data[0], .flags = GM_VHOST_VERSION | GM_VHOST_NEED_REPLY};
	const int kinds[] = {ram, event, log_file, ram};
	const uint32_t nr = data[1] & 7;
	size_t len = (size_t)(data[2] | data[3] << 8);
	int fds[8];
	int rc;

	len = len < size - 4 ? len : size - 4;
	len = len < GM_VHOST_PAYLOAD_MAX ? len : GM_VHOST_PAYLOAD_MAX;
	msg.len = (uint32_t)len;
	decode(&msg, data + 4, len);
	for (uint32_t i = 0; i < nr; i++)
		fds[i] = fcntl(kinds[data[1] >> 3 & 3], F_DUPFD_CLOEXEC, 0);
	rc = gm_vhost_backend_handle(d->b, &msg, fds, nr, &answered, NULL);
	if (answered.is) {
		const struct gm_vhost_kind *kind =
			gm_vhost_kind(GM_VHOST_FROM_FRONTEND, msg.request);

		must(!kind || gm_vhost_msg_check_reply(GM_VHOST_FROM_FRONTEND, &msg, &answered.msg,
				      answered.nr_fds, NULL) == 0);
		for (uint32_t i = 0; i < answered.nr_fds; i++)
			close(answered.fds[i]);
	}
	if (rc)
		gm_vhost_backend_disconnect(d->b);
	return 4 + len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct device d;
	const struct gm_vhost_backend_opts opts = {.size = sizeof(opts),
		.ops = &ops,
		.ctx = &d,
		.features = UINT64_C(1) << 28 | UINT64_C(1) << 29 | UINT64_C(7) << 32,
		.queues = QUEUES,
		.queue_size = 64,
		.gpa_limit = UINT64_C(1) << 30};
	int fd;

	if (!event)
		set_up();
	if (!d.b)
		must(gm_vhost_backend_create(&opts, &d.b, NULL) == 0);
	fd = dup(0);
	close(fd);
	for (uint32_t i = 0; i < MESSAGES_MAX && size >= 4; i++) {
		size_t done = 4;

		if (data[0] == 0xff)
			serve(&d);
		else
			done = one(&d, data, size);
		data += done;
		size -= done;
	}
	gm_vhost_backend_disconnect(d.b);
	must(!d.runs[0] && !d.runs[1]);
	/* No descriptor is left: the lowest that is free is the same. */
	must(dup(0) == fd);
	close(fd);
	return 0;
}
