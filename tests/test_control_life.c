/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_control_life.c - requests over time: what is offered, marked, done as one; what a change of the map takes away
 * and what it leaves.
 */
#include "one_control.h"

#include <guestmem/log.h>
#include <guestmem/part.h>

static void start_all(int i)
{
	start_backing(&backings[i]);
	start_control(POLICY(.allow = GM_CONTROL_ALL, .numa_nodes = 1));
}

static void stop_all(void)
{
	stop_control();
	stop_backing();
}

#define IN (AT + MIB(2)) /* of what is asked for */
#define IN_LEN MIB(4)

static void what_is_offered_is_told(void **state)
{
	(void)state;
	start_all(ANON);
	assert_ok(ask(GM_CONTROL_INFO, 1, 2));
	assert_int_equal(answer.value, PAGE);
	assert_int_equal(answer.arg0, 1);
	assert_int_equal(answer.arg1, 0);
	assert_ok(ask(GM_CONTROL_FEATURES, 0, 0));
	assert_int_equal(answer.value, GM_CONTROL_ALL);
	stop_control();
	start_control(NULL);
	assert_ok(ask(GM_CONTROL_FEATURES, 0, 0));
	assert_int_equal(answer.value, GM_CONTROL_SAFE);
	assert_int_equal(told().requests, 1);
	assert_int_equal(told().counts[GM_CONTROL_SLOT(GM_CONTROL_FEATURES)], 1);
	stop_all();
}

static void logs_are_marked_where_bytes_go(void **state)
{
	struct gm_log *log;

	(void)state;
	start_all(ANON);
	fill_bytes(AT, 1, LEN);
	assert_ok(gm_log_create(space, NULL, &log, &err));
	assert_ok(ask(GM_CONTROL_COLD, AT, LEN));
	assert_ok(ask(GM_CONTROL_MLOCK, AT, LEN));
	assert_int_equal(gm_log_count(log, 0, 0), 0);
	assert_ok(ask(GM_CONTROL_DONTNEED, IN, IN_LEN));
	assert_int_equal(gm_log_count(log, 0, 0), IN_LEN / PAGE);
	assert_int_equal(gm_log_count(log, IN, IN_LEN), IN_LEN / PAGE);
	assert_ok(gm_log_destroy(log, &err));
	stop_all();
}

static void neighbours_are_done_as_one(void **state)
{
	struct gm_control_request reqs[10] = {{0}};
	struct gm_control_result rets[10];

	(void)state;
	start_all(ANON);
	fill_bytes(AT, 1, LEN);
	for (unsigned int i = 0; i < 10; i++) {
		reqs[i] = (struct gm_control_request){
			.code = GM_CONTROL_DONTNEED, .addr = AT + i * KIB(64), .len = KIB(64)};
		rets[i].size = sizeof(rets[i]);
	}
	reqs[3].code = GM_CONTROL_COLD;
	reqs[6].addr = 1;
	reqs[8].len = 0;
	assert_int_equal(gm_control_batch(control, reqs, 10, rets), 8);
	for (unsigned int i = 0; i < 10; i++) {
		bool bad = i == 6 || i == 8;

		assert_int_equal(rets[i].code, bad ? -EINVAL : 0);
		assert_int_equal(rets[i].done, bad ? 0 : KIB(64));
		assert_bytes(AT + i * KIB(64), bad || i == 3 ? 1 : 0, KIB(64));
	}
	assert_int_equal(told().requests, 10);
	assert_int_equal(told().refused, 2);
	assert_int_equal(told().counts[GM_CONTROL_DONTNEED], 7);
	assert_int_equal(told().bytes, 8 * KIB(64));
	/* Neighbours that are alike are one piece. */
	for (unsigned int i = 0; i < 10; i++)
		reqs[i] = (struct gm_control_request){
			.code = GM_CONTROL_DONTDUMP, .addr = AT + i * PAGE, .len = PAGE};
	assert_int_equal(gm_control_batch(control, reqs, 10, rets), 10);
	assert_int_equal(told().pieces, 1);
	stop_all();
}

static void requests_cross_regions(void **state)
{
	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(AT, MIB(2));
	add(AT + MIB(2), MIB(2));
	start_control(POLICY(.allow = GM_CONTROL_ALL));
	fill_bytes(AT, 1, MIB(4));
	assert_ok(ask(GM_CONTROL_MLOCK, AT + MIB(1), MIB(2)));
	assert_int_equal(told().locked, MIB(2));
	assert_true(support_vmflag(host(AT + MIB(1)), "lo"));
	assert_true(support_vmflag(host(AT + MIB(2)), "lo"));
	assert_false(support_vmflag(host(AT), "lo"));
	assert_false(support_vmflag(host(AT + MIB(3)), "lo"));
	assert_ok(ask(GM_CONTROL_DONTNEED, AT + MIB(1), MIB(2)));
	assert_bytes(AT, 1, MIB(1));
	assert_bytes(AT + MIB(1), 0, MIB(2));
	stop_control();
	stop();
}

static void what_goes_is_made_normal_before(void **state)
{
	struct gm_block *block;
	struct gm_block_info info = {.size = sizeof(info)};
	uint64_t id;
	uint64_t beside;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	start_control(POLICY(.allow = GM_CONTROL_ALL));
	assert_ok(gm_block_create(BLOCK(.len = MIB(2)), &block, &err));
	assert_ok(gm_space_add(space, DESC(.gpa = AT, .block = block), &id, &err));
	beside = add(AT + MIB(2), MIB(2));
	assert_ok(ask(GM_CONTROL_PROTECT_NONE, AT + MIB(1), MIB(2)));
	assert_ok(ask(GM_CONTROL_MLOCK, AT, PAGE));
	assert_ok(gm_space_remove(space, id, &err));
	assert_int_equal(told().undone, 2);
	assert_int_equal(told().locked, 0);
	/* The block lives on, and is as it was; what is beside it keeps what it has. */
	assert_int_equal(gm_block_info(block, &info), 0);
	memset(info.hva, 3, MIB(2));
	assert_false(support_vmflag(info.hva, "lo"));
	assert_int_equal(write_byte(AT + MIB(2), 1), -EACCES);
	assert_int_equal(write_byte(AT + MIB(3), 1), 0);
	/* What comes there has nothing of it. */
	add(AT, MIB(2));
	assert_int_equal(write_byte(AT + MIB(1), 1), 0);
	assert_ok(gm_space_remove(space, beside, &err));
	assert_int_equal(told().pieces, 0);
	gm_block_put(block);
	stop_control();
	stop();
	assert_int_equal(gm_guard_remove(), 0);
}

static void unplugging_makes_normal_only_what_is_unplugged(void **state)
{
	uint64_t id;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	start_control(POLICY(.allow = GM_CONTROL_ALL));
	assert_ok(gm_space_add(space,
		DESC(.gpa = AT, .backing = BLOCK(.len = MIB(8)), .granule = MIB(2)), &id, &err));
	assert_ok(ask(GM_CONTROL_PROTECT_R, AT + MIB(1), MIB(6)));
	assert_ok(gm_space_set_part(space, id, MIB(2), MIB(2), GM_PART_UNPLUGGED, &err));
	assert_int_equal(told().undone, 1);
	assert_int_equal(told().pieces, 2);
	assert_int_equal(write_byte(AT + MIB(1), 1), -EACCES);
	assert_int_equal(write_byte(AT + MIB(2), 1), -EFAULT);
	assert_int_equal(write_byte(AT + MIB(4), 1), -EACCES);
	assert_refused(ask(GM_CONTROL_PROTECT_RW, AT, MIB(8)), EFAULT);
	assert_refused(ask(GM_CONTROL_DONTNEED, AT + MIB(2), PAGE), EFAULT);
	assert_ok(gm_space_set_part(space, id, MIB(2), MIB(2), GM_PART_SHARED, &err));
	assert_int_equal(write_byte(AT + MIB(2), 1), 0);
	assert_int_equal(write_byte(AT + MIB(4), 1), -EACCES);
	stop_control();
	assert_int_equal(write_byte(AT + MIB(4), 1), 0);
	stop();
	assert_int_equal(gm_guard_remove(), 0);
}

static void protection_can_be_lifted(void **state)
{
	uint64_t bytes;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	start_all(MEMFD);
	for (unsigned int i = 0; i < 8; i++)
		assert_ok(ask(i % 2 ? GM_CONTROL_PROTECT_NONE : GM_CONTROL_PROTECT_R,
			AT + i * KIB(64), KIB(32)));
	assert_ok(ask(GM_CONTROL_MLOCK, AT, PAGE));
	assert_int_equal(gm_control_lift(control, AT + KIB(16), KIB(64), &bytes), 0);
	assert_int_equal(bytes, KIB(32));
	assert_int_equal(write_byte(AT, 1), -EACCES);
	assert_int_equal(write_byte(AT + KIB(16), 1), 0);
	assert_int_equal(write_byte(AT + KIB(64), 1), 0);
	assert_int_equal(write_byte(AT + KIB(80), 1), -EACCES);
	assert_int_equal(gm_control_lift(control, 0, 0, &bytes), 0);
	assert_int_equal(bytes, KIB(32) * 7);
	assert_int_equal(write_byte(AT, 1), 0);
	assert_int_equal(write_byte(AT + KIB(7 * 64), 1), 0);
	assert_int_equal(told().pieces, 1);
	assert_int_equal(gm_control_lift(control, 2, UINT64_MAX, NULL), -ERANGE);
	stop_all();
	assert_int_equal(gm_guard_remove(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_offered_is_told),
		cmocka_unit_test(logs_are_marked_where_bytes_go),
		cmocka_unit_test(neighbours_are_done_as_one),
		cmocka_unit_test(requests_cross_regions),
		cmocka_unit_test(what_goes_is_made_normal_before),
		cmocka_unit_test(unplugging_makes_normal_only_what_is_unplugged),
		cmocka_unit_test(protection_can_be_lifted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
