/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_vhost_threads.c - a queue that is served by a thread of its own, while the front-end changes memory, calls, logs
 * and enables.
 */
#include "vhost_front.h"

#include <pthread.h>
#include <sched.h>

struct worker {
	struct device d; /* first: the callbacks of the header know it */
	pthread_t thread;
	int stop; /* atomic */
	unsigned long served;
};

static void *work(void *ctx)
{
	struct worker *w = ctx;
	struct gm_vhost_queue *q = &w->d.queue[0];
	struct gm_reader *reader;

	assert_int_equal(gm_reader_create(q->space, "worker", &reader, NULL), 0);
	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
		const struct gm_view *view = gm_reader_enter(reader);
		struct gm_chain_elem elems[8];
		struct gm_virtq_item item;
		uint32_t len = 0;
		int rc = gm_virtq_pop(q->vq, view, elems, 8, &item, NULL);

		if (rc == 1) {
			assert_int_equal(dev_echo(&item, view, &len), 0);
			assert_int_equal(gm_virtq_push(q->vq, view, &item, len), 0);
			__atomic_add_fetch(&w->served, 1, __ATOMIC_RELAXED);
			gm_vhost_backend_call(w->d.b, 0);
		} else {
			assert_int_equal(rc, 0);
		}
		gm_reader_leave(reader);
		sched_yield();
	}
	gm_reader_destroy(reader);
	return NULL;
}

static int worker_start(void *ctx, const struct gm_vhost_queue *queue)
{
	struct worker *w = ctx;

	w->d.queue[0] = *queue;
	w->stop = 0;
	return -pthread_create(&w->thread, NULL, work, w);
}

static void worker_stop(void *ctx, uint32_t index, bool suspend)
{
	struct worker *w = ctx;

	(void)index;
	(void)suspend;
	__atomic_store_n(&w->stop, 1, __ATOMIC_RELEASE);
	pthread_join(w->thread, NULL);
}

/* Waits for the device's answer to the chain that was offered last. */
static void wait_for_answer(struct front *f, uint8_t first)
{
	void *token = NULL;
	uint32_t len = 0;
	int rc = 0;

	while (rc == 0) {
		rc = gm_virtq_driver_take(
			f->driver, gm_reader_enter(f->reader), &token, &len, &err);
		gm_reader_leave(f->reader);
		sched_yield();
	}
	assert_int_equal(rc, 1);
	assert_int_equal(len, 16);
	assert_int_equal(f->ram[OUT_AT], (uint8_t)~first);
}

static void change_something(struct front *f, unsigned int what, int log_fd, int other)
{
	const struct gm_vhost_region more = region_of(GIB(1), MIB(1), 0);
	const struct gm_vhost_log log = {.len = 64 * 1024};

	switch (what % 6) {
	case 0:
		assert_int_equal(ask_add(f, more, f->fd), 0);
		assert_int_equal(ask_remove(f, more), 0);
		break;
	case 1:
		assert_int_equal(ask_ring_fd(f, GM_VHOST_SET_VRING_CALL, 0, other), 0);
		break;
	case 2:
		assert_int_equal(ask(f, GM_VHOST_SET_LOG_BASE, &log, sizeof(log), &log_fd, 1), 0);
		break;
	case 3:
		f->features ^= GM_VHOST_F_LOG_ALL;
		assert_int_equal(ask_number(f, GM_VHOST_SET_FEATURES, f->features), 0);
		break;
	case 4:
		assert_int_equal(ask_ring(f, GM_VHOST_SET_VRING_ENABLE, 0, 0), 0);
		assert_int_equal(ask_ring(f, GM_VHOST_SET_VRING_ENABLE, 0, 1), 0);
		break;
	default:
		assert_int_equal(ask_addr(f, 0, GM_VHOST_VRING_LOG, MIB(100)), 0);
		assert_int_equal(ask_ring_fd(f, GM_VHOST_SET_VRING_CALL, 0, -1), 0);
		break;
	}
}

static void a_queue_is_served_while_all_changes(void **state)
{
	const struct gm_vhost_backend_ops ops = {
		.size = sizeof(ops), .queue_start = worker_start, .queue_stop = worker_stop};
	struct worker w = {.served = 0};
	struct gm_vhost_backend_opts opts = {.size = sizeof(opts),
		.ops = &ops,
		.ctx = &w,
		.features = ALL_FEATURES,
		.gpa_limit = GIB(4)};
	const unsigned long rounds = support_scale(120);
	int log_fd = make_ram(64 * 1024, F_SEAL_SHRINK);
	int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	gm_vhost_backend_destroy(f.b);
	assert_int_equal(gm_vhost_backend_create(&opts, &f.b, &err), 0);
	w.d.b = f.b;
	negotiate(&f, 0, 0);
	share_ram(&f);
	make_driver(&f);
	start_ring(&f, 0, 0);
	for (unsigned long i = 0; i < rounds; i++) {
		offer(&f, (uint8_t)i, IN_AT, OUT_AT);
		change_something(&f, (unsigned int)i, log_fd, other);
		wait_for_answer(&f, (uint8_t)i);
	}
	assert_int_equal(__atomic_load_n(&w.served, __ATOMIC_RELAXED), rounds);
	gm_vhost_backend_disconnect(f.b);
	close_backend(&f);
	close(log_fd);
	close(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_queue_is_served_while_all_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
