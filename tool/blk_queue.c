/* SPDX-License-Identifier: BSD-3-Clause */
/* blk_queue.c - the thread of a queue: kicks, requests, answers. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "blk.h"
#include "tool.h"

#define FINISH_MS 60000
#define LOOK_NS 50000000

/* ---- what a thread does ---- */

static void count(uint64_t *what, uint64_t n)
{
	__atomic_store_n(what, *what + n, __ATOMIC_RELAXED);
}

/*
 * What was in it; 0: somebody else was faster. A front-end can take the count of its kick before us, and switch
 * O_NONBLOCK off: this never waits.
 */
static uint64_t drop_count(int fd)
{
	uint64_t nr;
	const struct iovec to = {&nr, sizeof(nr)};
	ssize_t got = preadv2(fd, &to, 1, -1, RWF_NOWAIT);

	/* Kernels before 5.8 do not know it of eventfds. */
	if (got < 0 && errno == EOPNOTSUPP)
		got = read(fd, &nr, sizeof(nr));
	return got == (ssize_t)sizeof(nr) ? nr : 0;
}

/* A queue that breaks the rules is not served any more until it is started again; the front-end is told once. */
static void complain(struct blk_queue *q, int rc, const struct gm_error *err)
{
	/* A translation of the IOMMU's is on its way. */
	if (rc == -EAGAIN || q->broken)
		return;
	q->broken = true;
	/* What is under way is still answered. Memory that was not there may come: of that the ring is looked at. */
	if (rc == -EPROTO)
		gm_virtio_blk_pause(q->q, true);
	count(&q->wrong, 1);
	tool_error("queue %u: %s", q->index, err->text);
	gm_vhost_backend_error(q->blk->backend, q->index);
}

static void run(struct blk_queue *q, uint32_t flags)
{
	struct gm_error err = {0};
	int rc;

	do {
		rc = gm_virtio_blk_run(q->q, flags, &err);
		if (rc > 0 && (rc & GM_VIRTIO_BLK_CALL))
			gm_vhost_backend_call(q->blk->backend, q->index);
	} while (rc > 0 && (rc & GM_VIRTIO_BLK_MORE));
	if (rc < 0) {
		gm_vhost_backend_call(q->blk->backend, q->index);
		complain(q, rc, &err);
	}
}

/* Has the disk or the driver given it something to do? */
static bool run_busy(struct blk_queue *q)
{
	struct gm_virtio_blk_stats before = {.size = sizeof(before)};
	struct gm_virtio_blk_stats after = {.size = sizeof(after)};
	uint32_t out = gm_virtio_blk_out(q->q);

	gm_virtio_blk_stats(q->q, &before);
	run(q, GM_VIRTIO_BLK_BUSY);
	gm_virtio_blk_stats(q->q, &after);
	return out != gm_virtio_blk_out(q->q) || before.shown != after.shown;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Runs as long as there is something to do, and a while longer. */
static void run_all(struct blk_queue *q)
{
	uint64_t linger = (uint64_t)q->blk->opts.poll_us * 1000;
	uint64_t last;

	if (linger) {
		last = now_ns();
		while (now_ns() - last < linger && !q->broken &&
			__atomic_load_n(&q->task, __ATOMIC_RELAXED) == BLK_GO_ON) {
			count(&q->polls, 1);
			if (run_busy(q))
				last = now_ns();
		}
	}
	run(q, 0);
}

static int let_go(const struct blk_queue *q)
{
	struct gm_error err = {0};
	int rc = gm_virtio_blk_let_go(q->q, FINISH_MS, &err);

	if (rc < 0)
		tool_error("queue %u: %s", q->index, err.text);
	return rc;
}

static int finish(struct blk_queue *q)
{
	struct gm_error err = {0};
	uint32_t base;
	int rc = gm_virtio_blk_stop(q->q, FINISH_MS, &base, &err);

	if (rc > 0)
		gm_vhost_backend_call(q->blk->backend, q->index);
	if (rc < 0)
		tool_error("queue %u: requests that were taken are not finished: %s", q->index,
			err.text);
	return rc < 0 ? rc : 0;
}

/* False: it is to end. */
static bool do_task(struct blk_queue *q, enum blk_task task)
{
	int rc = 0;

	if (task == BLK_STOP)
		rc = finish(q);
	if (task == BLK_LET_GO)
		rc = let_go(q);
	pthread_mutex_lock(&q->lock);
	q->answer = rc;
	if (q->task == task)
		__atomic_store_n(&q->task, BLK_GO_ON, __ATOMIC_RELAXED);
	pthread_cond_signal(&q->told);
	pthread_mutex_unlock(&q->lock);
	return task != BLK_STOP && task != BLK_SUSPEND;
}

static enum blk_task read_task(struct blk_queue *q)
{
	enum blk_task task;

	pthread_mutex_lock(&q->lock);
	task = q->task;
	pthread_mutex_unlock(&q->lock);
	return task;
}

static void *serve(void *arg)
{
	struct blk_queue *q = arg;
	struct pollfd fds[3] = {
		{q->wake, POLLIN, 0}, {gm_virtio_blk_fd(q->q), POLLIN, 0}, {q->kick, POLLIN, 0}};

	/* Once without a kick: that may have come before. */
	do {
		run_all(q);
		while (poll(fds, q->kick < 0 ? 2 : 3, -1) < 0 && errno == EINTR)
			;
		if (fds[0].revents)
			drop_count(q->wake);
		if (q->kick >= 0 && fds[2].revents)
			count(&q->kicks, drop_count(q->kick));
	} while (do_task(q, read_task(q)));
	return NULL;
}

/* ---- from the thread of the socket ---- */

static void wake(const struct blk_queue *q)
{
	uint64_t one = 1;

	/* Full: it is awake. */
	(void)!write(q->wake, &one, sizeof(one));
}

/*
 * With the lock. The queue's thread may wait for a page of post-copy, and nobody else sees meanwhile that the front-end
 * is gone, or that this process is to end.
 */
static void wait_for_answer(struct blk_queue *q)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += LOOK_NS;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	if (pthread_cond_timedwait(&q->told, &q->lock, &until) == ETIMEDOUT &&
		gm_vhost_backend_let_go(q->blk->backend, blk_is_ending(q->blk)))
		tool_error("queue %u: its guest's memory does not come any more", q->index);
}

static int ask(struct blk_queue *q, enum blk_task task)
{
	int rc;

	pthread_mutex_lock(&q->lock);
	__atomic_store_n(&q->task, task, __ATOMIC_RELAXED);
	wake(q);
	while (q->task == task)
		wait_for_answer(q);
	rc = q->answer;
	pthread_mutex_unlock(&q->lock);
	return rc;
}

bool blk_queue_prepare(struct blk *b, uint32_t index)
{
	struct blk_queue *q = &b->queues[index];
	pthread_condattr_t by;

	q->blk = b;
	q->index = index;
	q->kick = -1;
	q->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->wake < 0) {
		tool_error("eventfd: %s", strerror(errno));
		return false;
	}
	pthread_mutex_init(&q->lock, NULL);
	pthread_condattr_init(&by);
	pthread_condattr_setclock(&by, CLOCK_MONOTONIC);
	pthread_cond_init(&q->told, &by);
	pthread_condattr_destroy(&by);
	return true;
}

void blk_queue_forget(struct blk_queue *q)
{
	if (!q->blk || q->wake < 0)
		return;
	close(q->wake);
	pthread_cond_destroy(&q->told);
	pthread_mutex_destroy(&q->lock);
	q->blk = NULL;
}

int blk_queue_start(struct blk_queue *q, const struct gm_vhost_queue *queue)
{
	const struct gm_virtio_blk_queue_opts opts = {
		.size = sizeof(opts), .vq = queue->vq, .space = queue->space};
	struct gm_error err = {0};
	int rc;

	rc = gm_virtio_blk_queue_create(q->blk->device, &opts, &q->q, &err);
	if (rc < 0) {
		tool_error("queue %u: %s", q->index, err.text);
		return rc;
	}
	q->kick = queue->kick;
	q->task = BLK_GO_ON;
	q->broken = false;
	/* Signals are the main thread's, which has blocked them. */
	rc = -pthread_create(&q->thread, NULL, serve, q);
	if (rc < 0) {
		tool_error("queue %u: a thread: %s", q->index, strerror(-rc));
		gm_virtio_blk_queue_destroy(q->q);
		return rc;
	}
	q->runs = true;
	q->blk->served = true;
	return 0;
}

void blk_queue_stop(struct blk_queue *q, bool suspend)
{
	if (!q->runs)
		return;
	ask(q, suspend ? BLK_SUSPEND : BLK_STOP);
	pthread_join(q->thread, NULL);
	blk_totals_add(&q->past, q->q);
	gm_virtio_blk_queue_destroy(q->q);
	q->runs = false;
}

void blk_queue_look(struct blk_queue *q)
{
	if (q->runs)
		wake(q);
}

int blk_queue_let_go(struct blk_queue *q)
{
	return q->runs ? ask(q, BLK_LET_GO) : 0;
}
