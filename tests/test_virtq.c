/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_virtq.c - virtqueues of each sort: chains go to the device and come back whole, nobody sleeps while there is
 * something to do, a queue goes on where another stood.
 */
#include "one_queue.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <guestmem/log.h>

#include "fault.h"
#include "random.h"

#define SORTS 16u /* flags */
#define MAX 128u

/* ---- against a model ---- */

#define SLOT KIB(4) /* of buffers, for each chain */

/* A chain that is out: what the device must see, and give. */
struct request {
	struct gm_chain_elem elems[8];
	size_t nr;
	uint32_t to_read;
	uint32_t to_write;
	uint64_t number;
	bool is_out;
};

static struct request requests[MAX];

struct taken {
	struct gm_virtq_item item;
	struct gm_chain_elem elems[8];
	bool is;
};

static struct taken taken[MAX];
static size_t nr_taken;
static bool device_sleeps;
static bool driver_sleeps;
static uint64_t served;
static struct rng rng_;

static uint8_t byte_of(uint64_t number, uint64_t at)
{
	return (uint8_t)(number * 31 + at * 7 + 3);
}

/* A free place of a request, or -1. */
static int free_request(void)
{
	for (int i = 0; i < (int)MAX; i++) {
		if (!requests[i].is_out)
			return i;
	}
	return -1;
}

static void make_request(struct request *r, uint64_t number)
{
	uint64_t at = BUFFERS_AT + (uint64_t)(r - requests) * SLOT;
	size_t readable;

	r->nr = 1 + rng_below(&rng_, 8);
	readable = rng_below(&rng_, r->nr + 1);
	r->number = number;
	r->to_read = 0;
	r->to_write = 0;
	for (size_t i = 0; i < r->nr; i++) {
		struct gm_chain_elem *e = &r->elems[i];

		/* Of no bytes too. */
		*e = (struct gm_chain_elem){.gpa = at, .len = rng_below(&rng_, 300)};
		at += e->len + rng_below(&rng_, 50);
		if (i >= readable) {
			e->flags = GM_CHAIN_WRITE;
			r->to_write += (uint32_t)e->len;
			continue;
		}
		for (uint64_t k = 0; k < e->len; k++)
			poke(e->gpa + k, byte_of(number, r->to_read + k), 1);
		r->to_read += (uint32_t)e->len;
	}
}

static void driver_adds(uint32_t flags)
{
	static uint64_t number;
	const struct gm_view *view = enter();
	int i = free_request();
	uint64_t table = 0;
	int rc;

	if (i < 0) {
		leave();
		return;
	}
	make_request(&requests[i], ++number);
	if ((flags & GM_VIRTQ_INDIRECT) && rng_below(&rng_, 2))
		table = TABLES_AT + (uint64_t)i * 128;
	rc = gm_virtq_driver_add(
		driver, view, requests[i].elems, requests[i].nr, table, &requests[i]);
	if (rc != -ENOSPC) {
		assert_int_equal(rc, 0);
		requests[i].is_out = true;
	}
	if (rng_below(&rng_, 3)) {
		rc = gm_virtq_driver_show(driver, view);
		assert_true(rc >= 0);
		if (rc)
			device_sleeps = false;
	}
	leave();
}

static void device_takes(void)
{
	const struct gm_view *view = enter();
	struct taken *t = taken;
	int rc;

	if (nr_taken == MAX || device_sleeps) {
		leave();
		return;
	}
	while (t->is)
		t++;
	rc = gm_virtq_pop(vq, view, t->elems, 8, &t->item, &err);
	if (rc < 0)
		fail_msg("%s", err.text);
	if (rc && rng_below(&rng_, 8) == 0) {
		assert_int_equal(gm_virtq_unpop(vq, &t->item), 0);
		assert_int_equal(gm_virtq_pop(vq, view, t->elems, 8, &t->item, &err), 1);
	}
	t->is = rc;
	nr_taken += (size_t)rc;
	/* With nothing to do it sleeps until it is kicked. */
	if (!rc) {
		rc = gm_virtq_kicks(vq, view, true);
		assert_true(rc >= 0);
		device_sleeps = !rc;
	}
	leave();
}

static void device_serves(void)
{
	const struct gm_view *view = enter();
	size_t i;
	struct taken *t;
	uint8_t bytes[2400];
	uint64_t number;
	uint32_t len;

	if (nr_taken == 0) {
		leave();
		return;
	}
	for (t = taken, i = rng_below(&rng_, nr_taken); !t->is || i-- > 0;)
		t++;
	len = (uint32_t)gm_chain_left(&t->item.chain, GM_CHAIN_READABLE);
	assert_int_equal(gm_chain_read(&t->item.chain, view, bytes, len, NULL), 0);
	/* Which one it is is told by its first writable or readable address. */
	number = requests[(t->elems[0].gpa - BUFFERS_AT) / SLOT].number;
	assert_int_equal(len, requests[(t->elems[0].gpa - BUFFERS_AT) / SLOT].to_read);
	for (uint32_t k = 0; k < len; k++)
		assert_int_equal(bytes[k], byte_of(number, k));
	len = (uint32_t)gm_chain_left(&t->item.chain, GM_CHAIN_WRITABLE);
	for (uint32_t k = 0; k < len; k++)
		bytes[k] = byte_of(number, k + 1000);
	assert_int_equal(gm_chain_write(&t->item.chain, view, bytes, len, NULL), 0);
	assert_int_equal(gm_virtq_fill(vq, view, &t->item, len), 0);
	t->is = false;
	nr_taken--;
	if (rng_below(&rng_, 2)) {
		int rc;

		assert_int_equal(gm_virtq_flush(vq, view), 0);
		rc = gm_virtq_wants_call(vq, view);
		assert_true(rc >= 0);
		if (rc)
			driver_sleeps = false;
	}
	leave();
}

static void driver_takes(void)
{
	const struct gm_view *view = enter();
	struct request *r;
	uint32_t len;
	void *token;
	int rc;

	if (driver_sleeps) {
		leave();
		return;
	}
	rc = gm_virtq_driver_take(driver, view, &token, &len, &err);
	if (rc < 0)
		fail_msg("%s", err.text);
	if (rc == 0) {
		rc = gm_virtq_driver_calls(driver, view, true);
		assert_true(rc >= 0);
		driver_sleeps = !rc;
		leave();
		return;
	}
	r = token;
	assert_true(r->is_out);
	assert_int_equal(len, r->to_write);
	len = 0;
	for (size_t i = 0; i < r->nr; i++) {
		for (uint64_t k = 0; k < r->elems[i].len && r->elems[i].flags; k++)
			assert_int_equal(
				peek(r->elems[i].gpa + k, 1), byte_of(r->number, 1000 + len++));
	}
	r->is_out = false;
	served++;
	leave();
}

/* Everything that is out comes back, without anybody being woken but by what the queue says. */
static void drain(void)
{
	const struct gm_view *view = enter();
	int rc = gm_virtq_driver_show(driver, view);

	assert_true(rc >= 0);
	if (rc)
		device_sleeps = false;
	for (int i = 0; i < 5000; i++) {
		device_takes();
		device_serves();
		driver_takes();
	}
	assert_int_equal(gm_virtq_flush(vq, view), 0);
	if (gm_virtq_wants_call(vq, view))
		driver_sleeps = false;
	for (int i = 0; i < 500; i++)
		driver_takes();
	leave();
	for (unsigned int i = 0; i < MAX; i++)
		assert_false(requests[i].is_out);
	assert_int_equal(gm_virtq_out(vq), 0);
}

/* Another device goes on where this one stands; what is out is lost to it, so there is nothing out. */
static void change_device(uint32_t nr, uint32_t flags)
{
	struct gm_virtq_opts opts = queue_opts(nr, flags);
	uint32_t base = gm_virtq_base(vq);

	gm_virtq_destroy(vq);
	assert_ok(gm_virtq_create(&opts, &vq, &err));
	assert_ok(gm_virtq_start(vq, enter(), base, &err));
	leave();
	device_sleeps = false;
	driver_sleeps = false;
}

static void a_life(uint32_t nr, uint32_t flags, unsigned long steps)
{
	start_queue(nr, flags);
	memset(requests, 0, sizeof(requests));
	nr_taken = 0;
	served = 0;
	device_sleeps = false;
	driver_sleeps = false;
	for (unsigned long i = 0; i < steps; i++) {
		switch (rng_below(&rng_, 6)) {
		case 0:
		case 1:
			driver_adds(flags);
			break;
		case 2:
		case 3:
			device_takes();
			break;
		case 4:
			device_serves();
			break;
		default:
			driver_takes();
		}
		if (i % 1000 == 999) {
			drain();
			change_device(nr, flags);
		}
	}
	drain();
	assert_true(served > 0);
	stop_queue();
}

static void chains_go_and_come_back(void **state)
{
	static const uint32_t sizes[] = {1, 2, 8, 64, 3, 7, 100};

	(void)state;
	rng_.state = test_seed(815);
	for (uint32_t flags = 0; flags < SORTS; flags++) {
		/* One entry holds a chain of more elements in a table only. */
		for (unsigned int i = flags & GM_VIRTQ_INDIRECT ? 0 : 2;
			i < (flags & GM_VIRTQ_PACKED ? 7u : 4u); i++) {
			if (!(flags & GM_VIRTQ_INDIRECT) && sizes[i] < 8)
				continue;
			a_life(sizes[i], flags, support_scale(3000));
		}
	}
}

/* ---- with threads ---- */

static struct {
	int kick;
	int call;
	struct gm_space *space;
	struct gm_virtq *vq;
	uint64_t requests;
	uint64_t kicks;
	uint64_t calls;
} race;

static void wait_for(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	uint64_t value;

	/* Who sleeps for so long was not woken. */
	if (poll(&poll_fd, 1, 30000) != 1 || read(fd, &value, 8) != 8)
		abort();
}

static void wake(int fd, uint64_t *count)
{
	const uint64_t one = 1;

	__atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
	if (write(fd, &one, 8) != 8)
		abort();
}

static void *device_thread(void *arg)
{
	struct gm_reader *mine;
	struct gm_chain_elem elems[8];
	struct gm_virtq_item item;
	uint64_t done = 0;

	(void)arg;
	if (gm_reader_create(race.space, "device", &mine, NULL))
		abort();
	while (done < race.requests) {
		const struct gm_view *view = gm_reader_enter(mine);
		uint64_t value;
		int rc;

		gm_virtq_kicks(race.vq, view, false);
		while ((rc = gm_virtq_pop(race.vq, view, elems, 8, &item, NULL)) > 0) {
			if (gm_chain_read_le64(&item.chain, view, &value) ||
				gm_chain_write_le64(&item.chain, view, ~value) ||
				gm_virtq_push(race.vq, view, &item, 8))
				abort();
			done++;
			if (gm_virtq_wants_call(race.vq, view))
				wake(race.call, &race.calls);
		}
		/* Time for the driver to add something unseen. */
		if (done % 2)
			sched_yield();
		rc = rc ? rc : gm_virtq_kicks(race.vq, view, true);
		gm_reader_leave(mine);
		if (rc < 0)
			abort();
		if (rc == 0 && done < race.requests)
			wait_for(race.kick);
	}
	gm_reader_destroy(mine);
	return NULL;
}

static void race_driver(uint64_t nr)
{
	uint64_t added = 0;
	uint64_t back = 0;

	while (back < nr) {
		const struct gm_view *view = enter();
		uint32_t len;
		void *token;
		int rc = 0;

		while (added < nr && added - back < 16) {
			uint64_t at = BUFFERS_AT + added % 64 * 16;
			const struct gm_chain_elem elems[] = {{.gpa = at, .len = 8},
				{.gpa = at + 8, .len = 8, .flags = GM_CHAIN_WRITE}};

			poke(at, added, 8);
			if (gm_virtq_driver_add(
				    driver, view, elems, 2, 0, (void *)(uintptr_t)(added + 1)))
				break;
			added++;
			if (gm_virtq_driver_show(driver, view))
				wake(race.kick, &race.kicks);
		}
		while ((rc = gm_virtq_driver_take(driver, view, &token, &len, &err)) > 0) {
			uint64_t number = (uintptr_t)token - 1;

			assert_int_equal(peek(BUFFERS_AT + number % 64 * 16 + 8, 8), ~number);
			back++;
		}
		if (back % 2)
			sched_yield();
		rc = rc ? rc : gm_virtq_driver_calls(driver, view, true);
		leave();
		assert_true(rc >= 0);
		if (rc == 0 && back < added && (added - back >= 16 || added == nr))
			wait_for(race.call);
		enter();
		gm_virtq_driver_calls(driver, view, false);
		leave();
	}
}

static void nobody_sleeps_through(void **state)
{
	static const uint32_t sorts[] = {
		0, GM_VIRTQ_EVENT, GM_VIRTQ_PACKED, GM_VIRTQ_PACKED | GM_VIRTQ_EVENT};

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		uint64_t nr = support_scale(3000);
		pthread_t thread;

		start_queue(64, sorts[i]);
		race.kick = eventfd(0, EFD_CLOEXEC);
		race.call = eventfd(0, EFD_CLOEXEC);
		race.space = space;
		race.vq = vq;
		race.requests = nr;
		race.kicks = 0;
		race.calls = 0;
		assert_int_equal(pthread_create(&thread, NULL, device_thread, NULL), 0);
		race_driver(nr);
		pthread_join(thread, NULL);
		close(race.kick);
		close(race.call);
		assert_true(race.kicks > 0 && race.calls <= nr);
		printf("figure: queued-requests %llu\n", (unsigned long long)nr);
		stop_queue();
	}
}

/* ---- single things ---- */

static void a_used_ring_marks_pages(void **state)
{
	struct gm_chain_elem elems[8];
	struct gm_virtq_item item;
	struct gm_log *log;

	(void)state;
	for (uint32_t flags = 0; flags < 2; flags++) {
		const struct gm_chain_elem elem = {
			.gpa = BUFFERS_AT, .len = 8, .flags = GM_CHAIN_WRITE};
		uint64_t ring = flags & GM_VIRTQ_PACKED ? DESC_AT : DEVICE_AT;
		const struct gm_view *view;

		start_queue(8, flags);
		view = enter();
		assert_int_equal(gm_virtq_driver_add(driver, view, &elem, 1, 0, &log), 0);
		assert_int_equal(gm_virtq_driver_show(driver, view), 1);
		leave();
		assert_ok(gm_log_create(space, NULL, &log, &err));
		view = enter();
		assert_int_equal(gm_virtq_pop(vq, view, elems, 8, &item, &err), 1);
		assert_int_equal(gm_log_count(log, ring, 4096), 0);
		assert_int_equal(gm_virtq_push(vq, view, &item, 0), 0);
		assert_int_equal(gm_log_count(log, ring, 4096), 1);
		leave();
		gm_log_destroy(log, NULL);
		stop_queue();
	}
}

static void the_last_chain_is_put_back_and_no_other(void **state)
{
	struct gm_chain_elem elems[2][8];
	struct gm_virtq_item item[2];

	(void)state;
	for (uint32_t flags = 0; flags < 2; flags++) {
		const struct gm_chain_elem elem = {.gpa = BUFFERS_AT, .len = 8};
		const struct gm_view *view;
		uint32_t base;

		start_queue(8, flags);
		view = enter();
		for (int i = 0; i < 3; i++)
			assert_int_equal(gm_virtq_driver_add(driver, view, &elem, 1, 0, item), 0);
		gm_virtq_driver_show(driver, view);
		assert_int_equal(gm_virtq_pop(vq, view, elems[0], 8, &item[0], &err), 1);
		base = gm_virtq_base(vq);
		assert_int_equal(gm_virtq_pop(vq, view, elems[1], 8, &item[1], &err), 1);
		assert_int_equal(gm_virtq_unpop(vq, &item[0]), -EINVAL);
		assert_int_equal(gm_virtq_unpop(vq, &item[1]), 0);
		assert_int_equal(gm_virtq_base(vq), base);
		assert_int_equal(gm_virtq_out(vq), 1);
		assert_int_equal(gm_virtq_pop(vq, view, elems[1], 8, &item[1], &err), 1);
		assert_int_equal(gm_virtq_push(vq, view, &item[1], 0), 0);
		assert_int_equal(gm_virtq_push(vq, view, &item[0], 0), 0);
		assert_int_equal(gm_virtq_push(vq, view, &item[0], 0), -EINVAL);
		leave();
		stop_queue();
	}
}

static void in_order_means_in_order(void **state)
{
	static const uint32_t sorts[] = {GM_VIRTQ_IN_ORDER, GM_VIRTQ_IN_ORDER | GM_VIRTQ_PACKED};

	(void)state;
	for (unsigned int s = 0; s < 2; s++) {
		const struct gm_chain_elem elem = {.gpa = BUFFERS_AT, .len = 8};
		struct gm_chain_elem elems[4][8];
		struct gm_virtq_item item[4];
		const struct gm_view *view;
		uint32_t len;
		void *token;

		start_queue(4, sorts[s]);
		view = enter();
		for (unsigned int i = 0; i < 4; i++) {
			assert_int_equal(
				gm_virtq_driver_add(driver, view, &elem, 1, 0, &item[i]), 0);
			gm_virtq_driver_show(driver, view);
			assert_int_equal(gm_virtq_pop(vq, view, elems[i], 8, &item[i], &err), 1);
		}
		assert_int_equal(gm_virtq_push(vq, view, &item[2], 0), 0);
		assert_int_equal(gm_virtq_push(vq, view, &item[2], 0), -EINVAL);
		assert_int_equal(gm_virtq_push(vq, view, &item[1], 0), 0);
		assert_int_equal(gm_virtq_driver_take(driver, view, &token, &len, &err), 0);
		assert_int_equal(gm_virtq_wants_call(vq, view), 0);
		assert_int_equal(gm_virtq_out(vq), 4);
		assert_int_equal(gm_virtq_push(vq, view, &item[0], 0), 0);
		assert_int_equal(gm_virtq_wants_call(vq, view), 1);
		for (unsigned int i = 0; i < 3; i++) {
			assert_int_equal(gm_virtq_driver_take(driver, view, &token, &len, &err), 1);
			assert_ptr_equal(token, &item[i]);
		}
		assert_int_equal(gm_virtq_driver_take(driver, view, &token, &len, &err), 0);
		leave();
		stop_queue();
	}
}

static int create_once(void *ctx)
{
	struct gm_virtq_opts opts = queue_opts(8, *(uint32_t *)ctx);
	struct gm_virtq_driver *d;
	struct gm_virtq *q;
	int rc = gm_virtq_create(&opts, &q, &err);

	if (rc)
		return rc;
	gm_virtq_destroy(q);
	rc = gm_virtq_driver_create(&opts, enter(), &d, &err);
	leave();
	if (!rc)
		gm_virtq_driver_destroy(d);
	return rc;
}

static void failures_leave_nothing(void **state)
{
	uint32_t flags = GM_VIRTQ_IN_ORDER;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, MEMORY);
	assert_true(fault_sweep(create_once, &flags) >= 5);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chains_go_and_come_back),
		cmocka_unit_test(nobody_sleeps_through),
		cmocka_unit_test(a_used_ring_marks_pages),
		cmocka_unit_test(the_last_chain_is_put_back_and_no_other),
		cmocka_unit_test(in_order_means_in_order),
		cmocka_unit_test(failures_leave_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
