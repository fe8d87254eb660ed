/* SPDX-License-Identifier: BSD-3-Clause */
/* test_kvm.c - slots of KVM as the space is: what gets one, what exits, what changes, what is refused. */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "adapters/kvm.h"
#include "fault.h"
#include "one_guest.h"
#include "sys/uapi_kvm.h"

#define START(cpus, ...) start_guest(GM_OPTS(gm_kvm_opts, __VA_ARGS__), cpus)

static uint64_t device_writes;

static int device_read(void *ctx, uint64_t off, uint32_t size, uint64_t *ret_value)
{
	(void)ctx;
	(void)off;
	(void)size;
	*ret_value = 0x5a5a5a5a5a5a5a5a;
	return 0;
}

static int device_write(void *ctx, uint64_t off, uint32_t size, uint64_t value)
{
	(void)ctx;
	(void)off;
	(void)size;
	(void)value;
	device_writes++;
	return 0;
}

static const struct gm_device_ops device = {
	.size = sizeof(device), .read = device_read, .write = device_write};

static uint64_t add_desc(const struct gm_region_desc *desc)
{
	uint64_t id = 0;

	assert_ok(gm_space_add(space, desc, &id, &err));
	return id;
}

static void test_memory_is_the_guests(void **state)
{
	(void)state;
	START(1);
	*(uint64_t *)(void *)(guest.system + MIB(2)) = 0x1122334455667788;
	assert_int_equal(guest_load_u64(MIB(2)), 0x1122334455667788);
	assert_int_equal(guest_store_u64(MIB(2) + 8, 99), 0);
	assert_int_equal(guest.system[MIB(2) + 8], 99);
	assert_true(guest_has_slot(&guest, RAM - PAGE));
	assert_false(guest_has_slot(&guest, RAM));
	assert_int_equal(slot_at(PAGE).len, RAM);
	assert_ptr_equal(slot_at(PAGE).hva, guest.system);
	assert_int_equal(slot_at(RAM).len, 0);
	stop_guest();
	gm_kvm_destroy(NULL, NULL);
}

static void test_what_may_not_be_written_exits(void **state)
{
	struct gm_kvm_slot slot;

	(void)state;
	START(1);
	add_desc(DESC(.gpa = GIB(1), .kind = GM_REGION_ROM, .backing = BLOCK(.len = PAGE)));
	add_desc(DESC(.gpa = GIB(1) + MIB(2), .kind = GM_REGION_ROMD, .backing = BLOCK(.len = PAGE),
		.device = &device));
	add_desc(DESC(.gpa = GIB(1) + MIB(4), .len = PAGE, .kind = GM_REGION_MMIO,
		.device = &device));
	for (uint64_t gpa = GIB(1); gpa <= GIB(1) + MIB(2); gpa += MIB(2)) {
		slot = slot_at(gpa);
		assert_int_equal(slot.flags, KVM_MEM_READONLY);
		assert_true(guest_has_slot(&guest, gpa));
		*(uint64_t *)slot.hva = 77;
		mmio.gpa = 0;
		/* Read without an exit; written with one, and nothing has changed. */
		assert_int_equal(guest_load_u64(gpa), 77);
		assert_int_equal(mmio.gpa, 0);
		device_writes = 0;
		assert_int_equal(guest_store_u64(gpa, 0xabcd), 1);
		assert_int_equal(mmio.gpa, gpa);
		assert_int_equal(mmio.value, 0xabcd);
		assert_true(mmio.is_write);
		assert_int_equal(*(uint64_t *)slot.hva, 77);
		assert_int_equal(device_writes, gpa != GIB(1));
	}
	assert_false(guest_has_slot(&guest, GIB(1) + MIB(4)));
	assert_int_equal(guest_load_u64(GIB(1) + MIB(4)), 0x5a5a5a5a5a5a5a5a);
	assert_int_equal(guest_load_u64(GIB(1) + MIB(6)), UINT64_MAX);
	stop_guest();
}

static void test_far_memory_has_no_slot(void **state)
{
	(void)state;
	START(1);
	add_desc(DESC(.gpa = GIB(1), .backing = BLOCK(.len = MIB(1), .backing = GM_BACKING_MEMFD,
					     .flags = GM_BLOCK_UNMAPPED)));
	assert_int_equal(info().no_slot, MIB(1));
	assert_int_equal(info().slots, 1);
	assert_int_equal(guest_store_u64(GIB(1) + 8, 5), 1);
	assert_int_equal(guest_load_u64(GIB(1) + 8), 5);
	assert_true(mmio.gpa == GIB(1) + 8);
	stop_guest();
}

static void test_permissions_change_at_run_time(void **state)
{
	uint64_t id;

	(void)state;
	START(1);
	id = add(GIB(1), PAGE);
	assert_int_equal(guest_store_u64(GIB(1), 1), 0);
	/* To execute is nothing that KVM could refuse. */
	fault_set(NULL);
	assert_ok(protect(id, GM_PERM_RW));
	assert_int_equal(fault_calls(FAULT_gm_sys_kvm_set_slot), 0);
	assert_ok(protect(id, GM_PERM_R));
	assert_int_equal(fault_calls(FAULT_gm_sys_kvm_set_slot), 2);
	assert_int_equal(slot_at(GIB(1)).flags, KVM_MEM_READONLY);
	assert_int_equal(guest_store_u64(GIB(1), 2), 1);
	assert_int_equal(guest_load_u64(GIB(1)), 1);
	/* Nothing at all: reads exit too, and find nothing. */
	assert_ok(protect(id, GM_PERM_W));
	assert_false(guest_has_slot(&guest, GIB(1)));
	assert_int_equal(info().no_slot, PAGE);
	assert_int_equal(guest_load_u64(GIB(1)), UINT64_MAX);
	assert_int_equal(guest_store_u64(GIB(1), 3), 1);
	assert_ok(protect(id, GM_PERM_RWX));
	assert_int_equal(info().no_slot, 0);
	assert_int_equal(guest_load_u64(GIB(1)), 3);
	assert_int_equal(guest_store_u64(GIB(1), 4), 0);
	assert_ok(gm_space_remove(space, id, &err));
	assert_int_equal(guest_load_u64(GIB(1)), UINT64_MAX);
	assert_int_equal(info().slots, 1);
	stop_guest();
}

static void test_numbers_are_used_again(void **state)
{
	uint64_t ids[3];

	(void)state;
	start_apart();
	assert_ok(gm_kvm_create(space, KVM_OPTS(.first_slot = 100, .max_slots = 4), &kvm, &err));
	assert_int_equal(info().limit, 4);
	for (unsigned int round = 0; round < 200; round++) {
		for (unsigned int i = 0; i < 3; i++) {
			ids[i] = add(GIB(1) + i * 2 * PAGE, PAGE);
			assert_in_range(slot_at(GIB(1) + i * 2 * PAGE).number, 100, 103);
		}
		for (unsigned int i = 0; i < 3; i++)
			assert_ok(gm_space_remove(space, ids[(i + round) % 3], &err));
	}
	assert_int_equal(info().slots, 1);
	stop_guest();
}

static void test_over_the_limit_nothing_is_done(void **state)
{
	struct gm_txn *txn;
	uint64_t id;

	(void)state;
	start_apart();
	assert_ok(gm_kvm_create(space, KVM_OPTS(.max_slots = 3), &kvm, &err));
	id = add(GIB(1), PAGE);
	fault_set(NULL);
	assert_ok(gm_txn_begin(space, &txn, &err));
	for (unsigned int i = 0; i < 2; i++)
		assert_ok(gm_txn_add(txn,
			DESC(.gpa = GIB(2) + 2 * i * PAGE, .backing = BLOCK(.len = PAGE)), NULL,
			&err));
	assert_fails(gm_txn_commit(txn, &err), ENOSPC, "4 slots would be needed");
	assert_int_equal(fault_calls(FAULT_gm_sys_kvm_set_slot), 0);
	/* One that goes makes room for one that comes. */
	assert_ok(gm_txn_remove(txn, id, &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(info().slots, 3);
	assert_false(guest_has_slot(&guest, GIB(1)));
	stop_guest();
}

/*
 * All that the kernel has (with GM_TEST_SCALE, else some: KVM waits in each that it deletes), as pieces
 * of one region: others lie on every second of its pages.
 */
static void test_slots_up_to_the_kernels_limit(void **state)
{
	uint64_t last = 0;
	struct gm_txn *txn;
	uint32_t limit;

	(void)state;
	start_apart();
	assert_ok(gm_kvm_create(
		space, KVM_OPTS(.max_slots = support_scale(1) > 1 ? 0 : 4000), &kvm, &err));
	guest_add_cpu(&guest, kvm);
	limit = info().limit;
	assert_true(limit >= 4000);
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(gm_txn_add(txn,
		DESC(.gpa = GIB(1), .backing = BLOCK(.len = 2 * (limit - 1) * PAGE)), NULL, &err));
	for (uint32_t i = 0; i < limit - 1; i++)
		assert_ok(gm_txn_add(txn,
			DESC(.gpa = GIB(1) + 2 * i * PAGE, .len = PAGE, .kind = GM_REGION_RESERVED,
				.priority = 1),
			&last, &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(info().slots, limit);
	assert_int_equal(guest_store_u64(GIB(1) + (2 * limit - 3) * PAGE, limit), 0);
	assert_int_equal(guest_load_u64(GIB(1) + 17 * PAGE), 0);
	assert_int_equal(guest_load_u64(GIB(1) + 18 * PAGE), UINT64_MAX);
	assert_fails(
		gm_space_add(space, DESC(.gpa = GIB(3), .backing = BLOCK(.len = PAGE)), NULL, &err),
		ENOSPC, "slots would be needed");
	/* Two become one. */
	assert_ok(gm_space_remove(space, last, &err));
	assert_int_equal(info().slots, limit - 1);
	add(GIB(3), PAGE);
	assert_int_equal(guest_store_u64(GIB(3), 1), 0);
	stop_guest();
}

static void test_neighbours_share_a_slot_if_asked(void **state)
{
	(void)state;
	START(0);
	fault_set(NULL);
	add(RAM, RAM);
	/* What was there before is left alone. */
	assert_int_equal(fault_calls(FAULT_gm_sys_kvm_set_slot), 1);
	assert_int_equal(info().slots, 2);
	stop_guest();
	START(1, .flags = GM_KVM_JOIN);
	add(RAM, RAM);
	assert_int_equal(info().slots, 1);
	assert_int_equal(slot_at(RAM).len, 2 * RAM);
	assert_int_equal(guest_store_u64(2 * RAM - 8, 6), 0);
	stop_guest();
}

static void test_unplugged_parts_have_no_slot_if_asked(void **state)
{
	uint64_t id;

	(void)state;
	for (uint32_t flags = 0; flags <= GM_KVM_PARTS; flags += GM_KVM_PARTS) {
		START(1, .flags = flags);
		id = add_desc(DESC(.gpa = GIB(1), .granule = MIB(2),
			.backing = BLOCK(.len = MIB(8)), .part = GM_PART_UNPLUGGED));
		assert_int_equal(info().slots, flags ? 1 : 2);
		assert_ok(gm_space_set_part(space, id, MIB(2), MIB(4), GM_PART_SHARED, &err));
		assert_int_equal(info().slots, 2);
		assert_int_equal(slot_at(GIB(1) + MIB(2)).len, flags ? MIB(4) : MIB(8));
		assert_int_equal(guest_store_u64(GIB(1) + MIB(2), 8), 0);
		assert_int_equal(guest_store_u64(GIB(1) + MIB(6), 8), flags ? 1 : 0);
		assert_ok(gm_space_set_part(space, id, MIB(2), MIB(2), GM_PART_UNPLUGGED, &err));
		assert_int_equal(guest_store_u64(GIB(1) + MIB(2), 9), flags ? 1 : 0);
		stop_guest();
	}
}

static void test_alignment_is_told(void **state)
{
	struct gm_block *block;

	(void)state;
	START(0);
	assert_int_equal(info().bytes, RAM);
	assert_int_equal(info().bytes_2m, RAM);
	assert_int_equal(info().bytes_1g, 0);
	assert_int_equal(info().misaligned, 0);
	/* In the window guest and host addresses agree modulo 1 GiB. */
	add(GIB(1) - PAGE, GIB(1) + 2 * PAGE);
	assert_int_equal(info().bytes_2m, RAM + GIB(1));
	assert_int_equal(info().bytes_1g, GIB(1));
	/* Above it they need not. */
	assert_ok(gm_block_create(BLOCK(.len = MIB(4)), &block, &err));
	add_desc(DESC(.gpa = GIB(8) + PAGE, .block = block));
	assert_int_equal(info().misaligned, MIB(4));
	assert_int_equal(info().misaligned_gpa, GIB(8) + PAGE);
	assert_int_equal(info().bytes_1g, GIB(1));
	assert_int_equal(info().bytes, RAM + GIB(1) + 2 * PAGE + MIB(4));
	stop_guest();
	gm_block_put(block);
}

static void test_wrong_options_are_refused(void **state)
{
	struct gm_kvm_info small = {.size = 8};
	struct gm_kvm_slot slot = {.size = 8};
	struct gm_kvm_opts newer[2] = {{.size = sizeof(newer)}, {.size = 1}};
	struct gm_txn *txn;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	start_apart();
	kvm = NULL;
	assert_fails(gm_kvm_create(space, KVM_OPTS(.flags = 8), &kvm, &err), EINVAL, "flags 0x8");
	assert_fails(gm_kvm_create(space, &newer[0], &kvm, &err), E2BIG, "kvm");
	assert_fails(gm_kvm_create(space, GM_OPTS(gm_kvm_opts, .vm_fd = -1), &kvm, &err), EBADF,
		"fd -1");
	assert_fails(gm_kvm_create(space, GM_OPTS(gm_kvm_opts, .vm_fd = fd), &kvm, &err), ENOTTY,
		"no virtual machine");
	close(fd);
	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	assert_fails(gm_kvm_create(space, GM_OPTS(gm_kvm_opts, .vm_fd = fd), &kvm, &err), EINVAL,
		"no virtual machine");
	assert_fails(gm_kvm_create(space, KVM_OPTS(.first_slot = 1u << 20), &kvm, &err), EINVAL,
		"slots 1048576");
	assert_fails(gm_kvm_create(space, KVM_OPTS(.max_slots = 1u << 20), &kvm, &err), EINVAL,
		"KVM has");
	assert_fails(gm_kvm_create(space, KVM_OPTS(.ring_entries = 1000), &kvm, &err), EINVAL,
		"power of two");
	assert_fails(gm_kvm_create(space, KVM_OPTS(.ring_entries = 1u << 20), &kvm, &err), E2BIG,
		"dirty rings");
	assert_fails(gm_kvm_create(space, KVM_OPTS(.address_space = 7), &kvm, &err), EINVAL,
		"slot 0, gpa 0x0");
	assert_fails(gm_kvm_create(space, KVM_OPTS(.pause = (int (*)(void *))(uintptr_t)guest_open),
			     &kvm, &err),
		EINVAL, "both");
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_fails(gm_kvm_create(space, KVM_OPTS(), &kvm, &err), EBUSY, "another change");
	gm_txn_abort(txn);
	assert_null(kvm);
	assert_ok(gm_kvm_create(space, KVM_OPTS(), &kvm, &err));
	assert_int_equal(gm_kvm_info(kvm, &small), -EINVAL);
	assert_int_equal(gm_kvm_slot(kvm, 0, &slot), -EINVAL);
	assert_fails(gm_kvm_remove_vcpu(kvm, 0, &err), ENOENT, "no vCPU 0");
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_fails(gm_kvm_destroy(kvm, &err), EBUSY, "another change");
	gm_txn_abort(txn);
	close(fd);
	stop_guest();
}

/* Somebody else's slot is in the way: the change is refused with what KVM said, and nothing is left. */
static void test_what_kvm_refuses_is_refused(void **state)
{
	struct kvm_userspace_memory_region other = {.slot = 5000, .guest_phys_addr = GIB(1)};

	(void)state;
	START(1);
	other.userspace_addr = (uintptr_t)guest.system;
	other.memory_size = PAGE;
	assert_int_equal(ioctl(guest.vm, KVM_SET_USER_MEMORY_REGION, &other), 0);
	assert_fails(
		gm_space_add(space, DESC(.gpa = GIB(1), .backing = BLOCK(.len = PAGE)), NULL, &err),
		EEXIST, "gpa 0x40000000, 4096 bytes at 0x");
	assert_int_equal(err.gpa, GIB(1));
	assert_int_equal(info().slots, 1);
	assert_int_equal(info().missing, 0);
	other.memory_size = 0;
	assert_int_equal(ioctl(guest.vm, KVM_SET_USER_MEMORY_REGION, &other), 0);
	add(GIB(1), PAGE);
	assert_int_equal(guest_store_u64(GIB(1), 1), 0);
	stop_guest();
}

/* ---- vCPUs that are paused ---- */

static struct {
	unsigned int pauses;
	unsigned int resumes;
	int answer;
} hook;

static int pause_cpus(void *ctx)
{
	assert_ptr_equal(ctx, &hook);
	hook.pauses++;
	return hook.answer;
}

static void resume_cpus(void *ctx)
{
	assert_ptr_equal(ctx, &hook);
	hook.resumes++;
	assert_int_equal(hook.resumes, hook.pauses);
}

static void test_vcpus_are_paused_when_slots_go(void **state)
{
	uint64_t id;

	(void)state;
	memset(&hook, 0, sizeof(hook));
	START(0, .pause = pause_cpus, .resume = resume_cpus, .ctx = &hook);
	id = add(GIB(1), PAGE);
	assert_int_equal(hook.pauses, 0);
	assert_ok(gm_space_remove(space, id, &err));
	assert_int_equal(hook.pauses, 1);
	assert_int_equal(hook.resumes, 1);
	id = add(GIB(1), PAGE);
	hook.answer = -ETIMEDOUT;
	assert_fails(gm_space_remove(space, id, &err), ETIMEDOUT, "cannot be paused");
	assert_int_equal(hook.resumes, 1);
	assert_true(guest_has_slot(&guest, GIB(1)));
	hook.answer = 0;
	hook.resumes = hook.pauses = 0;
	assert_ok(protect(id, GM_PERM_R));
	assert_int_equal(hook.resumes, 1);
	stop_guest();
}

/* ---- guest_memfd ---- */

static int make_memfd(uint64_t len, uint64_t flags)
{
	struct kvm_create_guest_memfd make = {.size = len, .flags = flags};
	int fd = ioctl(guest.vm, KVM_CREATE_GUEST_MEMFD, &make);

	assert_true(fd >= 0);
	return fd;
}

/* One that can be mapped is memory as any other; as private memory it is what the guest sees. */
static void test_guest_memfd_that_is_mapped(void **state)
{
	struct gm_block *block = NULL;
	int fd;

	(void)state;
	START(1);
	assert_true(info().caps & GM_KVM_CAP_GUEST_MEMFD);
	fd = make_memfd(MIB(2), GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED);
	assert_ok(gm_block_create(
		BLOCK(.len = MIB(2), .backing = GM_BACKING_FD, .fd = fd), &block, &err));
	add_desc(DESC(.gpa = GIB(1), .block = block));
	assert_int_equal(guest_store_u64(GIB(1) + PAGE, 42), 0);
	assert_int_equal(*((uint8_t *)slot_at(GIB(1)).hva + PAGE), 42);
	add_desc(DESC(.gpa = GIB(2), .len = MIB(1), .block = block, .private_block = block,
		.private_off = MIB(1), .block_off = MIB(1), .granule = PAGE));
	assert_int_equal(slot_at(GIB(2)).flags, KVM_MEM_GUEST_MEMFD);
	assert_int_equal(info().untracked, MIB(1));
	assert_int_equal(guest_store_u64(GIB(2) + 8, 43), 0);
	assert_int_equal(*((uint8_t *)slot_at(GIB(1)).hva + MIB(1) + 8), 43);
	stop_guest();
	gm_block_put(block);
	close(fd);
}

static void test_private_memory(void **state)
{
	struct gm_block *block;
	uint64_t id;
	int fd;

	(void)state;
	START(1);
	fd = make_memfd(MIB(2), 0);
	assert_ok(gm_block_create(BLOCK(.len = MIB(2), .backing = GM_BACKING_FD, .fd = fd,
					  .flags = GM_BLOCK_UNMAPPED),
		&block, &err));
	id = add_desc(DESC(.gpa = GIB(1), .len = MIB(2), .backing = BLOCK(.len = MIB(2)),
		.private_block = block, .granule = PAGE));
	assert_int_equal(slot_at(GIB(1)).flags, KVM_MEM_GUEST_MEMFD);
	/* What is shared is the host's memory. */
	assert_int_equal(guest_store_u64(GIB(1) + 8, 44), 0);
	assert_int_equal(*((uint8_t *)slot_at(GIB(1)).hva + 8), 44);
	/* Its writes cannot be tracked: all of it is marked. */
	assert_ok(gm_kvm_track(kvm, GM_KVM_TRACK_BITMAP, &err));
	assert_int_equal(slot_at(GIB(1)).flags, KVM_MEM_GUEST_MEMFD);
	if (info().caps & GM_KVM_CAP_PRIVATE)
		assert_ok(gm_space_set_part(space, id, 0, PAGE, GM_PART_PRIVATE, &err));
	else
		assert_fails(gm_space_set_part(space, id, 0, PAGE, GM_PART_PRIVATE, &err), ENOTSUP,
			"is to be private");
	if (!(info().caps & GM_KVM_CAP_PRIVATE)) {
		/* Offered, and refused when it is asked for. */
		kvm->caps |= GM_KVM_CAP_PRIVATE;
		assert_fails(gm_space_set_part(space, id, 0, PAGE, GM_PART_PRIVATE, &err), ENOTTY,
			"cannot be made private");
		assert_int_equal(guest_store_u64(GIB(1) + 16, 45), 0);
	}
	assert_ok(gm_space_remove(space, id, &err));
	/* Private memory that is no file. */
	gm_block_put(block);
	assert_ok(gm_block_create(BLOCK(.len = MIB(2)), &block, &err));
	assert_fails(gm_space_add(space,
			     DESC(.gpa = GIB(1), .backing = BLOCK(.len = MIB(2)),
				     .private_block = block, .granule = PAGE),
			     NULL, &err),
		ENOTSUP, "which is no file");
	gm_block_put(block);
	stop_guest();
	close(fd);
}

static void test_mapping_ahead(void **state)
{
	uint64_t done = 1;
	int rc;

	(void)state;
	START(1);
	rc = gm_kvm_prefault(kvm, guest.cpus[0].fd, 0, RAM, &done, &err);
	if (info().caps & GM_KVM_CAP_PREFAULT) {
		assert_int_equal(rc, 0);
		assert_int_equal(done, RAM);
	} else {
		assert_int_equal(rc, -ENOTSUP);
		assert_int_equal(done, 0);
		assert_non_null(strstr(err.text, "KVM_PRE_FAULT_MEMORY"));
		/* Offered, and refused when it is asked for. */
		kvm->caps |= GM_KVM_CAP_PREFAULT;
		assert_fails(gm_kvm_prefault(kvm, guest.cpus[0].fd, PAGE, RAM, &done, &err),
			ENOTSUP, "gpa 0x1000, 16777216 bytes cannot be mapped ahead");
		assert_int_equal(done, 0);
		assert_ok(gm_kvm_prefault(kvm, guest.cpus[0].fd, PAGE, 0, &done, &err));
	}
	stop_guest();
}

/* ---- page tables of the guest ---- */

static void test_tables_of_a_vcpu_are_found(void **state)
{
	struct gm_guest_tables_opts opts = {.size = sizeof(opts)};
	struct gm_heat blocks[4];
	uint64_t root = 0;
	size_t nr = 0;
	int fd;

	(void)state;
	START(1);
	assert_int_equal(guest_load_u64(0), *(uint64_t *)region(ram).hva);
	assert_ok(gm_kvm_root(guest.cpus[0].fd, &root, &opts.levels, &err));
	assert_int_equal(opts.levels, 4);
	assert_ok(gm_guest_tables_find(space, &root, 1, &opts, blocks, 4, &nr, &err));
	assert_int_equal(nr, 1);
	assert_int_equal(blocks[0].gpa, 0);
	assert_true(blocks[0].heat >= 2 * 3); /* three levels at least */
	/* One that has not begun. */
	fd = ioctl(guest.vm, KVM_CREATE_VCPU, 1UL);
	assert_true(fd >= 0);
	assert_fails(gm_kvm_root(fd, &root, &opts.levels, &err), ENOTSUP, "long mode");
	close(fd);
	assert_fails(gm_kvm_root(guest.vm, &root, &opts.levels, &err), ENOTTY, "registers");
	stop_guest();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_is_the_guests),
		cmocka_unit_test(test_what_may_not_be_written_exits),
		cmocka_unit_test(test_far_memory_has_no_slot),
		cmocka_unit_test(test_permissions_change_at_run_time),
		cmocka_unit_test(test_numbers_are_used_again),
		cmocka_unit_test(test_over_the_limit_nothing_is_done),
		cmocka_unit_test(test_slots_up_to_the_kernels_limit),
		cmocka_unit_test(test_neighbours_share_a_slot_if_asked),
		cmocka_unit_test(test_unplugged_parts_have_no_slot_if_asked),
		cmocka_unit_test(test_alignment_is_told),
		cmocka_unit_test(test_wrong_options_are_refused),
		cmocka_unit_test(test_what_kvm_refuses_is_refused),
		cmocka_unit_test(test_vcpus_are_paused_when_slots_go),
		cmocka_unit_test(test_guest_memfd_that_is_mapped),
		cmocka_unit_test(test_private_memory),
		cmocka_unit_test(test_mapping_ahead),
		cmocka_unit_test(test_tables_of_a_vcpu_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
