/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_control_fault.c - each system call and allocation of requests, balloons and virtio-mem devices made to fail:
 * properties are all or nothing, and nothing is leaked.
 */
#include "one_control.h"

#include <guestmem/balloon.h>
#include <guestmem/control_message.h>
#include <guestmem/part.h>
#include <guestmem/virtio_mem.h>

#include "fault.h"

#define RAM MIB(4)

/* Requests over two regions, each with a call for each. */
static const uint64_t attrs[] = {GM_CONTROL_DONTDUMP, GM_CONTROL_MLOCK, GM_CONTROL_MUNLOCK,
	GM_CONTROL_PROTECT_NONE, GM_CONTROL_PROTECT_RW, GM_CONTROL_MERGEABLE,
	GM_CONTROL_UNMERGEABLE, GM_CONTROL_HUGE, GM_CONTROL_NOHUGE, GM_CONTROL_NUMA_BIND};
static const enum fault_fn calls_of[] = {FAULT_gm_sys_madvise, FAULT_gm_sys_mlock,
	FAULT_gm_sys_munlock, FAULT_gm_sys_mprotect, FAULT_gm_sys_mprotect, FAULT_gm_sys_madvise,
	FAULT_gm_sys_madvise, FAULT_gm_sys_madvise, FAULT_gm_sys_madvise, FAULT_gm_sys_mbind};

static void start_two(void)
{
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(AT, RAM / 2);
	add(AT + RAM / 2, RAM / 2);
	assert_int_equal(gm_guard_install(), 0);
	start_control(POLICY(.allow = GM_CONTROL_ALL, .numa_nodes = 1));
}

static void stop_two(void)
{
	stop_control();
	assert_int_equal(gm_guard_remove(), 0);
	stop();
}

static void properties_are_given_to_all_or_to_none(void **state)
{
	uint8_t byte;

	(void)state;
	for (size_t i = 0; i < sizeof(attrs) / sizeof(attrs[0]); i++) {
		for (unsigned long nth = 1; nth <= 2; nth++) {
			start_two();
			assert_ok(ask(GM_CONTROL_PROTECT_R, AT, PAGE));
			fault_set(&(struct fault_plan){
				.fn = calls_of[i], .nth = nth, .error = EPERM});
			assert_int_equal(ask(attrs[i], AT, RAM), -EPERM);
			assert_int_equal(fault_hits(), 1);
			fault_set(NULL);
			assert_int_equal(answer.stage, GM_CONTROL_FAILED);
			assert_int_equal(answer.done, 0);
			/* As before: what was protected is, what was not is not. */
			assert_int_equal(told().pieces, 1);
			assert_int_equal(told().failed, 1);
			assert_int_equal(write_byte(AT, 1), -EACCES);
			assert_int_equal(read_byte(AT, &byte), 0);
			assert_int_equal(write_byte(AT + PAGE, 1), 0);
			assert_int_equal(write_byte(AT + RAM - 1, 1), 0);
			assert_false(support_vmflag(host(AT + PAGE), "lo"));
			assert_false(support_vmflag(host(AT + PAGE), "mg"));
			assert_int_equal(told().locked, 0);
			stop_two();
		}
	}
}

static void what_cannot_be_undone_is_told_and_kept_in_mind(void **state)
{
	(void)state;
	start_two();
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_mprotect, .nth = 2, .forever = true, .error = ENOMEM});
	assert_int_equal(ask(GM_CONTROL_PROTECT_NONE, AT, RAM), -ENOMEM);
	assert_true(fault_hits() >= 2);
	fault_set(NULL);
	assert_int_equal(answer.stage, GM_CONTROL_FAILED);
	assert_int_equal(answer.done, RAM / 2);
	assert_int_equal(write_byte(AT, 1), -EACCES);
	assert_int_equal(told().pieces, 2);
	assert_int_equal(gm_control_lift(control, 0, 0, NULL), 0);
	assert_int_equal(write_byte(AT, 1), 0);
	stop_two();
}

static void others_tell_how_far_they_came(void **state)
{
	static const struct {
		uint64_t code;
		enum fault_fn fn;
	} tried[] = {{GM_CONTROL_DONTNEED, FAULT_gm_sys_madvise},
		{GM_CONTROL_PAGEOUT, FAULT_gm_sys_madvise},
		{GM_CONTROL_WILLNEED, FAULT_gm_sys_madvise},
		{GM_CONTROL_COLD, FAULT_gm_sys_madvise}};

	(void)state;
	for (size_t i = 0; i < sizeof(tried) / sizeof(tried[0]); i++) {
		for (unsigned long nth = 1; nth <= 2; nth++) {
			start_two();
			fault_set(&(struct fault_plan){
				.fn = tried[i].fn, .nth = nth, .error = ENOMEM});
			assert_int_equal(ask(tried[i].code, AT, RAM), -ENOMEM);
			assert_int_equal(fault_hits(), 1);
			fault_set(NULL);
			assert_int_equal(answer.done, (nth - 1) * (RAM / 2));
			assert_int_equal(answer.stage, GM_CONTROL_FAILED);
			stop_two();
		}
	}
}

static int life_of_control(void *ctx)
{
	const struct gm_space_opts opts = {.size = sizeof(opts), .gpa_limit = GIB(1)};
	struct gm_control_door *door = NULL;
	struct gm_balloon *balloon = NULL;
	struct gm_control *c = NULL;
	struct gm_space *own;
	int rc = gm_space_create(&opts, &own, &err);

	(void)ctx;
	if (rc)
		return rc;
	rc = gm_control_create(own, NULL, &c, &err);
	if (!rc)
		rc = gm_control_door_create(c, 0, &door, &err);
	if (!rc)
		rc = gm_balloon_create(own,
			GM_OPTS(gm_balloon_opts, .flags = GM_BALLOON_MUST_TELL_HOST), &balloon,
			&err);
	fault_disarm();
	gm_balloon_destroy(balloon);
	gm_control_door_destroy(door);
	assert_ok(gm_control_destroy(c, &err));
	gm_space_destroy(own);
	return rc;
}

static void making_them_leaks_nothing(void **state)
{
	(void)state;
	assert_true(fault_sweep(life_of_control, NULL) > 10);
}

static int life_of_virtio_mem(void *ctx)
{
	struct gm_virtio_mem *mem;
	int rc = gm_virtio_mem_create(space, *(uint64_t *)ctx,
		GM_OPTS(gm_virtio_mem_opts, .requested = MIB(2)), &mem, &err);

	fault_disarm();
	if (!rc)
		gm_virtio_mem_destroy(mem);
	return rc;
}

static void blocks_are_plugged_or_not(void **state)
{
	struct gm_virtio_mem_info info = {.size = sizeof(info)};
	struct gm_virtio_mem *mem;
	uint64_t id;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(2)));
	assert_ok(gm_space_add(space,
		DESC(.gpa = AT, .granule = MIB(2), .part = GM_PART_UNPLUGGED,
			.backing = BLOCK(.len = MIB(8))),
		&id, &err));
	assert_true(fault_sweep(life_of_virtio_mem, &id) > 2);
	assert_ok(gm_virtio_mem_create(
		space, id, GM_OPTS(gm_virtio_mem_opts, .requested = MIB(8)), &mem, &err));
	/* The host cannot free it: it stays plugged, with its bytes. */
	assert_int_equal(gm_virtio_mem_plug(mem, AT, 1, &err), GM_VIRTIO_MEM_ACK);
	fill_bytes(AT, 4, MIB(2));
	for (unsigned long nth = 1; nth < 50; nth++) {
		int rc;

		fault_set(&(struct fault_plan){.fn = FAULT_ANY, .nth = nth, .error = ENOMEM});
		rc = gm_virtio_mem_unplug(mem, AT, 1, &err);
		assert_true(fault_hits() || rc == GM_VIRTIO_MEM_ACK);
		fault_set(NULL);
		assert_int_equal(gm_virtio_mem_info(mem, &info), 0);
		if (rc == GM_VIRTIO_MEM_ACK) {
			assert_int_equal(info.plugged, 0);
			assert_int_equal(write_byte(AT, 1), -EFAULT);
			break;
		}
		assert_int_equal(rc, GM_VIRTIO_MEM_BUSY);
		assert_int_equal(info.plugged, MIB(2));
		assert_bytes(AT, 4, MIB(2));
	}
	for (unsigned long nth = 1; nth < 50; nth++) {
		int rc;

		fault_set(&(struct fault_plan){.fn = FAULT_ANY, .nth = nth, .error = ENOMEM});
		rc = gm_virtio_mem_plug(mem, AT, 1, &err);
		assert_true(fault_hits() || rc == GM_VIRTIO_MEM_ACK);
		fault_set(NULL);
		assert_int_equal(gm_virtio_mem_info(mem, &info), 0);
		if (rc == GM_VIRTIO_MEM_ACK)
			break;
		assert_int_equal(rc, GM_VIRTIO_MEM_BUSY);
		assert_int_equal(info.plugged, 0);
		assert_int_equal(write_byte(AT, 1), -EFAULT);
	}
	assert_bytes(AT, 0, MIB(2));
	gm_virtio_mem_destroy(mem);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(properties_are_given_to_all_or_to_none),
		cmocka_unit_test(what_cannot_be_undone_is_told_and_kept_in_mind),
		cmocka_unit_test(others_tell_how_far_they_came),
		cmocka_unit_test(making_them_leaks_nothing),
		cmocka_unit_test(blocks_are_plugged_or_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
