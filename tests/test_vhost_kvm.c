/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_vhost_kvm.c - drivers in a guest of KVM, our front-end, and a block device of ours: in a thread of the test, and
 * as "guestmem blk" in a process of its own. The guest looks at each byte that it reads; the test looks at the file.
 * The command is argument 1.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "kvm_blk.h"

#include "blk_thread.h"

#include <guestmem/log.h>

#include "blk_image.h"

/* ---- one machine and one device ---- */

struct device {
	bool is_process;
	pid_t pid;
	struct blk_thread thread;
};

static void start_device(struct device *d)
{
	if (d->is_process)
		d->pid = spawn_blk(tool, path, image, NULL);
	else
		blk_thread_begin(&d->thread, path, image_fd);
}

static void end_device(struct device *d)
{
	if (d->is_process)
		spawned_end(d->pid, SIGTERM, 0);
	else
		blk_thread_end(&d->thread);
	unlink(path);
}

static void begin(struct device *d, unsigned int cpus, const struct gm_block_opts *memory)
{
	fill_image(image_fd);
	start_machine(cpus, memory);
	start_device(d);
	connect_frontend(path, 0);
	assert_ok(gm_vhost_frontend_attach(fe, space, &err));
}

static void finish(struct device *d)
{
	check_image(image_fd, guest.nr_cpus);
	assert_ok(gm_vhost_frontend_destroy(fe, &err));
	end_device(d);
	stop_machine();
}

/* ---- memory that comes and goes ---- */

/* Requests use it while it is there. */
static void plug_and_unplug(const struct gm_block_opts *far)
{
	uint64_t before[GUEST_CPUS];
	uint64_t id = 0;

	assert_ok(gm_space_add(space, DESC(.gpa = FAR_GPA, .backing = far), &id, &err));
	for (unsigned int cpu = 0; cpu < guest.nr_cpus; cpu++) {
		before[cpu] = blk_of(cpu)->far;
		__atomic_store_n(
			&blk_of(cpu)->extra, FAR_GPA + cpu * (FAR_LEN / 2), __ATOMIC_SEQ_CST);
	}
	for (unsigned int cpu = 0; cpu < guest.nr_cpus; cpu++) {
		while (__atomic_load_n(&blk_of(cpu)->far, __ATOMIC_RELAXED) < before[cpu] + 8) {
			check_driver(cpu);
			moment();
		}
		__atomic_store_n(&blk_of(cpu)->extra, 0, __ATOMIC_SEQ_CST);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		while (__atomic_load_n(&blk_of(cpu)->far_out, __ATOMIC_SEQ_CST)) {
			check_driver(cpu);
			moment();
		}
	}
	assert_ok(gm_space_remove(space, id, &err));
}

static void drive(struct device *d, unsigned int cpus, const struct gm_block_opts *memory,
	const struct gm_block_opts *far)
{
	uint64_t turns = support_scale(2);

	begin(d, cpus, memory);
	for (unsigned int cpu = 0; cpu < cpus; cpu++)
		prepare_driver(cpu, 0, 0);
	start_rings();
	for (unsigned int cpu = 0; cpu < cpus; cpu++)
		start_driver(cpu);
	for (uint64_t i = 0; i < turns; i++) {
		plug_and_unplug(far);
		for (unsigned int cpu = 0; cpu < cpus; cpu++)
			await_driver(cpu, 300 * (i + 1));
	}
	for (unsigned int cpu = 0; cpu < cpus; cpu++) {
		stop_driver(cpu);
		assert_true(vcpus[cpu].kicked > 0);
		assert_int_equal(vcpus[cpu].kicked, blk_of(cpu)->kicks);
		assert_true(blk_of(cpu)->far >= 8 * turns);
		if (getenv("GM_SOAK"))
			printf("figure: vhost-kvm-requests %llu\n",
				(unsigned long long)blk_of(cpu)->done);
	}
	for (unsigned int cpu = 0; cpu < cpus; cpu++)
		assert_ok(gm_vhost_frontend_ring_stop(fe, cpu, NULL, &err));
	finish(d);
}

#define PLAIN_RAM BLOCK(.len = RAM, .flags = GM_BLOCK_SHARE)
#define PLAIN_FAR BLOCK(.len = FAR_LEN, .flags = GM_BLOCK_SHARE)

static void a_thread_serves_guests_by_split_rings(void **state)
{
	struct device d = {.is_process = false};

	(void)state;
	packed = false;
	drive(&d, 1, PLAIN_RAM, PLAIN_FAR);
}

static void a_thread_serves_guests_by_packed_rings(void **state)
{
	struct device d = {.is_process = false};

	(void)state;
	packed = true;
	drive(&d, 2, PLAIN_RAM, PLAIN_FAR);
}

static void a_process_serves_guests_by_split_rings(void **state)
{
	struct device d = {.is_process = true};

	(void)state;
	packed = false;
	drive(&d, 2, PLAIN_RAM, PLAIN_FAR);
}

static void a_process_serves_guests_by_packed_rings(void **state)
{
	struct device d = {.is_process = true};

	(void)state;
	packed = true;
	drive(&d, 1, PLAIN_RAM, PLAIN_FAR);
}

static void memory_of_huge_pages_is_served_alike(void **state)
{
	const struct gm_page_choice huge = {GM_PAGE_HUGETLB, 21};

	(void)state;
	if (!support_pool(21, (RAM + FAR_LEN) / MIB(2))) {
		puts("skipped: there are no huge pages of 2 MiB to reserve");
		skip();
	}
	for (int is_process = 0; is_process < 2; is_process++) {
		struct device d = {.is_process = is_process};

		packed = is_process;
		drive(&d, 1, BLOCK(.len = RAM, .flags = GM_BLOCK_SHARE, .pages = {huge}),
			BLOCK(.len = FAR_LEN, .flags = GM_BLOCK_SHARE, .pages = {huge}));
	}
}

/* ---- kicks without exits ---- */

static void kicks_may_go_past_the_monitor(void **state)
{
	struct device d = {.is_process = true};
	struct kvm_ioeventfd door = {
		.addr = GUEST_BLK_KICK, .len = 2, .flags = KVM_IOEVENTFD_FLAG_PIO};

	(void)state;
	packed = false;
	begin(&d, 1, PLAIN_RAM);
	door.fd = vcpus[0].kick;
	if (ioctl(guest.vm, KVM_IOEVENTFD, &door)) {
		finish(&d);
		puts("skipped: this KVM has no ioeventfd for ports");
		skip();
	}
	prepare_driver(0, 0, 600);
	start_rings();
	start_driver(0);
	join_driver(0);
	assert_int_equal(done_by(0), 600);
	assert_true(blk_of(0)->kicks > 0);
	assert_int_equal(vcpus[0].kicked, 0);
	door.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	assert_int_equal(ioctl(guest.vm, KVM_IOEVENTFD, &door), 0);
	finish(&d);
}

/* ---- what the device writes is in the log ---- */

static bool is_marked(const struct gm_log *log, uint64_t gpa)
{
	return gm_log_count(log, gpa & ~(PAGE - 1), PAGE) == 1;
}

/* Pages from @first to @last that the device writes: all are marked; or none is. */
static void expect_marks(const struct gm_log *log, uint64_t gpa, uint64_t len, bool marked)
{
	for (uint64_t at = gpa; at < gpa + len; at += PAGE) {
		if (is_marked(log, at) != marked)
			fail_msg("the page at 0x%llx is %smarked", (unsigned long long)at,
				marked ? "not " : "");
	}
}

static void look_at_log(const struct gm_log *log)
{
	const struct guest_blk *b = blk_of(0);
	uint64_t pages = 0;

	for (uint32_t way = 0; way < BLK_WAYS; way++) {
		uint64_t buffer = b->buffers + way * BLK_WAY_LEN;

		/* What the guest gives the device to read is no write of the device's. */
		expect_marks(log, buffer, BLK_EACH, way % 2 == 0);
		expect_marks(log, buffer + BLK_EACH, BLK_WAY_LEN - BLK_EACH, false);
		pages += way % 2 == 0 ? BLK_EACH / PAGE : 0;
	}
	expect_marks(log, b->heads, PAGE, false);
	expect_marks(log, b->status, PAGE, true);
	expect_marks(log, b->avail, PAGE, false);
	expect_marks(log, b->desc, PAGE, packed);
	/* Of a packed ring that is the device's wish for kicks only. */
	if (!packed)
		expect_marks(log, b->used, PAGE, true);
	pages += 1u + packed + is_marked(log, b->used);
	assert_int_equal(gm_log_count(log, 0, RAM), pages);
}

static void run_logged(struct device *d, bool ring)
{
	struct gm_log *log;
	uint64_t pages = 0;

	packed = ring;
	begin(d, 1, PLAIN_RAM);
	prepare_driver(0, BLK_FIXED, 200);
	start_rings();
	assert_ok(gm_vhost_frontend_log_start(fe, &err));
	assert_ok(gm_log_create(space, GM_OPTS(gm_log_opts, .page_size = PAGE), &log, &err));
	assert_ok(gm_kvm_track(kvm, GM_KVM_TRACK_BITMAP, &err));
	start_driver(0);
	join_driver(0);
	assert_ok(gm_vhost_frontend_ring_stop(fe, 0, NULL, &err));
	assert_ok(gm_vhost_frontend_log_sync(fe, &pages, &err));
	assert_true(pages > 0);
	look_at_log(log);
	/* With what the guest wrote nothing is missing. */
	assert_ok(gm_kvm_harvest(kvm, &pages, &err));
	for (uint32_t way = 0; way < BLK_WAYS; way++)
		expect_marks(log, blk_of(0)->buffers + way * BLK_WAY_LEN, BLK_EACH, true);
	expect_marks(log, blk_of(0)->avail, PAGE, true);
	expect_marks(log, blk_of(0)->heads, PAGE, true);
	assert_ok(gm_kvm_track(kvm, GM_KVM_TRACK_NONE, &err));
	assert_ok(gm_vhost_frontend_log_stop(fe, &err));
	assert_ok(gm_log_destroy(log, &err));
	finish(d);
}

static void what_the_device_writes_for_guests_is_logged(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct device d = {.is_process = i / 2};

		run_logged(&d, i % 2);
	}
}

/* ---- shared memory regions ---- */

/* The guest reads and writes what a device has mapped without an exit; what is gone, or may not be written, exits. */
static void guests_use_what_a_device_maps(void **state)
{
	const uint64_t bar = GIB(2);
	const struct gm_vhost_shmem_map map = {
		.id = 2, .off = PAGE, .len = PAGE, .flags = GM_VHOST_SHMEM_WRITE};
	struct gm_vhost_shmem_map fixed = {.id = 2, .off = 4 * PAGE, .len = PAGE};
	const int fd = memfd_create("shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct gm_vhost_shmem *shmem;
	uint64_t value = 0;
	uint64_t id = 0;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)PAGE), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	start_machine(1, PLAIN_RAM);
	assert_ok(gm_space_add(
		space, DESC(.gpa = bar, .len = MIB(1), .kind = GM_REGION_CONTAINER), &id, &err));
	assert_ok(
		gm_vhost_shmem_create(GM_OPTS(gm_vhost_shmem_opts, .space = space), &shmem, &err));
	assert_ok(gm_vhost_shmem_place(shmem, 2, id, &err));
	assert_int_equal(guest_store_u64(bar + PAGE, 1), 1);
	assert_ok(gm_vhost_shmem_map(shmem, &map, fd, &err));
	assert_int_equal(guest_store_u64(bar + PAGE + 8, 0x1122334455667788), 0);
	assert_int_equal(pread(fd, &value, 8, 8), 8);
	assert_int_equal(value, 0x1122334455667788);
	value = 77;
	assert_int_equal(pwrite(fd, &value, 8, 16), 8);
	assert_int_equal(guest_load_u64(bar + PAGE + 16), 77);
	assert_ok(gm_vhost_shmem_map(shmem, &fixed, fd, &err));
	assert_int_equal(guest_load_u64(bar + 4 * PAGE + 16), 77);
	assert_int_equal(guest_store_u64(bar + 4 * PAGE + 16, 78), 1);
	assert_int_equal(guest_load_u64(bar + PAGE + 16), 77);
	assert_ok(gm_vhost_shmem_unmap(shmem, &map, &err));
	assert_int_equal(guest_store_u64(bar + PAGE + 8, 5), 1);
	assert_int_equal(pread(fd, &value, 8, 8), 8);
	assert_int_equal(value, 0x1122334455667788);
	assert_ok(gm_vhost_shmem_destroy(shmem, &err));
	assert_false(guest_has_slot(&guest, bar + 4 * PAGE));
	close(fd);
	stop_machine();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thread_serves_guests_by_split_rings),
		cmocka_unit_test(a_thread_serves_guests_by_packed_rings),
		cmocka_unit_test(a_process_serves_guests_by_split_rings),
		cmocka_unit_test(a_process_serves_guests_by_packed_rings),
		cmocka_unit_test(memory_of_huge_pages_is_served_alike),
		cmocka_unit_test(kicks_may_go_past_the_monitor),
		cmocka_unit_test(what_the_device_writes_for_guests_is_logged),
		cmocka_unit_test(guests_use_what_a_device_maps),
	};

	if (argc != 2)
		return 2;
	tool = argv[1];
	return cmocka_run_group_tests(tests, make_image, remove_image);
}
