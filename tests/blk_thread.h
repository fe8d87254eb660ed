/* SPDX-License-Identifier: BSD-3-Clause */
/* blk_thread.h - a vhost-user block device in a thread of the test, which serves all queues in its loop. */
#ifndef GM_TESTS_BLK_THREAD_H
#define GM_TESTS_BLK_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <guestmem/vhost_server.h>
#include <guestmem/virtio_blk.h>

#include "support.h"

#define BLK_THREAD_QUEUES 2u
#define BLK_THREAD_FEATURES                                                                        \
	(UINT64_C(1) << 28 | UINT64_C(1) << 29 | UINT64_C(1) << 32 | UINT64_C(1) << 34)

struct blk_thread_queue {
	struct blk_thread *t;
	struct gm_virtio_blk_queue *q;
	uint32_t index;
	int kick;
};

struct blk_thread {
	pthread_t thread;
	struct gm_vhost_server *server;
	struct gm_vhost_backend *backend;
	struct gm_virtio_blk *blk;
	struct gm_disk *disk;
	struct blk_thread_queue queues[BLK_THREAD_QUEUES];
	atomic_int failed; /* of a queue, first */
	int listener;
	int stop;
	bool stopping;
};

static inline void blk_thread_run(void *ctx)
{
	struct blk_thread_queue *q = ctx;
	struct gm_error why = {0};
	uint64_t nr;
	int rc;

	(void)!read(q->kick, &nr, sizeof(nr));
	do {
		rc = gm_virtio_blk_run(q->q, 0, &why);
		if (rc < 0)
			q->t->failed = rc;
		else if (rc & GM_VIRTIO_BLK_CALL)
			gm_vhost_backend_call(q->t->backend, q->index);
	} while (rc > 0 && (rc & GM_VIRTIO_BLK_MORE));
}

static inline int blk_thread_start(void *ctx, const struct gm_vhost_queue *queue)
{
	struct blk_thread *t = ctx;
	struct blk_thread_queue *q = &t->queues[queue->index];
	const struct gm_virtio_blk_queue_opts opts = {
		.size = sizeof(opts), .vq = queue->vq, .space = queue->space};
	int rc = gm_virtio_blk_queue_create(t->blk, &opts, &q->q, NULL);

	if (rc)
		return rc;
	q->t = t;
	q->index = queue->index;
	q->kick = queue->kick;
	rc = gm_vhost_server_watch(t->server, q->kick, blk_thread_run, q);
	if (!rc)
		rc = gm_vhost_server_watch(t->server, gm_virtio_blk_fd(q->q), blk_thread_run, q);
	if (!rc)
		blk_thread_run(q);
	return rc;
}

static inline void blk_thread_stop(void *ctx, uint32_t index, bool suspend)
{
	struct blk_thread *t = ctx;
	struct blk_thread_queue *q = &t->queues[index];
	uint32_t base;

	gm_vhost_server_unwatch(t->server, q->kick);
	gm_vhost_server_unwatch(t->server, gm_virtio_blk_fd(q->q));
	if (!suspend && gm_virtio_blk_stop(q->q, 60000, &base, NULL) < 0)
		t->failed = -ETIMEDOUT;
	gm_virtio_blk_queue_destroy(q->q);
	q->q = NULL;
}

static inline int blk_thread_config(void *ctx, uint32_t off, void *buf, uint32_t len)
{
	const struct blk_thread *t = ctx;

	gm_virtio_blk_config_read(t->blk, off, buf, len);
	return 0;
}

static inline int blk_thread_features(void *ctx, uint64_t features)
{
	const struct blk_thread *t = ctx;

	return gm_virtio_blk_accept(t->blk, features, NULL);
}

static inline void blk_thread_ends(void *ctx)
{
	((struct blk_thread *)ctx)->stopping = true;
}

static inline void *blk_thread_loop(void *ctx)
{
	struct blk_thread *t = ctx;
	struct gm_error why;

	while (!t->stopping) {
		int rc = gm_vhost_server_turn(t->server, -1, &why);

		if (rc < 0 && rc != -EINTR) {
			t->failed = rc;
			break;
		}
	}
	return NULL;
}

static inline int blk_thread_listen(const char *path)
{
	struct {
		sa_family_t family;
		char path[108];
	} addr = {.family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	unlink(path);
	snprintf(addr.path, sizeof(addr.path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

/* A disk over the file, at a socket. */
static inline void blk_thread_begin(struct blk_thread *t, const char *path, int image)
{
	const struct gm_vhost_backend_ops ops = {.size = sizeof(ops),
		.queue_start = blk_thread_start,
		.queue_stop = blk_thread_stop,
		.get_config = blk_thread_config,
		.features = blk_thread_features};
	struct gm_disk_file_opts fopts = {.size = sizeof(fopts), .fd = image};
	struct gm_virtio_blk_opts bopts = {.size = sizeof(bopts), .nr_queues = BLK_THREAD_QUEUES};
	struct gm_vhost_backend_opts vopts = {.size = sizeof(vopts),
		.ops = &ops,
		.ctx = t,
		.features = BLK_THREAD_FEATURES,
		.queues = BLK_THREAD_QUEUES};
	struct gm_vhost_door door = {.size = sizeof(door)};

	memset(t, 0, sizeof(*t));
	assert_ok(gm_disk_file(&fopts, &bopts.disk, &err));
	t->disk = bopts.disk;
	assert_ok(gm_virtio_blk_create(&bopts, &t->blk, &err));
	vopts.features |= gm_virtio_blk_features(t->blk);
	assert_ok(gm_vhost_backend_create(&vopts, &t->backend, &err));
	assert_ok(gm_vhost_server_create(&t->server, &err));
	t->listener = blk_thread_listen(path);
	t->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	door.backend = t->backend;
	door.listener_plus = t->listener + 1;
	assert_ok(gm_vhost_server_add(t->server, &door, NULL, &err));
	assert_int_equal(gm_vhost_server_watch(t->server, t->stop, blk_thread_ends, t), 0);
	assert_int_equal(pthread_create(&t->thread, NULL, blk_thread_loop, t), 0);
}

static inline void blk_thread_end(struct blk_thread *t)
{
	const uint64_t one = 1;

	assert_int_equal(write(t->stop, &one, sizeof(one)), sizeof(one));
	assert_int_equal(pthread_join(t->thread, NULL), 0);
	assert_int_equal(t->failed, 0);
	gm_vhost_server_destroy(t->server);
	gm_vhost_backend_destroy(t->backend);
	gm_virtio_blk_destroy(t->blk);
	gm_disk_destroy(t->disk);
	close(t->listener);
	close(t->stop);
}

#endif
