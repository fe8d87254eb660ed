/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_virtq_inflight.c - a device's process is killed again and again, and the next one serves what it had taken: each
 * chain comes back once. What an area may say that no device wrote.
 */
#include "one_queue.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault.h"
#include "killed_device.h"
#include "random.h"

#define NR 16u
#define NUMBERS 65536u
#define SERVED_AT MIB(8) /* a byte for each number: how often it was served */

static struct gm_space *area;
static int memory_fd = -1;
static int area_fd = -1;

/* ---- a device in a process of its own ---- */

static struct gm_space *space_of(int fd, uint64_t len)
{
	struct gm_block_opts opts = {
		.size = sizeof(opts), .backing = GM_BACKING_FD, .fd = fd, .len = len};
	struct gm_space *s;

	if (gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = MIB(64)), &s, &err) ||
		gm_space_add(s, DESC(.gpa = 0, .backing = &opts), NULL, &err))
		abort();
	return s;
}

static int serve(struct gm_virtq *q, const struct gm_view *view, struct gm_virtq_item *one)
{
	uint64_t number;
	uint8_t times;

	if (gm_chain_read_le64(&one->chain, view, &number) || number >= NUMBERS ||
		gm_read_u8(view, SERVED_AT + number, &times) ||
		gm_write_u8(view, SERVED_AT + number, (uint8_t)(times + 1)) ||
		gm_chain_write_le64(&one->chain, view, ~number))
		return -EIO;
	sched_yield();
	return gm_virtq_fill(q, view, one, 8);
}

/* Until it is killed. */
static _Noreturn void device(uint32_t flags, uint64_t seed)
{
	struct gm_virtq_opts opts = queue_opts(NR, flags);
	struct gm_space *mine = space_of(memory_fd, MEMORY);
	struct gm_space *noted = space_of(area_fd, MIB(1));
	struct gm_virtq_item items[8];
	struct gm_chain_elem elems[8][8];
	struct rng rng = {seed};
	struct gm_reader *r;
	struct gm_virtq *q;
	int rc = gm_reader_create(mine, "device", &r, &err);

	if (!rc)
		rc = gm_virtq_create(&opts, &q, &err);
	if (!rc)
		rc = gm_virtq_track(q, noted, 0, &err);
	if (!rc)
		rc = gm_virtq_start(q, gm_reader_enter(r), base_of(flags), &err);
	while (!rc) {
		const struct gm_view *view = gm_reader_enter(r);
		unsigned int nr = 0;

		while (nr < 1 + rng_below(&rng, 8) && rc >= 0) {
			rc = gm_virtq_pop(q, view, elems[nr], 8, &items[nr], &err);
			if (rc <= 0)
				break;
			nr++;
		}
		for (rc = rc < 0 ? rc : 0; nr > 0 && !rc; nr--) {
			unsigned int i = (unsigned int)rng_below(&rng, nr);

			rc = serve(q, view, &items[i]);
			items[i] = items[nr - 1];
			memcpy(elems[i], elems[nr - 1], sizeof(elems[i]));
			items[i].chain.elems = elems[i];
			if (!rc && rng_below(&rng, 3) == 0)
				rc = gm_virtq_flush(q, view);
		}
		if (!rc)
			rc = gm_virtq_flush(q, view);
		gm_reader_leave(r);
		sched_yield();
	}
	fprintf(stderr, "device: %d: %s\n", rc, err.text);
	_exit(1);
}

static pid_t start_device(uint32_t flags, uint64_t seed)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		device(flags, seed);
	return pid;
}

static uint64_t next_number;
static uint64_t nr_back;

static uint64_t slot_of(uint64_t number)
{
	return BUFFERS_AT + number % 64 * 64;
}

static void offer(const struct gm_view *view, uint32_t flags, struct rng *rng)
{
	uint64_t at = slot_of(next_number);
	const struct gm_chain_elem elems[] = {{.gpa = at, .len = 3}, {.gpa = at + 3, .len = 5},
		{.gpa = at + 32, .len = 8, .flags = GM_CHAIN_WRITE}};
	uint64_t table = (flags & GM_VIRTQ_INDIRECT) && rng_below(rng, 2)
				 ? TABLES_AT + next_number % 64 * 64
				 : 0;

	assert_int_equal(gm_write_le64(view, at, next_number), 0);
	if (gm_virtq_driver_add(
		    driver, view, elems, 3, table, (void *)(uintptr_t)(next_number + 1)))
		return;
	next_number++;
	assert_true(gm_virtq_driver_show(driver, view) >= 0);
}

/* Until so many more are back. */
static void drive(uint32_t flags, struct rng *rng, uint64_t until, bool offers)
{
	while (nr_back < until) {
		const struct gm_view *view = enter();
		uint32_t len;
		uint64_t value;
		void *token;
		int rc;

		if (offers && next_number - nr_back < 32)
			offer(view, flags, rng);
		rc = gm_virtq_driver_take(driver, view, &token, &len, &err);
		if (rc < 0)
			fail_msg("%s", err.text);
		if (rc) {
			uint64_t number = (uintptr_t)token - 1;

			assert_int_equal(len, 8);
			assert_int_equal(gm_read_le64(view, slot_of(number) + 32, &value), 0);
			assert_int_equal(value, ~number);
			nr_back++;
		}
		leave();
		if (!rc)
			sched_yield();
	}
}

static void start_shared(uint32_t flags)
{
	struct gm_virtq_opts opts = queue_opts(NR, flags);

	memory_fd = memfd_create("memory", MFD_CLOEXEC);
	area_fd = memfd_create("area", MFD_CLOEXEC);
	assert_int_equal(ftruncate(memory_fd, (off_t)MEMORY), 0);
	assert_int_equal(ftruncate(area_fd, (off_t)MIB(1)), 0);
	space = space_of(memory_fd, MEMORY);
	area = space_of(area_fd, MIB(1));
	assert_ok(gm_reader_create(space, "first", &reader, &err));
	assert_ok(gm_virtq_driver_create(&opts, enter(), &driver, &err));
	leave();
	next_number = 0;
	nr_back = 0;
}

static void stop_shared(void)
{
	gm_virtq_driver_destroy(driver);
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	gm_space_destroy(area);
	close(memory_fd);
	close(area_fd);
}

static void nothing_is_lost_with_a_device(void **state)
{
	static const uint32_t sorts[] = {0, GM_VIRTQ_INDIRECT, GM_VIRTQ_PACKED,
		GM_VIRTQ_PACKED | GM_VIRTQ_INDIRECT, GM_VIRTQ_IN_ORDER,
		GM_VIRTQ_PACKED | GM_VIRTQ_IN_ORDER};
	struct rng rng = {test_seed(31)};
	unsigned long under_way = 0;
	uint64_t twice = 0;

	(void)state;
	for (unsigned int s = 0; s < 6; s++) {
		unsigned long kills = support_scale(25);
		pid_t pid;

		start_shared(sorts[s]);
		for (unsigned long k = 0; k < kills; k++) {
			pid = start_device(sorts[s], rng_next(&rng));
			drive(sorts[s], &rng, nr_back + rng_below(&rng, 40), true);
			for (uint64_t i = rng_below(&rng, 8); i > 0; i--) {
				offer(enter(), sorts[s], &rng);
				leave();
				sched_yield();
			}
			kill_device(pid);
			under_way += nr_noted(area_fd, NR, sorts[s]) > 0;
		}
		pid = start_device(sorts[s], 1);
		drive(sorts[s], &rng, next_number, false);
		kill_device(pid);
		for (uint64_t i = 0; i < next_number; i++) {
			uint64_t times = peek(SERVED_AT + i, 1);

			assert_true(times > 0);
			twice += times > 1;
		}
		printf("figure: devices-killed %lu\n", kills);
		stop_shared();
	}
	printf("figure: chains-served-twice %llu\n", (unsigned long long)twice);
	assert_true(under_way > 0);
}

/* ---- in one process ---- */

static void track_anew(uint32_t flags, int expected)
{
	struct gm_virtq_opts opts = queue_opts(NR, flags);

	gm_virtq_destroy(vq);
	assert_ok(gm_virtq_create(&opts, &vq, &err));
	assert_ok(gm_virtq_track(vq, area, 0, &err));
	assert_int_equal(gm_virtq_start(vq, enter(), base_of(flags), &err), expected);
	leave();
}

static void what_was_taken_comes_first_and_in_its_order(void **state)
{
	(void)state;
	for (uint32_t flags = 0; flags < 2; flags++) {
		struct gm_chain_elem elems[8];
		struct gm_virtq_item items[4];
		struct rng rng = {5};
		const struct gm_view *view;
		const uint64_t order[] = {0, 1, 3, 4};
		uint32_t base;

		start_shared(flags);
		vq = NULL;
		track_anew(flags, 0);
		view = enter();
		for (int i = 0; i < 5; i++)
			offer(view, flags, &rng);
		for (int i = 0; i < 4; i++)
			assert_int_equal(gm_virtq_pop(vq, view, elems, 8, &items[i], &err), 1);
		assert_int_equal(gm_virtq_unpop(vq, &items[3]), -ENOTSUP);
		assert_int_equal(gm_virtq_push(vq, view, &items[2], 8), 0);
		/* Filled, but nobody has seen it. */
		assert_int_equal(gm_virtq_fill(vq, view, &items[0], 8), 0);
		base = gm_virtq_base(vq);
		track_anew(flags, 0);
		assert_int_equal(gm_virtq_base(vq), base);
		for (unsigned int i = 0; i < 4; i++) {
			uint64_t number;
			struct gm_virtq_item item;

			assert_int_equal(gm_virtq_pop(vq, view, elems, 8, &item, &err), 1);
			assert_int_equal(gm_chain_read_le64(&item.chain, view, &number), 0);
			assert_int_equal(number, order[i]);
			assert_int_equal(gm_chain_write_le64(&item.chain, view, ~number), 0);
			assert_int_equal(gm_virtq_push(vq, view, &item, 8), 0);
		}
		assert_int_equal(gm_write_le64(view, slot_of(2) + 32, ~UINT64_C(2)), 0);
		leave();
		drive(flags, &rng, 5, false);
		gm_virtq_destroy(vq);
		stop_shared();
	}
}

static void areas_that_cannot_be(void **state)
{
	struct gm_virtq_opts opts = queue_opts(NR, 0);
	const struct gm_view *view;
	struct gm_reader *r;

	(void)state;
	start_shared(0);
	assert_ok(gm_reader_create(area, "test", &r, &err));
	vq = NULL;
	track_anew(0, 0);
	assert_fails(gm_virtq_track(vq, area, 0, &err), EINVAL, "started");
	view = gm_reader_enter(r);
	assert_int_equal(gm_write_u16(view, 8, 2), 0); /* version */
	track_anew(0, -EPROTO);
	assert_int_equal(gm_write_u16(view, 8, 1), 0);
	assert_int_equal(gm_write_u16(view, 10, 8), 0); /* entries */
	track_anew(0, -EPROTO);
	assert_non_null(strstr(err.text, "8 entries"));
	assert_int_equal(gm_write_u16(view, 10, NR), 0);
	assert_int_equal(gm_write_u16(view, 14, 0x8000), 0); /* a batch larger than the queue */
	track_anew(0, -EPROTO);
	assert_int_equal(gm_write_u16(view, 14, 0xfffe), 0); /* a batch of two from nowhere */
	assert_int_equal(gm_write_u16(view, 12, NR), 0);
	track_anew(0, -EPROTO);
	assert_int_equal(gm_write_u16(view, 8, 0), 0);
	track_anew(0, 0);
	gm_virtq_destroy(vq);
	assert_ok(gm_virtq_create(&opts, &vq, &err));
	assert_fails(gm_virtq_track(vq, area, 32, &err), EINVAL, "64");
	assert_fails(gm_virtq_track(vq, area, MIB(1) - 64, &err), EFAULT, "too short");
	gm_virtq_destroy(vq);
	gm_reader_leave(r);
	gm_reader_destroy(r);
	stop_shared();
}

/* Any bytes, but such that more than the head is looked at. */
static void scribble(const struct gm_view *view, uint32_t flags, struct rng *rng)
{
	uint64_t len = gm_virtq_inflight_len(NR, flags);

	for (uint64_t at = 0; at < len; at += 2)
		assert_int_equal(gm_write_u16(view, at,
					 (uint16_t)(rng_below(rng, 4) ? rng_below(rng, NR + 2)
								      : rng_next(rng))),
			0);
	assert_int_equal(gm_write_u16(view, 8, 1), 0);
	assert_int_equal(gm_write_u16(view, 10, NR), 0);
	if (!flags)
		assert_int_equal(gm_write_u16(view, 14, (uint16_t)(0 - rng_below(rng, 5))), 0);
	else if (rng_below(rng, 2))
		assert_int_equal(gm_write_u32(view, 16, 0), 0);
}

/* An error or some chains, and an end. Returns whether it started. */
static bool try_area(uint32_t flags)
{
	struct gm_virtq_opts opts = queue_opts(NR, flags);
	const struct gm_view *view = enter();
	struct gm_chain_elem elems[8];
	struct gm_virtq_item item;
	unsigned int taken = 0;
	bool started;

	assert_ok(gm_virtq_create(&opts, &vq, &err));
	assert_ok(gm_virtq_track(vq, area, 0, &err));
	started = gm_virtq_start(vq, view, base_of(flags), &err) == 0;
	while (started && taken <= NR && gm_virtq_pop(vq, view, elems, 8, &item, &err) > 0)
		taken++;
	assert_true(taken <= NR);
	leave();
	gm_virtq_destroy(vq);
	return started;
}

static void any_area_is_survived(void **state)
{
	struct rng rng = {test_seed(77)};
	unsigned long started = 0;

	(void)state;
	for (uint32_t flags = 0; flags < 2; flags++) {
		struct gm_reader *r;

		start_shared(flags);
		assert_ok(gm_reader_create(area, "test", &r, &err));
		for (uint32_t i = 0; i < 4; i++) {
			offer(enter(), flags, &rng);
			leave();
		}
		for (unsigned long i = 0; i < support_scale(3000); i++) {
			scribble(gm_reader_enter(r), flags, &rng);
			gm_reader_leave(r);
			started += try_area(flags);
		}
		gm_reader_destroy(r);
		stop_shared();
	}
	assert_true(started > 100);
}

static int track_once(void *ctx)
{
	struct gm_virtq_opts opts = queue_opts(NR, GM_VIRTQ_IN_ORDER);
	struct gm_virtq *q;
	int rc = gm_virtq_create(&opts, &q, &err);

	(void)ctx;
	if (rc)
		return rc;
	rc = gm_virtq_track(q, area, 0, &err);
	gm_virtq_destroy(q);
	return rc;
}

static void failures_leave_nothing(void **state)
{
	(void)state;
	start_shared(0);
	assert_true(fault_sweep(track_once, NULL) >= 6);
	stop_shared();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_lost_with_a_device),
		cmocka_unit_test(what_was_taken_comes_first_and_in_its_order),
		cmocka_unit_test(areas_that_cannot_be),
		cmocka_unit_test(any_area_is_survived),
		cmocka_unit_test(failures_leave_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
