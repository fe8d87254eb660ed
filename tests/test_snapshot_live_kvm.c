/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_snapshot_live_kvm.c - a guest in KVM stamps its memory while it is saved: the file has what was there when it
 * was paused.
 */
#include "live_save.h"

#include "kvm_guest.h"

#define SYSTEM MIB(1)
#define STAMPS 200u

static struct guest guest;
static struct gm_kvm *kvm;
static pthread_t vcpu;
static _Atomic bool stop_vcpu;
static _Atomic uint64_t runs;

/* Pages of the guest's memory get other values, run by run; between two it can be paused. */
static void *run_vcpu(void *arg)
{
	uint64_t value = 1;

	(void)arg;
	while (!stop_vcpu) {
		struct guest_params *params;
		int rc;

		pthread_rwlock_rdlock(&running);
		params = guest_start(&guest, 0, GUEST_STAMP);
		params->base = AT;
		params->mask = len / PAGE - 1;
		params->value = value += STAMPS;
		params->count = STAMPS;
		params->seed = value;
		params->offset = value % 512 * 8;
		rc = guest_run(&guest, 0);
		if (rc != KVM_EXIT_IO || !guest_is_done(&guest, 0))
			fail_msg("the guest exits: %d", rc);
		runs++;
		pthread_rwlock_unlock(&running);
		sched_yield();
	}
	return NULL;
}

static void start_guest_on(uint64_t bytes, const struct gm_block_opts *block)
{
	struct gm_region_info info = {.size = sizeof(info)};
	uint64_t system;

	start_live(bytes, block, 0);
	assert_ok(gm_space_add(space,
		GM_OPTS(gm_region_desc, .gpa = 0, .backing = GM_OPTS(gm_block_opts, .len = SYSTEM)),
		&system, &err));
	assert_int_equal(gm_space_region(space, system, &info), 0);
	assert_ok(gm_pager_add_space(
		pager, space, 0, SYSTEM, AREA(.way = GM_PAGER_PROTECT), NULL, &err));
	guest_open(&guest);
	guest_load(&guest, info.hva);
	assert_ok(gm_kvm_create(space, GM_OPTS(gm_kvm_opts, .vm_fd = guest.vm), &kvm, &err));
	guest_add_cpu(&guest, kvm);
}

static void stop_guest_on(void)
{
	assert_ok(gm_kvm_remove_vcpu(kvm, guest.cpus[0].id, &err));
	assert_ok(gm_kvm_destroy(kvm, &err));
	guest_close(&guest);
	stop_live();
}

/* What lies behind the system's memory in the file. */
static void check_guest(void)
{
	int fd = open(in_dir("a"), O_RDONLY | O_CLOEXEC);
	struct gm_snapshot *snapshot;
	struct gm_source *saved;
	uint8_t *buf = malloc(len);

	assert_true(fd >= 0 && buf);
	assert_ok(gm_snapshot_open(fd, &snapshot, &err));
	assert_ok(gm_snapshot_source(&snapshot, 1, 0, &saved, &err));
	assert_int_equal(gm_source_len(saved), SYSTEM + len);
	assert_ok(gm_source_read(saved, SYSTEM, buf, len, &err));
	assert_true(sum_of(buf) == sum_of(instant));
	gm_source_destroy(saved);
	gm_snapshot_close(snapshot);
	close(fd);
	free(buf);
}

static void save_guest(uint64_t bytes, const struct gm_block_opts *block, unsigned long times)
{
	uint64_t pre = 0;

	start_guest_on(bytes, block);
	memset(hva, 0x33, len / 2);
	start_stepping();
	stop_vcpu = false;
	runs = 0;
	assert_int_equal(pthread_create(&vcpu, NULL, run_vcpu, NULL), 0);
	for (unsigned long i = 0; i < times; i++) {
		uint64_t before = runs;

		while (runs < before + 2)
			sched_yield();
		arm(NULL);
		before = runs;
		/* It writes first, and while it is saved. */
		while (runs < before + 1 && live_stats().waits == 0)
			sched_yield();
		assert_ok(save("a"));
		check_guest();
		pre += live_stats().pre_images + live_stats().waits;
	}
	stop_vcpu = true;
	pthread_join(vcpu, NULL);
	assert_true(pre >= times);
	stop_guest_on();
}

static void a_guest_that_stamps_is_saved_as_it_was(void **state)
{
	(void)state;
	save_guest(MIB(2), GM_OPTS(gm_block_opts, .len = MIB(2)), support_scale(20));
	save_guest(MIB(2), GM_OPTS(gm_block_opts, .len = MIB(2), .flags = GM_BLOCK_SHARE),
		support_scale(20));
	if (!support_pool(21, 4)) {
		printf("skipped: no huge pages\n");
		skip();
	}
	save_guest(MIB(8),
		GM_OPTS(gm_block_opts, .len = MIB(8), .flags = GM_BLOCK_SHARE,
			.pages = {{.kind = GM_PAGE_HUGETLB, .log2 = 21}}),
		support_scale(10));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_guest_that_stamps_is_saved_as_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
