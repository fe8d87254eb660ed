/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_control_bad.c - requests that must not be done: the defined answer, and nothing else changes; and
 * requests that race with each other and with changes of the map.
 */
#include "one_control.h"

#include <guestmem/control_message.h>
#include <guestmem/listener.h>
#include <guestmem/part.h>
#include <pthread.h>

#include "random.h"

#define RAM MIB(4)

static void start_one(const struct gm_control_opts *opts)
{
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(64)));
	add(AT, RAM);
	start_control(opts);
	fill_bytes(AT, 1, RAM);
}

static void stop_one(void)
{
	assert_bytes(AT, 1, RAM);
	assert_int_equal(told().pieces, 0);
	assert_int_equal(told().bytes, 0);
	stop_control();
	stop();
}

static void what_is_no_memory_is_refused(void **state)
{
	static const uint64_t codes[] = {GM_CONTROL_DONTNEED, GM_CONTROL_REMOVE, GM_CONTROL_FREE,
		GM_CONTROL_PAGEOUT, GM_CONTROL_DONTDUMP, GM_CONTROL_SET_NAME, GM_CONTROL_MLOCK,
		GM_CONTROL_MUNLOCK, GM_CONTROL_PROTECT_NONE, GM_CONTROL_PROTECT_RW,
		GM_CONTROL_MERGEABLE, GM_CONTROL_QUERY, GM_CONTROL_WILLNEED, GM_CONTROL_COLD,
		GM_CONTROL_POPULATE, GM_CONTROL_COLLAPSE, GM_CONTROL_HUGE, GM_CONTROL_NUMA_BIND};

	(void)state;
	start_one(POLICY(.allow = GM_CONTROL_ALL, .numa_nodes = 1));
	assert_ok(gm_space_add(space,
		DESC(.gpa = AT + RAM + MIB(4), .kind = GM_REGION_ROM,
			.backing = BLOCK(.len = MIB(2))),
		NULL, &err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = AT + RAM + MIB(8), .kind = GM_REGION_RESERVED, .len = MIB(2)), NULL,
		&err));
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		uint64_t c = codes[i];

		assert_refused(ask(c, AT, 0), EINVAL);
		assert_refused(ask(c, AT + 1, PAGE), EINVAL);
		assert_refused(ask(c, AT + 2048, PAGE), EINVAL);
		assert_refused(ask(c, AT, PAGE + 1), EINVAL);
		assert_refused(ask(c, AT - PAGE, PAGE), EFAULT);
		assert_refused(ask(c, AT - PAGE, 2 * PAGE), EFAULT);
		assert_refused(ask(c, AT + RAM, PAGE), EFAULT);
		assert_refused(ask(c, AT + RAM - PAGE, 2 * PAGE), EFAULT);
		assert_refused(ask(c, 0, GIB(1)), EFAULT);
		assert_refused(ask(c, UINT64_MAX - PAGE + 1, PAGE), EFAULT);
		assert_refused(ask(c, AT, UINT64_MAX - PAGE + 1), ERANGE);
		assert_refused(ask(c, UINT64_MAX - PAGE + 1, 2 * PAGE), ERANGE);
		assert_refused(ask(c, AT + RAM + MIB(4), PAGE), EFAULT);
		assert_refused(ask(c, AT + RAM + MIB(8), PAGE), EFAULT);
	}
	stop_one();
}

static void codes_that_are_not_are_refused(void **state)
{
	static const uint64_t codes[] = {15, 16, 255, GM_CONTROL_OWN - 1, GM_CONTROL_END,
		GM_CONTROL_TEXT_NAME, GM_CONTROL_BATCH, UINT64_C(1) << 32, UINT64_MAX};

	(void)state;
	start_one(POLICY(.allow = GM_CONTROL_ALL));
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		assert_refused(ask(codes[i], AT, PAGE), EOPNOTSUPP);
	assert_int_equal(told().refused, sizeof(codes) / sizeof(codes[0]));
	stop_one();
	start_one(NULL);
	for (uint64_t code = 0; code < GM_CONTROL_END; code++) {
		if (code == 15)
			code = GM_CONTROL_OWN;
		if (code >= GM_CONTROL_TEXT_NAME || (GM_CONTROL_SAFE & GM_CONTROL_BIT(code)))
			continue;
		assert_refused(ask(code, AT, PAGE), EPERM);
	}
	stop_one();
}

static void huge_pages_are_whole(void **state)
{
	(void)state;
	for (int i = HUGETLB; i <= HUGETLB_SHARED; i++) {
		start_backing(&backings[i]);
		start_control(POLICY(.allow = GM_CONTROL_ALL));
		fill_bytes(AT, 1, LEN);
		assert_refused(ask(GM_CONTROL_DONTNEED, AT, PAGE), EINVAL);
		assert_refused(ask(GM_CONTROL_DONTNEED, AT + PAGE, MIB(2)), EINVAL);
		assert_refused(ask(GM_CONTROL_MLOCK, AT, MIB(3)), EINVAL);
		assert_bytes(AT, 1, LEN);
		stop_control();
		stop_backing();
	}
}

static int refuse_all(void *ctx, const struct gm_control_request *req)
{
	(*(unsigned int *)ctx)++;
	return req->arg == 5 ? 7 : -EDOM;
}

static void policy_refuses(void **state)
{
	const struct gm_discard_range ranges[] = {{AT, MIB(1)}, {AT + MIB(1), MIB(1)}};
	unsigned int asked = 0;

	(void)state;
	start_one(POLICY(.ranges = ranges, .nr_ranges = 2, .max_len = MIB(1)));
	assert_refused(ask(GM_CONTROL_DONTNEED, AT + MIB(2), PAGE), EPERM);
	assert_refused(ask(GM_CONTROL_DONTNEED, AT + MIB(2) - PAGE, 2 * PAGE), EPERM);
	assert_refused(ask(GM_CONTROL_DONTNEED, AT, MIB(1) + PAGE), E2BIG);
	stop_one();
	start_one(POLICY(.permit = refuse_all, .ctx = &asked));
	assert_refused(ask(GM_CONTROL_DONTNEED, AT, PAGE), EDOM);
	assert_refused(ask_arg(GM_CONTROL_DONTNEED, AT, PAGE, 5), EPERM);
	/* Not asked for what is refused before. */
	assert_refused(ask(GM_CONTROL_DONTNEED, AT, 1), EINVAL);
	assert_int_equal(asked, 2);
	stop_one();
}

static void limits_refuse_whole_requests(void **state)
{
	(void)state;
	start_one(POLICY(.allow = GM_CONTROL_ALL, .max_locked = MIB(1), .max_pieces = 4));
	assert_refused(ask(GM_CONTROL_MLOCK, AT, MIB(1) + PAGE), ENOMEM);
	assert_false(support_vmflag(host(AT), "lo"));
	assert_ok(ask(GM_CONTROL_MLOCK, AT, MIB(1)));
	assert_ok(ask(GM_CONTROL_MLOCK, AT, PAGE));
	assert_refused(ask(GM_CONTROL_MLOCK, AT + MIB(1), PAGE), ENOMEM);
	for (unsigned int i = 0; i < 3; i++)
		assert_ok(ask(GM_CONTROL_NOHUGE, AT + MIB(2) + i * 2 * PAGE, PAGE));
	assert_refused(ask(GM_CONTROL_NOHUGE, AT + MIB(3), PAGE), ENOSPC);
	assert_false(support_vmflag(host(AT + MIB(3)), "nh"));
	/* What makes it no more is done. */
	assert_ok(ask(GM_CONTROL_NOHUGE, AT + MIB(2), 6 * PAGE));
	assert_int_equal(told().pieces, 2);
	stop_control();
	assert_bytes(AT, 1, RAM);
	stop();
}

static uint64_t clock_;

static uint64_t own_clock(void *ctx)
{
	(void)ctx;
	return clock_;
}

static void a_flood_is_held_back(void **state)
{
	struct gm_control_request reqs[8] = {{0}};
	struct gm_control_result rets[8];

	(void)state;
	clock_ = 0;
	start_one(POLICY(.rate = 100, .burst = 10, .now = own_clock));
	for (int i = 0; i < 10; i++)
		assert_ok(ask(GM_CONTROL_INFO, 0, 0));
	for (int i = 0; i < 1000; i++)
		assert_refused(ask(GM_CONTROL_INFO, 0, 0), EAGAIN);
	assert_int_equal(told().throttled, 1000);
	clock_ += 9999999;
	assert_refused(ask(GM_CONTROL_INFO, 0, 0), EAGAIN);
	clock_ += 1;
	assert_ok(ask(GM_CONTROL_INFO, 0, 0));
	assert_refused(ask(GM_CONTROL_INFO, 0, 0), EAGAIN);
	/* A clock that goes back, and one that jumps. */
	clock_ = 5;
	assert_refused(ask(GM_CONTROL_INFO, 0, 0), EAGAIN);
	clock_ = UINT64_MAX - 1;
	for (int i = 0; i < 6; i++)
		assert_ok(ask(GM_CONTROL_INFO, 0, 0));
	for (unsigned int i = 0; i < 8; i++) {
		reqs[i] = (struct gm_control_request){
			.code = GM_CONTROL_COLD, .addr = AT + i * PAGE, .len = PAGE};
		rets[i].size = sizeof(rets[i]);
	}
	assert_int_equal(gm_control_batch(control, reqs, 8, rets), 4);
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(rets[i].code, i < 4 ? 0 : -EAGAIN);
	stop_control();
	stop();
}

static int forbid(void *ctx, const struct gm_discard_event *event, struct gm_error *e)
{
	(void)ctx;
	(void)e;
	return event->phase == GM_DISCARD_ASK ? -EBUSY : 0;
}

static void who_needs_it_to_stay_is_heard(void **state)
{
	struct gm_listener_ops ops = {.size = sizeof(ops), .name = "vfio", .discard = forbid};
	struct gm_listener *listener;

	(void)state;
	start_one(NULL);
	assert_ok(gm_discard_inhibit(space, AT + MIB(1), PAGE, GM_INHIBIT_ALL, &err));
	assert_refused(ask(GM_CONTROL_DONTNEED, AT, MIB(2)), EBUSY);
	assert_refused(ask(GM_CONTROL_REMOVE, AT, MIB(2)), EBUSY);
	assert_refused(ask(GM_CONTROL_FREE, AT, MIB(2)), EBUSY);
	assert_int_equal(gm_discard_allow(space, AT + MIB(1), PAGE, GM_INHIBIT_ALL), 0);
	assert_ok(gm_listener_create(space, &ops, &listener, &err));
	assert_refused(ask(GM_CONTROL_DONTNEED, AT, MIB(2)), EBUSY);
	assert_ok(gm_listener_destroy(listener, &err));
	stop_one();
}

static void options_are_checked(void **state)
{
	const struct gm_discard_range bad = {1, UINT64_MAX};

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(64)));
	assert_fails(gm_control_create(space, POLICY(.allow = UINT64_C(1) << 15), &control, &err),
		EINVAL, "no such codes");
	assert_fails(gm_control_create(space, POLICY(.flags = 2), &control, &err), EINVAL, "flags");
	assert_fails(gm_control_create(space, POLICY(.burst = 2), &control, &err), EINVAL, "burst");
	assert_fails(gm_control_create(space, POLICY(.max_pieces = 1 << 20), &control, &err),
		EINVAL, "pieces");
	assert_fails(
		gm_control_create(space, POLICY(.nr_ranges = 1), &control, &err), EINVAL, "ranges");
	assert_ok(gm_control_create(space, POLICY(.ranges = &bad, .nr_ranges = 1), &control, &err));
	stop_control();
	start_control(NULL);
	answer.size = 0;
	assert_fails(gm_control_request(control, &(struct gm_control_request){0}, &answer, &err),
		EINVAL, "size");
	stop_control();
	stop();
}

static void a_space_has_one_control(void **state)
{
	struct gm_control *second = NULL;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(64)));
	start_control(NULL);
	assert_fails(gm_control_create(space, NULL, &second, &err), EEXIST, "one already");
	assert_null(second);
	stop_control();
	/* A refused one leaves no trace, and neither does one that is gone. */
	assert_fails(gm_control_create(space, POLICY(.flags = 2), &second, &err), EINVAL, "flags");
	start_control(NULL);
	stop_control();
	stop();
}

/* ---- messages ---- */

struct wire {
	uint64_t word[4];
};

static struct wire send(uint64_t code, uint64_t addr, uint64_t len, uint64_t arg)
{
	struct wire w = {{code, addr, len, arg}};

	assert_int_equal(gm_write(gm_reader_enter(reader), AT, &w, sizeof(w), NULL), 0);
	gm_reader_leave(reader);
	assert_int_equal(gm_control_message(control, AT), 0);
	assert_int_equal(gm_read(gm_reader_enter(reader), AT, &w, sizeof(w), NULL), 0);
	gm_reader_leave(reader);
	return w;
}

static uint64_t wire_code(uint64_t code, int error)
{
	return code << 32 | (uint32_t)error;
}

static void messages_are_answered_as_defined(void **state)
{
	struct wire w;

	(void)state;
	start_one(POLICY(.allow = GM_CONTROL_ALL));
	w = send(GM_CONTROL_INFO, 0, 0, 0);
	assert_int_equal(w.word[0], 0);
	assert_int_equal(w.word[1], PAGE);
	assert_int_equal(w.word[2], 1);
	assert_int_equal(w.word[3], 0);
	w = send(GM_CONTROL_DONTNEED, AT + MIB(1), MIB(1), 0);
	assert_int_equal(w.word[0], 0);
	assert_int_equal(w.word[1], 0);
	assert_int_equal(w.word[2], MIB(1));
	assert_bytes(AT + MIB(1), 0, MIB(1));
	/* No RAM, wraps, misaligned: as the proposal's device. */
	w = send(GM_CONTROL_DONTNEED, AT + RAM, PAGE, 0);
	assert_int_equal(w.word[0], wire_code(GM_CONTROL_DONTNEED, EINVAL));
	w = send(GM_CONTROL_FREE, AT, UINT64_MAX - PAGE + 1, 0);
	assert_int_equal(w.word[0], wire_code(GM_CONTROL_FREE, EINVAL));
	w = send(GM_CONTROL_MLOCK, AT + 1, PAGE, 0);
	assert_int_equal(w.word[0], wire_code(GM_CONTROL_MLOCK, EINVAL));
	w = send(99, AT, PAGE, 0);
	assert_int_equal(w.word[0], wire_code(99, EOPNOTSUPP));
	w = send(GM_CONTROL_NUMA_BIND, AT, PAGE, 3);
	assert_int_equal(w.word[0], wire_code(GM_CONTROL_NUMA_BIND, EPERM));
	w = send(GM_CONTROL_QUERY, AT, RAM, 0);
	assert_int_equal(w.word[1], PAGE);
	assert_int_equal(w.word[2], RAM - MIB(1));
	/* The buffer itself goes: the answer brings it back. */
	w = send(GM_CONTROL_DONTNEED, AT, PAGE, 0);
	assert_int_equal(w.word[0], 0);
	assert_bytes(AT + 32, 0, PAGE - 32);
	assert_int_equal(told().messages, 9);
	assert_int_equal(told().unanswered, 0);
	/* Outside, half outside, protected. */
	assert_int_equal(gm_control_message(control, AT + RAM), -EFAULT);
	assert_int_equal(gm_control_message(control, AT + RAM - 16), -EFAULT);
	assert_int_equal(gm_control_message(control, UINT64_MAX - 8), -ERANGE);
	assert_int_equal(told().unanswered, 3);
	stop_control();
	stop();
}

static void texts_and_batches_come_as_messages(void **state)
{
	struct wire list[3] = {{{GM_CONTROL_DONTNEED, AT + MIB(1), PAGE, 0}},
		{{GM_CONTROL_DONTNEED, AT + MIB(1) + PAGE, PAGE, 0}}, {{77, 0, 0, 0}}};
	struct wire w;

	(void)state;
	start_one(POLICY(.allow = GM_CONTROL_ALL));
	assert_int_equal(gm_write(gm_reader_enter(reader), AT + PAGE, list, sizeof(list), NULL), 0);
	gm_reader_leave(reader);
	w = send(GM_CONTROL_BATCH, AT + PAGE, sizeof(list), 0);
	assert_int_equal(w.word[0], 0);
	assert_int_equal(w.word[1], 2);
	assert_int_equal(gm_read(gm_reader_enter(reader), AT + PAGE, list, sizeof(list), NULL), 0);
	gm_reader_leave(reader);
	assert_int_equal(list[0].word[0], 0);
	assert_int_equal(list[1].word[2], PAGE);
	assert_int_equal(list[2].word[0], wire_code(77, EOPNOTSUPP));
	assert_bytes(AT + MIB(1), 0, 2 * PAGE);
	assert_bytes(AT + MIB(1) + 2 * PAGE, 1, PAGE);
	w = send(GM_CONTROL_BATCH, AT + PAGE, 0, 0);
	assert_int_equal(w.word[0], wire_code(GM_CONTROL_BATCH, EINVAL));
	w = send(GM_CONTROL_BATCH, AT + PAGE, 33, 0);
	assert_int_equal(w.word[0], wire_code(GM_CONTROL_BATCH, EINVAL));
	w = send(GM_CONTROL_BATCH, AT + PAGE, 32 * 65, 0);
	assert_int_equal(w.word[0], wire_code(GM_CONTROL_BATCH, EINVAL));
	w = send(GM_CONTROL_BATCH, AT + RAM - 32, 64, 0);
	assert_int_equal(w.word[0], wire_code(GM_CONTROL_BATCH, EINVAL));
	/* A name of 64 bytes that has no end, and one that lies nowhere. */
	w = send(GM_CONTROL_TEXT_NAME, AT, PAGE, AT + MIB(3));
	assert_true((uint32_t)w.word[0] == 0 || (uint32_t)w.word[0] == EOPNOTSUPP);
	w = send(GM_CONTROL_TEXT_NAME, AT, PAGE, AT + RAM - 63);
	assert_int_equal(w.word[0], wire_code(GM_CONTROL_TEXT_NAME, EINVAL));
	stop_control();
	start_control(NULL);
	w = send(GM_CONTROL_TEXT_NAME, AT, PAGE, AT + MIB(3));
	assert_int_equal(w.word[0], wire_code(GM_CONTROL_TEXT_NAME, EPERM));
	stop_control();
	stop();
}

static uint64_t reg(
	struct gm_control_door *door, int write, uint64_t off, uint32_t size, uint64_t value)
{
	struct gm_device_ops ops;

	gm_control_door_ops(door, &ops);
	if (write)
		assert_int_equal(ops.write(ops.ctx, off, size, value), 0);
	else
		assert_int_equal(ops.read(ops.ctx, off, size, &value), 0);
	return value;
}

static uint64_t command(struct gm_control_door *door, uint32_t value)
{
	reg(door, 1, GM_CONTROL_DOOR_COMMAND, 4, value);
	return reg(door, 0, GM_CONTROL_DOOR_COMMAND, 4, 0);
}

static void registers_follow_the_protocol(void **state)
{
	struct gm_control_door_info info = {.size = sizeof(info)};
	struct gm_control_door *door;
	struct wire w = {{0}};

	(void)state;
	start_one(NULL);
	assert_ok(gm_control_door_create(control, 2, &door, &err));
	assert_int_equal(reg(door, 0, GM_CONTROL_DOOR_COMMAND, 4, 0), GM_CONTROL_ERROR);
	/* Nothing goes before RESET. */
	assert_int_equal(command(door, GM_CONTROL_READY), GM_CONTROL_ERROR);
	assert_int_equal(command(door, GM_CONTROL_REGISTER), GM_CONTROL_ERROR);
	assert_int_equal(command(door, GM_CONTROL_RESET), GM_CONTROL_ACK);
	/* The address in halves; the command comes back in its place. */
	reg(door, 1, 0, 4, (uint32_t)(AT + PAGE));
	reg(door, 1, 4, 4, (AT + PAGE) >> 32);
	assert_int_equal(command(door, GM_CONTROL_REGISTER), GM_CONTROL_ACK);
	assert_int_equal(reg(door, 0, 0, 4, 0), 0x80000000u);
	reg(door, 1, 0, 8, AT + 2 * PAGE);
	assert_int_equal(command(door, GM_CONTROL_REGISTER), GM_CONTROL_ACK);
	assert_int_equal(reg(door, 0, 0, 8, 0), 0x80000001u);
	/* Not yet. */
	command(door, 0x80000000u);
	assert_int_equal(told().messages, 0);
	assert_int_equal(command(door, GM_CONTROL_READY), GM_CONTROL_ACK);
	assert_int_equal(gm_write(gm_reader_enter(reader), AT + 2 * PAGE, &w, 32, NULL), 0);
	gm_reader_leave(reader);
	command(door, 0x80000001u);
	assert_int_equal(gm_read(gm_reader_enter(reader), AT + 2 * PAGE, &w, 32, NULL), 0);
	gm_reader_leave(reader);
	assert_int_equal(w.word[1], PAGE);
	/* Of nobody. */
	command(door, 0x80000002u);
	command(door, 0xffffffffu);
	command(door, 5);
	assert_int_equal(told().messages, 1);
	assert_int_equal(gm_control_door_info(door, &info), 0);
	assert_int_equal(info.ready, 1);
	assert_int_equal(info.buffers, 2);
	assert_int_equal(info.calls, 1);
	assert_int_equal(info.wrong, 6);
	/* Late, too many, no RAM: broken until RESET. */
	assert_int_equal(command(door, GM_CONTROL_REGISTER), GM_CONTROL_ERROR);
	command(door, 0x80000001u);
	assert_int_equal(told().messages, 1);
	command(door, GM_CONTROL_RESET);
	reg(door, 1, 0, 8, AT + RAM - 31);
	assert_int_equal(command(door, GM_CONTROL_REGISTER), GM_CONTROL_ERROR);
	command(door, GM_CONTROL_RESET);
	for (int i = 0; i < 3; i++) {
		reg(door, 1, 0, 8, AT);
		assert_int_equal(command(door, GM_CONTROL_REGISTER),
			i < 2 ? GM_CONTROL_ACK : GM_CONTROL_ERROR);
	}
	command(door, GM_CONTROL_RESET);
	assert_int_equal(command(door, GM_CONTROL_READY), GM_CONTROL_ACK);
	assert_int_equal(command(door, GM_CONTROL_DISCONNECT), GM_CONTROL_ERROR);
	gm_control_door_destroy(door);
	stop_control();
	stop();
}

/* ---- threads ---- */

static struct {
	int stop;
	uint64_t id;
	unsigned long done;
} race;

static void *ask_at_random(void *arg)
{
	struct rng rng = {test_seed(1) + (uintptr_t)arg};
	struct gm_control_result r = {.size = sizeof(r)};

	while (!__atomic_load_n(&race.stop, __ATOMIC_RELAXED)) {
		struct gm_control_request req = {
			.code = rng_below(&rng, 25),
			.addr = AT + rng_below(&rng, 2200) * PAGE,
			.len = rng_below(&rng, 64) * PAGE,
		};
		int rc;

		if (req.code > 14)
			req.code += GM_CONTROL_OWN - 15;
		if (req.code == GM_CONTROL_COLLAPSE || req.code == GM_CONTROL_QUERY)
			continue;
		rc = gm_control_request(control, &req, &r, NULL);
		/* Never anything that was not said. */
		switch (rc) {
		case 0:
			__atomic_fetch_add(&race.done, 1, __ATOMIC_RELAXED);
			break;
		case -EINVAL:
		case -EFAULT:
		case -EBUSY:
		case -EPERM:
		case -ENOTSUP:
		case -ENOMEM:
		case -ENOSPC:
		case -EACCES:
			break;
		default:
			fprintf(stderr, "code %llu: %d\n", (unsigned long long)req.code, rc);
			abort();
		}
	}
	return NULL;
}

static void requests_race_with_changes_of_the_map(void **state)
{
	unsigned long rounds = support_scale(150);
	pthread_t threads[3];

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(AT, MIB(4));
	assert_ok(gm_space_add(space,
		DESC(.gpa = AT + MIB(4), .backing = BLOCK(.len = MIB(2)), .granule = KIB(64)),
		&race.id, &err));
	start_control(POLICY(.allow = GM_CONTROL_ALL, .numa_nodes = 1, .max_pieces = 64));
	race.stop = 0;
	race.done = 0;
	for (uintptr_t i = 0; i < 3; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, ask_at_random, (void *)(i + 1)), 0);
	for (unsigned long i = 0; i < rounds; i++) {
		uint64_t id = add(AT + MIB(6), MIB(2));
		uint8_t byte;

		assert_ok(gm_space_set_part(space, race.id, i % 16 * KIB(128), KIB(64),
			i / 16 % 2 ? GM_PART_SHARED : GM_PART_UNPLUGGED, &err));
		/* What came new is normal, whatever was there before. */
		(void)read_byte(AT + MIB(6), &byte);
		assert_ok(gm_space_remove(space, id, &err));
		gm_space_reclaim(space);
	}
	__atomic_store_n(&race.stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	assert_true(race.done > rounds);
	printf("figure: control_raced_requests %lu\n", race.done);
	stop_control();
	/* All of it can be used. */
	for (uint64_t at = 0; at < MIB(4); at += PAGE)
		assert_int_equal(write_byte(AT + at, 1), 0);
	assert_false(support_vmflag(host(AT), "lo"));
	stop();
	assert_int_equal(gm_guard_remove(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_memory_is_refused),
		cmocka_unit_test(codes_that_are_not_are_refused),
		cmocka_unit_test(huge_pages_are_whole),
		cmocka_unit_test(policy_refuses),
		cmocka_unit_test(limits_refuse_whole_requests),
		cmocka_unit_test(a_flood_is_held_back),
		cmocka_unit_test(who_needs_it_to_stay_is_heard),
		cmocka_unit_test(options_are_checked),
		cmocka_unit_test(a_space_has_one_control),
		cmocka_unit_test(messages_are_answered_as_defined),
		cmocka_unit_test(texts_and_batches_come_as_messages),
		cmocka_unit_test(registers_follow_the_protocol),
		cmocka_unit_test(requests_race_with_changes_of_the_map),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
