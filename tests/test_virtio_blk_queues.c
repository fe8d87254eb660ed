/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_virtio_blk_queues.c - several queues of a block device: a thread for each, and one thread for all over one
 * channel. Drivers and devices sleep on eventfds, and are woken only as the queues say.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <guestmem/virtio_blk.h>

#include "one_queue.h"

#define QUEUES 3u
#define NR 16u
#define EACH 8u    /* requests at once */
#define LEN KIB(4) /* of one */
#define WORDS (LEN / 8)
#define ROOM (LEN + 64) /* of its buffers */
#define PART KIB(64)    /* of the disk, for each queue */
#define PATIENCE 60000  /* ms; nothing is measured */

struct queue {
	struct gm_virtq *vq;
	struct gm_virtio_blk_queue *q;
	struct gm_virtq_driver *driver;
	struct gm_reader *reader; /* the driver's */
	int kick;
	int call;
	uint32_t index;
	unsigned long requests;
	pthread_t device_thread;
	pthread_t driver_thread;
	bool stop; /* atomic */
};

static struct queue queues[QUEUES];
static struct gm_disk *disk;
static struct gm_virtio_blk *blk;
static int fd;

static void must(bool what)
{
	if (!what)
		abort();
}

static void wake(int event)
{
	const uint64_t one = 1;

	must(write(event, &one, 8) == 8);
}

/* ---- the device's side ---- */

static void run(struct queue *u)
{
	struct gm_error e;
	int rc;

	do {
		rc = gm_virtio_blk_run(u->q, 0, &e);
		must(rc >= 0);
		if (rc & GM_VIRTIO_BLK_CALL)
			wake(u->call);
	} while (rc & GM_VIRTIO_BLK_MORE);
}

static void *device_of_one(void *arg)
{
	struct queue *u = arg;
	struct pollfd fds[] = {{.fd = u->kick, .events = POLLIN},
		{.fd = gm_virtio_blk_fd(u->q), .events = POLLIN}};
	uint64_t many;

	while (!__atomic_load_n(&u->stop, __ATOMIC_ACQUIRE)) {
		must(poll(fds, 2, PATIENCE) > 0);
		if (fds[0].revents)
			must(read(u->kick, &many, 8) == 8);
		run(u);
	}
	return NULL;
}

static void *device_of_all(void *arg)
{
	struct pollfd fds[QUEUES + 1];
	uint64_t many;

	(void)arg;
	for (uint32_t i = 0; i < QUEUES; i++)
		fds[i] = (struct pollfd){.fd = queues[i].kick, .events = POLLIN};
	fds[QUEUES] = (struct pollfd){.fd = gm_virtio_blk_fd(queues[0].q), .events = POLLIN};
	while (!__atomic_load_n(&queues[0].stop, __ATOMIC_ACQUIRE)) {
		bool again = true;

		must(poll(fds, QUEUES + 1, PATIENCE) > 0);
		for (uint32_t i = 0; i < QUEUES; i++) {
			if (fds[i].revents)
				must(read(queues[i].kick, &many, 8) == 8);
		}
		while (again) {
			again = false;
			for (uint32_t i = 0; i < QUEUES; i++) {
				struct gm_error e;
				int rc = gm_virtio_blk_run(queues[i].q, 0, &e);

				must(rc >= 0);
				if (rc & GM_VIRTIO_BLK_CALL)
					wake(queues[i].call);
				again = again || (rc & GM_VIRTIO_BLK_MORE);
			}
		}
	}
	return NULL;
}

/* ---- the driver's side ---- */

static uint64_t buffers_of(const struct queue *u, size_t i)
{
	return BUFFERS_AT + u->index * MIB(1) + i * ROOM;
}

/* One of the words that are written and read again. */
static uint64_t word_of(const struct queue *u, size_t i, uint64_t version, uint64_t k)
{
	return version << 32 | u->index << 24 | i << 16 | k;
}

static void add_request(
	const struct queue *u, const struct gm_view *view, size_t i, bool is_read, uint64_t version)
{
	const uint64_t at = buffers_of(u, i);
	const uint64_t sector = (u->index * PART + i * LEN) / 512;
	const struct gm_chain_elem elems[] = {{.gpa = at, .len = 16},
		{.gpa = at + 64, .len = LEN, .flags = is_read ? GM_CHAIN_WRITE : 0},
		{.gpa = at + 32, .len = 1, .flags = GM_CHAIN_WRITE}};
	uint64_t words[WORDS];

	must(gm_write_le64(view, at, !is_read) == 0 && gm_write_le64(view, at + 8, sector) == 0);
	must(gm_write_u8(view, at + 32, 0xee) == 0);
	for (uint64_t k = 0; k < WORDS; k++)
		words[k] = is_read ? 0 : word_of(u, i, version, k);
	must(gm_write(view, at + 64, words, LEN, NULL) == 0);
	must(gm_virtq_driver_add(u->driver, view, elems, 3, 0, (void *)(i + 1)) == 0);
}

static void check_request(const struct queue *u, const struct gm_view *view, size_t i, bool is_read,
	uint64_t version, uint32_t len)
{
	const uint64_t at = buffers_of(u, i);
	uint64_t words[WORDS];
	uint8_t status;

	must(gm_read_u8(view, at + 32, &status) == 0 && status == 0);
	must(len == (is_read ? LEN + 1 : 1));
	must(gm_read(view, at + 64, words, LEN, NULL) == 0);
	for (uint64_t k = 0; is_read && k < WORDS; k++)
		must(words[k] == word_of(u, i, version, k));
}

static void *driver_of(void *arg)
{
	struct queue *u = arg;
	uint64_t turns[EACH] = {0}; /* writes and reads of each place, by turns */
	unsigned long made = EACH;
	unsigned long back = 0;
	uint64_t many;
	const struct gm_view *view = gm_reader_enter(u->reader);

	for (size_t i = 0; i < EACH; i++)
		add_request(u, view, i, false, 0);
	if (gm_virtq_driver_show(u->driver, view) > 0)
		wake(u->kick);
	gm_reader_leave(u->reader);
	while (back < made) {
		void *token;
		uint32_t len;
		int rc;

		view = gm_reader_enter(u->reader);
		rc = gm_virtq_driver_take(u->driver, view, &token, &len, NULL);
		must(rc >= 0);
		if (rc) {
			size_t i = (size_t)(uintptr_t)token - 1;

			check_request(u, view, i, turns[i] % 2, turns[i] / 2, len);
			turns[i]++;
			back++;
			if (made < u->requests) {
				add_request(u, view, i, turns[i] % 2, turns[i] / 2);
				made++;
			}
		}
		if (!rc) {
			if (gm_virtq_driver_show(u->driver, view) > 0)
				wake(u->kick);
			rc = gm_virtq_driver_calls(u->driver, view, true);
			must(rc >= 0);
		}
		gm_reader_leave(u->reader);
		if (!rc && back < made) {
			struct pollfd wait = {.fd = u->call, .events = POLLIN};

			must(poll(&wait, 1, PATIENCE) > 0);
			must(read(u->call, &many, 8) == 8);
		}
	}
	return NULL;
}

/* ---- both ---- */

static void make_queue(uint32_t i, uint32_t flags, struct gm_disk_channel *channel)
{
	struct queue *u = &queues[i];
	struct gm_virtq_opts opts = queue_opts(NR * 4, flags);
	struct gm_virtio_blk_queue_opts qopts = {
		.size = sizeof(qopts), .space = space, .channel = channel};
	const struct gm_view *view;

	*u = (struct queue){.index = i,
		.kick = eventfd(0, EFD_NONBLOCK),
		.call = eventfd(0, EFD_NONBLOCK),
		.requests = support_scale(1500)};
	opts.desc += i * KIB(16);
	opts.driver += i * KIB(16);
	opts.device += i * KIB(16);
	assert_ok(gm_reader_create(space, "driver", &u->reader, &err));
	view = gm_reader_enter(u->reader);
	assert_ok(gm_virtq_create(&opts, &u->vq, &err));
	assert_ok(gm_virtq_driver_create(&opts, view, &u->driver, &err));
	assert_ok(gm_virtq_start(u->vq, view, base_of(flags), &err));
	gm_reader_leave(u->reader);
	qopts.vq = u->vq;
	assert_ok(gm_virtio_blk_queue_create(blk, &qopts, &u->q, &err));
}

static void end_queue(struct queue *u)
{
	uint32_t base;

	assert_true(gm_virtio_blk_stop(u->q, PATIENCE, &base, &err) >= 0);
	assert_int_equal(gm_virtio_blk_out(u->q), 0);
	gm_virtio_blk_queue_destroy(u->q);
	gm_virtq_destroy(u->vq);
	gm_virtq_driver_destroy(u->driver);
	gm_reader_destroy(u->reader);
	close(u->kick);
	close(u->call);
}

static void work(uint32_t flags, uint32_t disk_flags, bool shared)
{
	struct gm_disk_file_opts fopts = {.size = sizeof(fopts), .flags = disk_flags};
	struct gm_virtio_blk_opts bopts = {.size = sizeof(bopts), .nr_queues = QUEUES};
	struct gm_disk_channel *channel = NULL;

	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, MEMORY);
	fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, (off_t)(QUEUES * PART)), 0);
	fopts.fd = fd;
	assert_ok(gm_disk_file(&fopts, &disk, &err));
	bopts.disk = disk;
	assert_ok(gm_virtio_blk_create(&bopts, &blk, &err));
	assert_ok(gm_virtio_blk_accept(blk, gm_virtio_blk_features(blk), &err));
	/* Less than all may ask for. */
	if (shared)
		assert_ok(gm_disk_open(disk, EACH + 3, &channel, &err));
	for (uint32_t i = 0; i < QUEUES; i++)
		make_queue(i, flags, channel);
	for (uint32_t i = 0; i < QUEUES; i++) {
		struct queue *u = &queues[i];

		if (!shared || i == 0)
			assert_int_equal(pthread_create(&u->device_thread, NULL,
						 shared ? device_of_all : device_of_one, u),
				0);
		assert_int_equal(pthread_create(&u->driver_thread, NULL, driver_of, u), 0);
	}
	for (uint32_t i = 0; i < QUEUES; i++)
		pthread_join(queues[i].driver_thread, NULL);
	for (uint32_t i = 0; i < QUEUES; i++) {
		__atomic_store_n(&queues[i].stop, true, __ATOMIC_RELEASE);
		wake(queues[i].kick);
		if (!shared || i == 0)
			pthread_join(queues[i].device_thread, NULL);
	}
	for (uint32_t i = 0; i < QUEUES; i++)
		end_queue(&queues[i]);
	gm_disk_close(channel);
	gm_virtio_blk_destroy(blk);
	gm_disk_destroy(disk);
	close(fd);
	stop();
}

static void queues_have_threads_of_their_own(void **state)
{
	(void)state;
	work(0, 0, false);
	work(GM_VIRTQ_EVENT, 0, false);
	work(GM_VIRTQ_PACKED | GM_VIRTQ_EVENT, GM_DISK_NO_URING, false);
	work(GM_VIRTQ_PACKED | GM_VIRTQ_IN_ORDER, 0, false);
}

static void one_thread_serves_all_over_one_channel(void **state)
{
	(void)state;
	work(0, 0, true);
	work(GM_VIRTQ_PACKED | GM_VIRTQ_EVENT, 0, true);
	work(GM_VIRTQ_EVENT, GM_DISK_NO_URING, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(queues_have_threads_of_their_own),
		cmocka_unit_test(one_thread_serves_all_over_one_channel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
