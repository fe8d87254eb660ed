/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_control_kvm.c - what requests, a balloon and a virtio-mem device do is what a guest of KVM meets.
 *
 * "guestmem run control" is the guest that asks by itself (tests/tool/test_run.py).
 */
#include "one_control.h"

#include <guestmem/balloon.h>
#include <guestmem/part.h>
#include <guestmem/virtio_mem.h>

#include "kvm_guest.h"

#define MEM MIB(32) /* what is tried on */
#define MEM_LEN MIB(8)

static struct guest guest;
static struct gm_kvm *kvm;
static uint64_t id;

static void start_guest(uint32_t flags, uint64_t granule, uint32_t kvm_flags)
{
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(2)));
	guest_open(&guest);
	add(0, MIB(2));
	assert_ok(gm_space_add(space,
		DESC(.gpa = MEM, .granule = granule,
			.part = granule ? GM_PART_UNPLUGGED : GM_PART_SHARED,
			.backing = BLOCK(.len = MEM_LEN, .flags = flags)),
		&id, &err));
	assert_ok(gm_kvm_create(
		space, GM_OPTS(gm_kvm_opts, .vm_fd = guest.vm, .flags = kvm_flags), &kvm, &err));
	guest_load(&guest, host(0));
	guest_add_cpu(&guest, kvm);
	assert_int_equal(gm_guard_install(), 0);
	start_control(POLICY(.allow = GM_CONTROL_ALL));
}

static void stop_guest(void)
{
	stop_control();
	assert_int_equal(gm_guard_remove(), 0);
	assert_ok(gm_kvm_destroy(kvm, &err));
	guest_close(&guest);
	stop();
}

/* What KVM_RUN says; 0: done. */
static int run(enum guest_payload what, uint64_t gpa, uint64_t *value)
{
	struct guest_params *params = guest_start(&guest, 0, what);
	int rc;

	params->base = gpa;
	params->value = *value;
	params->mask = 0;
	params->count = 1;
	rc = guest_run(&guest, 0);
	*value = params->value;
	return rc >= 0 && guest_is_done(&guest, 0) ? 0 : rc;
}

static int store(uint64_t gpa, uint64_t value)
{
	return run(GUEST_STORE, gpa, &value);
}

static int load(uint64_t gpa, uint64_t *ret)
{
	*ret = 99;
	return run(GUEST_LOAD, gpa, ret);
}

static void freed_memory_is_zeros_in_the_guest(void **state)
{
	static const uint32_t flags[] = {0, GM_BLOCK_SHARE};
	uint64_t value;

	(void)state;
	for (int i = 0; i < 2; i++) {
		start_guest(flags[i], 0, 0);
		for (uint64_t at = 0; at < 8; at++)
			assert_int_equal(store(MEM + at * PAGE, 7), 0);
		assert_ok(ask(GM_CONTROL_DONTNEED, MEM + 2 * PAGE, 2 * PAGE));
		assert_ok(ask(GM_CONTROL_REMOVE, MEM + 4 * PAGE, PAGE));
		for (uint64_t at = 0; at < 8; at++) {
			assert_int_equal(load(MEM + at * PAGE, &value), 0);
			assert_int_equal(value, at >= 2 && at < 5 ? 0 : 7);
		}
		assert_int_equal(store(MEM + 2 * PAGE, 8), 0);
		assert_int_equal(load(MEM + 2 * PAGE, &value), 0);
		assert_int_equal(value, 8);
		stop_guest();
	}
}

static void protected_memory_ends_the_run(void **state)
{
	static const uint32_t flags[] = {0, GM_BLOCK_SHARE};
	uint64_t value;

	(void)state;
	for (int i = 0; i < 2; i++) {
		start_guest(flags[i], 0, 0);
		assert_int_equal(store(MEM, 5), 0);
		assert_int_equal(store(MEM + PAGE, 6), 0);
		assert_ok(ask(GM_CONTROL_PROTECT_R, MEM, PAGE));
		assert_int_equal(load(MEM, &value), 0);
		assert_int_equal(value, 5);
		assert_int_equal(store(MEM, 9), -EFAULT);
		/* The same instruction again, and then it may. */
		assert_int_equal(guest_run(&guest, 0), -EFAULT);
		assert_ok(ask(GM_CONTROL_PROTECT_RW, MEM, PAGE));
		assert_true(guest_run(&guest, 0) >= 0);
		assert_true(guest_is_done(&guest, 0));
		assert_int_equal(load(MEM, &value), 0);
		assert_int_equal(value, 9);
		assert_ok(ask(GM_CONTROL_PROTECT_NONE, MEM, PAGE));
		assert_int_equal(load(MEM, &value), -EFAULT);
		assert_int_equal(gm_control_lift(control, 0, 0, NULL), 0);
		assert_true(guest_run(&guest, 0) >= 0);
		assert_true(guest_is_done(&guest, 0));
		assert_int_equal(load(MEM + PAGE, &value), 0);
		assert_int_equal(value, 6);
		stop_guest();
	}
}

static void pages_of_a_balloon_come_back_as_zeros(void **state)
{
	struct gm_balloon_result got = {.size = sizeof(got)};
	struct gm_balloon *balloon;
	uint32_t pfns[64];
	uint64_t value;

	(void)state;
	start_guest(0, 0, 0);
	assert_ok(gm_balloon_create(space, NULL, &balloon, &err));
	for (uint32_t i = 0; i < 64; i++) {
		assert_int_equal(store(MEM + i * PAGE, i + 1), 0);
		pfns[i] = (uint32_t)(MEM / PAGE) + i / 2 * 2;
	}
	assert_ok(gm_balloon_inflate(balloon, pfns, 64, &got, &err));
	assert_int_equal(got.freed, 32 * PAGE);
	assert_int_equal(gm_balloon_deflate(balloon, pfns, 64, &got), 0);
	for (uint32_t i = 0; i < 64; i++) {
		assert_int_equal(load(MEM + i * PAGE, &value), 0);
		assert_int_equal(value, i % 2 ? i + 1 : 0);
	}
	gm_balloon_destroy(balloon);
	stop_guest();
}

/* @guard: one slot for the region and guard pages, or a slot for each run. */
static void check_unplugged(bool guard)
{
	struct gm_virtio_mem *mem;
	uint64_t value;
	int rc;

	start_guest(GM_BLOCK_SHARE, MIB(2), guard ? 0 : GM_KVM_PARTS);
	assert_ok(gm_virtio_mem_create(space, id,
		GM_OPTS(gm_virtio_mem_opts, .requested = MEM_LEN,
			.flags = guard ? GM_VIRTIO_MEM_GUARD : 0),
		&mem, &err));
	assert_int_equal(gm_virtio_mem_plug(mem, MEM + MIB(2), 1, &err), GM_VIRTIO_MEM_ACK);
	assert_int_equal(store(MEM + MIB(2), 5), 0);
	rc = load(MEM, &value);
	assert_int_equal(rc, guard ? -EFAULT : KVM_EXIT_MMIO);
	assert_int_equal(gm_virtio_mem_plug(mem, MEM, 1, &err), GM_VIRTIO_MEM_ACK);
	if (guard) {
		/* The load that was stopped goes on. */
		assert_true(guest_run(&guest, 0) >= 0);
		assert_true(guest_is_done(&guest, 0));
	} else {
		memset(guest.cpus[0].run->mmio.data, 0, 8);
		assert_true(guest_run(&guest, 0) >= 0);
	}
	assert_int_equal(load(MEM, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(load(MEM + MIB(2), &value), 0);
	assert_int_equal(value, 5);
	assert_int_equal(gm_virtio_mem_unplug(mem, MEM + MIB(2), 1, &err), GM_VIRTIO_MEM_ACK);
	assert_int_equal(gm_virtio_mem_plug(mem, MEM + MIB(2), 1, &err), GM_VIRTIO_MEM_ACK);
	assert_int_equal(load(MEM + MIB(2), &value), 0);
	assert_int_equal(value, 0);
	gm_virtio_mem_destroy(mem);
	stop_guest();
}

static void unplugged_blocks_are_not_there_for_the_guest(void **state)
{
	(void)state;
	check_unplugged(false);
	check_unplugged(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(freed_memory_is_zeros_in_the_guest),
		cmocka_unit_test(protected_memory_ends_the_run),
		cmocka_unit_test(pages_of_a_balloon_come_back_as_zeros),
		cmocka_unit_test(unplugged_blocks_are_not_there_for_the_guest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
