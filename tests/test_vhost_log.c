/* SPDX-License-Identifier: BSD-3-Clause */
/* test_vhost_log.c - the front-end's log of written pages, and the area of what is in flight. */
#include "vhost_front.h"

#include <signal.h>
#include <sys/wait.h>

/* ---- the log ---- */

struct bits {
	int fd;
	uint8_t *at;
	size_t len;
};

static struct bits make_bits(size_t len)
{
	struct bits b = {.fd = make_ram(len, F_SEAL_SHRINK), .len = len};

	b.at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, b.fd, 0);
	assert_true(b.at != MAP_FAILED);
	return b;
}

static void drop_bits(struct bits *b)
{
	munmap(b->at, b->len);
	close(b->fd);
}

static bool is_marked(const struct bits *b, size_t off, uint64_t gpa)
{
	return b->at[off + gpa / PAGE / 8] >> (gpa / PAGE % 8) & 1;
}

static size_t count_marked(const struct bits *b)
{
	size_t nr = 0;

	for (size_t i = 0; i < b->len; i++)
		nr += (size_t)__builtin_popcount(b->at[i]);
	return nr;
}

static int ask_log(struct front *f, int fd, uint64_t off, uint64_t len)
{
	const struct gm_vhost_log log = {.len = len, .off = off};

	return ask(f, GM_VHOST_SET_LOG_BASE, &log, sizeof(log), &fd, 1);
}

static void log_on(struct front *f, bool on)
{
	f->features = on ? f->features | GM_VHOST_F_LOG_ALL : f->features & ~GM_VHOST_F_LOG_ALL;
	assert_int_equal(ask_number(f, GM_VHOST_SET_FEATURES, f->features), 0);
}

/* R18: pages that were written, the used ring's among them, and no others. */
static void what_is_written_is_in_the_log(void **state)
{
	struct bits b = make_bits(PAGE);
	struct front f;

	(void)state;
	open_front(&f, 0, 0, NULL);
	assert_int_equal(ask_log(&f, b.fd, 0, PAGE), 0);
	round_trip(&f, 1);
	assert_int_equal(count_marked(&b), 0);
	log_on(&f, true);
	assert_true(f.dev.runs[0]);
	round_trip(&f, 2);
	assert_true(is_marked(&b, 0, OUT_AT));
	assert_true(is_marked(&b, 0, USED_AT));
	assert_int_equal(count_marked(&b), 2);
	/* A bit that was taken comes again. */
	memset(b.at, 0, b.len);
	round_trip(&f, 3);
	assert_int_equal(count_marked(&b), 2);
	memset(b.at, 0, b.len);
	log_on(&f, false);
	round_trip(&f, 4);
	assert_int_equal(count_marked(&b), 0);
	close_backend(&f);
	drop_bits(&b);
}

/* The offset is that of the first byte in the file, counted once, whatever pages are. */
static void a_log_begins_at_its_offset(void **state)
{
	struct bits b = make_bits(3 * PAGE);
	struct front f;

	(void)state;
	open_front(&f, 0, 0, NULL);
	assert_int_equal(ask_log(&f, b.fd, PAGE + 64, PAGE), 0);
	log_on(&f, true);
	round_trip(&f, 2);
	assert_true(is_marked(&b, PAGE + 64, OUT_AT));
	assert_int_equal(count_marked(&b), 2);
	close_backend(&f);
	drop_bits(&b);
}

/* What cannot be mapped, or is too short for memory or in its file. */
static void a_log_that_cannot_be_is_refused(void **state)
{
	const uint64_t least = RAM / PAGE / 8;
	struct gm_vhost_msg msg = {.request = GM_VHOST_SET_LOG_BASE,
		.flags = GM_VHOST_VERSION,
		.len = sizeof(msg.u.log),
		.u.log = {.len = 1}};
	struct bits b = make_bits(PAGE);
	int open = make_ram(PAGE, 0);
	struct front f;

	(void)state;
	open_front(&f, 0, 0, NULL);
	assert_int_equal(ask_log(&f, b.fd, 0, 0), -EINVAL);
	assert_int_equal(ask_log(&f, b.fd, 0, PAGE + 1), -EINVAL);
	assert_int_equal(ask_log(&f, b.fd, 1, PAGE), -EINVAL);
	assert_int_equal(ask_log(&f, b.fd, UINT64_MAX, 2), -EINVAL);
	assert_int_equal(ask_log(&f, b.fd, PAGE, UINT64_MAX), -EINVAL);
	assert_int_equal(ask_log(&f, f.kick, 0, PAGE), -EINVAL);
	assert_int_equal(ask_log(&f, open, 0, PAGE), -EPERM);
	assert_int_equal(ask_log(&f, b.fd, 0, least - 1), -EINVAL);
	/* No front-end looks at what the reply says. */
	assert_int_equal(say_raw(&f, &msg, &b.fd, 1), -EINVAL);
	assert_false(f.a.is);
	assert_int_equal(ask_log(&f, b.fd, 0, least), 0);
	log_on(&f, true);
	/* Memory that the log does not reach. */
	assert_int_equal(ask_add(&f, region_of(GIB(1), MIB(1), 0), f.fd), -EINVAL);
	round_trip(&f, 5);
	close(open);
	close_backend(&f);
	drop_bits(&b);
}

/* Grown before the table, shrunk after it; each log has all that was written before its successor was there. */
static void a_log_grows_and_shrinks(void **state)
{
	struct bits small = make_bits(PAGE);
	struct bits large = make_bits(16 * PAGE);
	struct front f;

	(void)state;
	open_front(&f, 0, 0, NULL);
	assert_int_equal(ask_log(&f, small.fd, 0, PAGE), 0);
	log_on(&f, true);
	round_trip(&f, 1);
	assert_int_equal(count_marked(&small), 2);
	assert_int_equal(ask_log(&f, large.fd, 0, 16 * PAGE), 0);
	memset(small.at, 0, small.len);
	assert_int_equal(ask_add(&f, region_of(GIB(1), MIB(1), MIB(4)), f.fd), 0);
	/* The same bytes by another address. */
	offer(&f, 7, IN_AT, OUT_AT);
	assert_int_equal(dev_serve(&f.dev, 0), 1);
	take_back(&f, 7, OUT_AT);
	assert_true(is_marked(&large, 0, OUT_AT));
	assert_int_equal(count_marked(&small), 0);
	assert_int_equal(ask_log(&f, small.fd, 0, PAGE), -EINVAL);
	assert_int_equal(ask_remove(&f, region_of(GIB(1), MIB(1), 0)), 0);
	assert_int_equal(ask_log(&f, small.fd, 0, PAGE), 0);
	memset(large.at, 0, large.len);
	round_trip(&f, 8);
	assert_int_equal(count_marked(&large), 0);
	assert_int_equal(count_marked(&small), 2);
	close_backend(&f);
	drop_bits(&small);
	drop_bits(&large);
}

/* The used ring may be logged where there is no memory. */
static void a_used_ring_is_logged_where_it_is_said(void **state)
{
	struct bits b = make_bits(PAGE);
	struct front f;

	(void)state;
	open_front(&f, 0, 0, NULL);
	assert_int_equal(ask_log(&f, b.fd, 0, PAGE), 0);
	log_on(&f, true);
	assert_int_equal(ask_addr(&f, 0, GM_VHOST_VRING_LOG, MIB(100)), 0);
	assert_true(f.dev.runs[0]);
	round_trip(&f, 1);
	assert_true(is_marked(&b, 0, MIB(100)));
	/* The usual case: where it lies. */
	memset(b.at, 0, b.len);
	assert_int_equal(ask_addr(&f, 0, GM_VHOST_VRING_LOG, USED_AT), 0);
	round_trip(&f, 2);
	assert_int_equal(count_marked(&b), 2);
	/* Outside of the log: nothing is written there. */
	memset(b.at, 0, b.len);
	assert_int_equal(ask_addr(&f, 0, GM_VHOST_VRING_LOG, GIB(1) * 1024), 0);
	round_trip(&f, 3);
	assert_int_equal(count_marked(&b), 2);
	close_backend(&f);
	drop_bits(&b);
}

static void logs_come_and_go_without_a_trace(void **state)
{
	struct bits b = make_bits(PAGE);
	struct front f;
	size_t open;

	(void)state;
	open_front(&f, 0, 0, NULL);
	open = count_fds();
	for (int i = 0; i < 300; i++) {
		assert_int_equal(ask_log(&f, b.fd, 0, PAGE), 0);
		assert_int_equal(ask(&f, GM_VHOST_SET_LOG_FD, "", 0, &f.err, 1), 0);
		log_on(&f, i & 1);
	}
	assert_int_equal(ask(&f, GM_VHOST_SET_LOG_FD, "", 0, &f.fd, 1), -EINVAL);
	assert_int_equal(count_fds(), open + 1);
	round_trip(&f, 1);
	close_backend(&f);
	drop_bits(&b);
}

static void who_asked_is_told_of_the_log(void **state)
{
	struct bits b = make_bits(PAGE);
	int told = eventfd(0, EFD_CLOEXEC);
	struct front f;
	uint64_t nr;

	(void)state;
	assert_true(told >= 0);
	open_front(&f, 0, 0, NULL);
	assert_int_equal(ask_log(&f, b.fd, 0, PAGE), 0);
	assert_int_equal(ask(&f, GM_VHOST_SET_LOG_FD, "", 0, &told, 1), 0);
	round_trip(&f, 1);
	assert_int_equal(read(told, &nr, sizeof(nr)), -1);
	assert_int_equal(errno, EAGAIN);
	log_on(&f, true);
	round_trip(&f, 2);
	assert_int_equal(read(told, &nr, sizeof(nr)), sizeof(nr));
	assert_true(nr > 0);
	log_on(&f, false);
	round_trip(&f, 1);
	assert_int_equal(read(told, &nr, sizeof(nr)), -1);
	close_backend(&f);
	close(told);
	drop_bits(&b);
}

/* ---- in flight ---- */

static int get_inflight(struct front *f, struct gm_vhost_inflight *area)
{
	*area = (struct gm_vhost_inflight){.queues = QUEUES, .queue_size = NR};
	assert_int_equal(say(f, GM_VHOST_GET_INFLIGHT_FD, area, sizeof(*area), NULL, 0), 0);
	assert_int_equal(f->a.nr_fds, 1);
	*area = f->a.msg.u.inflight;
	return f->a.fds[0];
}

/* R27, R28: an area of its own for each queue; what does not fit is refused. */
static void an_area_is_made_and_checked(void **state)
{
	struct gm_vhost_inflight area;
	struct gm_vhost_inflight bad;
	struct front f;
	int fd;

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, 0);
	fd = get_inflight(&f, &area);
	assert_true(area.len >= QUEUES * gm_virtq_inflight_len(NR, 0));
	assert_int_equal(area.off, 0);
	assert_true(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK);
	for (int i = 0; i < 7; i++) {
		bad = area;
		bad.len = i == 0 ? 64 : i == 1 ? area.len + 1 : bad.len;
		bad.off = i == 2 ? 8 : i == 3 ? UINT64_MAX - 63 : 0;
		bad.queues = i == 4 ? 0 : i == 5 ? QUEUES + 1 : QUEUES;
		bad.queue_size = i == 6 ? 0xffff : NR;
		assert_int_equal(
			ask(&f, GM_VHOST_SET_INFLIGHT_FD, &bad, sizeof(bad), &fd, 1), -EINVAL);
	}
	for (int i = 0; i < 50; i++)
		assert_int_equal(ask(&f, GM_VHOST_SET_INFLIGHT_FD, &area, sizeof(area), &fd, 1), 0);
	bad = area;
	bad.queue_size = 0;
	assert_int_equal(say(&f, GM_VHOST_GET_INFLIGHT_FD, &bad, sizeof(bad), NULL, 0), 0);
	assert_int_equal(f.a.nr_fds, 0);
	assert_int_equal(f.a.msg.u.inflight.len, 0);
	close(fd);
	close_backend(&f);
}

/* Takes chains, gives one back of three, and is killed. */
static void die_with_chains(struct front *f)
{
	struct gm_vhost_queue *q = &f->dev.queue[0];
	struct gm_chain_elem elems[3][4];
	struct gm_virtq_item items[3];
	struct gm_reader *reader;
	const struct gm_view *view;
	uint32_t len;

	if (gm_reader_create(q->space, "child", &reader, NULL))
		_exit(1);
	view = gm_reader_enter(reader);
	for (int i = 0; i < 3; i++) {
		if (gm_virtq_pop(q->vq, view, elems[i], 4, &items[i], NULL) != 1)
			_exit(2);
	}
	if (dev_echo(&items[1], view, &len) || gm_virtq_push(q->vq, view, &items[1], len))
		_exit(3);
	kill(getpid(), SIGKILL);
}

/* All of a back-end in another process, which is killed; the front-end's memory and area are the same for the next. */
static void what_a_killed_device_had_is_served_by_the_next(void **state)
{
	const uint64_t kinds[] = {0, F_PACKED};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct gm_vhost_inflight area;
		struct front f;
		int status;
		int fd;
		pid_t pid;

		open_backend(&f, NULL);
		negotiate(&f, kinds[i], 0);
		fd = get_inflight(&f, &area);
		make_driver(&f);
		for (uint8_t k = 0; k < 3; k++)
			offer(&f, k, IN_AT + k * PAGE, OUT_AT + k * PAGE);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			/* Memory of the library is not inherited: this back-end is made here. */
			struct front child = f;
			struct gm_vhost_backend_opts opts = {.size = sizeof(opts),
				.ops = &dev_ops,
				.ctx = &child.dev,
				.features = ALL_FEATURES,
				.queues = QUEUES,
				.gpa_limit = GIB(64)};

			memset(&child.dev, 0, sizeof(child.dev));
			if (gm_vhost_backend_create(&opts, &child.b, NULL))
				_exit(4);
			child.dev.b = child.b;
			negotiate(&child, kinds[i], 0);
			share_ram(&child);
			ask(&child, GM_VHOST_SET_INFLIGHT_FD, &area, sizeof(area), &fd, 1);
			start_ring(&child, 0, first_base(&child));
			die_with_chains(&child);
			_exit(5);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		take_back(&f, 1, OUT_AT + PAGE);
		share_ram(&f);
		assert_int_equal(ask(&f, GM_VHOST_SET_INFLIGHT_FD, &area, sizeof(area), &fd, 1), 0);
		/* The base says that three were taken, the area which. */
		start_ring(&f, 0, kinds[i] ? 0x80008000u : 3);
		assert_int_equal(dev_serve(&f.dev, 0), 2);
		take_back(&f, 0, OUT_AT);
		take_back(&f, 2, OUT_AT + 2 * PAGE);
		round_trip(&f, 77);
		close(fd);
		close_backend(&f);
	}
}

/* R28 */
static void an_area_of_lies_stops_the_ring_only(void **state)
{
	struct gm_vhost_inflight area;
	struct front f;
	uint8_t *at;
	int fd;

	(void)state;
	open_front(&f, 0, 0, NULL);
	assert_int_equal(
		say(&f, GM_VHOST_GET_VRING_BASE, &(struct gm_vhost_vring_state){0}, 8, NULL, 0), 0);
	fd = get_inflight(&f, &area);
	at = mmap(NULL, area.len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(at != MAP_FAILED);
	memset(at, 0xff, area.len);
	assert_int_equal(ask(&f, GM_VHOST_SET_INFLIGHT_FD, &area, sizeof(area), &fd, 1), 0);
	assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_KICK, 0, f.kick), -EINVAL);
	assert_false(f.dev.runs[0]);
	/* The same ring with a fresh one. */
	memset(at, 0, area.len);
	assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_KICK, 0, f.kick), 0);
	round_trip(&f, 3);
	munmap(at, area.len);
	close(fd);
	close_backend(&f);
}

/* A chain that is out when its ring is suspended is in the area. */
static void a_suspended_ring_leaves_chains_in_flight(void **state)
{
	const struct gm_vhost_backend_opts opts = {.flags = GM_VHOST_BACKEND_SUSPEND};
	const struct gm_vhost_vring_state get = {.index = 0};
	struct gm_vhost_inflight area;
	struct front f;
	struct gm_reader *reader;
	int fd;

	(void)state;
	open_backend(&f, &opts);
	negotiate(&f, 0, 0);
	share_ram(&f);
	fd = get_inflight(&f, &area);
	assert_int_equal(ask(&f, GM_VHOST_SET_INFLIGHT_FD, &area, sizeof(area), &fd, 1), 0);
	make_driver(&f);
	start_ring(&f, 0, 0);
	offer(&f, 5, IN_AT, OUT_AT);
	assert_int_equal(gm_reader_create(f.dev.queue[0].space, "test", &reader, &err), 0);
	assert_int_equal(gm_virtq_pop(f.dev.queue[0].vq, gm_reader_enter(reader), f.dev.held_elems,
				 8, &f.dev.held, &err),
		1);
	gm_reader_leave(reader);
	gm_reader_destroy(reader);
	assert_int_equal(say(&f, GM_VHOST_GET_VRING_BASE_SKIP_DRAIN, &get, 8, NULL, 0), 0);
	assert_true(f.dev.suspended);
	assert_int_equal(f.a.msg.u.vring.num, 1);
	start_ring(&f, 0, 1);
	assert_int_equal(dev_serve(&f.dev, 0), 1);
	take_back(&f, 5, OUT_AT);
	/* The other message drains. */
	assert_int_equal(say(&f, GM_VHOST_GET_VRING_BASE, &get, 8, NULL, 0), 0);
	assert_false(f.dev.suspended);
	close(fd);
	close_backend(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_in_the_log),
		cmocka_unit_test(a_log_begins_at_its_offset),
		cmocka_unit_test(a_log_that_cannot_be_is_refused),
		cmocka_unit_test(a_log_grows_and_shrinks),
		cmocka_unit_test(a_used_ring_is_logged_where_it_is_said),
		cmocka_unit_test(logs_come_and_go_without_a_trace),
		cmocka_unit_test(who_asked_is_told_of_the_log),
		cmocka_unit_test(an_area_is_made_and_checked),
		cmocka_unit_test(what_a_killed_device_had_is_served_by_the_next),
		cmocka_unit_test(an_area_of_lies_stops_the_ring_only),
		cmocka_unit_test(a_suspended_ring_leaves_chains_in_flight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
