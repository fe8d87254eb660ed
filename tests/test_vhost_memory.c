/* SPDX-License-Identifier: BSD-3-Clause */
/* test_vhost_memory.c - a front-end's regions: what is refused, what stays, what becomes of rings meanwhile. */
#include "vhost_front.h"

static const uint64_t slots = P(CONFIGURE_MEM_SLOTS) | P(REPLY_ACK);

static uint32_t nr_regions(struct front *f)
{
	struct gm_vhost_backend_info info = {.size = sizeof(info)};

	assert_int_equal(gm_vhost_backend_info(f->b, &info), 0);
	return info.regions;
}

static int read_ram(struct front *f, uint64_t gpa, uint8_t *ret)
{
	struct gm_reader *reader;
	int rc;

	assert_int_equal(gm_reader_create(gm_vhost_backend_space(f->b), "test", &reader, &err), 0);
	rc = gm_read(gm_reader_enter(reader), gpa, ret, 1, NULL);
	gm_reader_leave(reader);
	gm_reader_destroy(reader);
	return rc;
}

static void a_region_is_the_file_of_the_front_end(void **state)
{
	struct front f;
	uint8_t byte = 0;

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, slots);
	assert_int_equal(ask_add(&f, region_of(GIB(1), MIB(1), MIB(3)), f.fd), 0);
	f.ram[MIB(3) + 5] = 0x5a;
	assert_int_equal(read_ram(&f, GIB(1) + 5, &byte), 0);
	assert_int_equal(byte, 0x5a);
	assert_int_equal(f.dev.memory, 1);
	assert_int_equal(ask_remove(&f, region_of(GIB(1), MIB(1), 0)), 0);
	assert_int_equal(read_ram(&f, GIB(1) + 5, &byte), -EFAULT);
	close_backend(&f);
}

/* R10, and what C back-ends lack: each by one region that is wrong in one thing. */
static void regions_that_cannot_be_are_refused(void **state)
{
	const struct {
		struct gm_vhost_region region;
		int error;
	} wrong[] = {
		{{.gpa = MIB(64), .len = 0, .user = USER + MIB(64)}, EINVAL},
		{{.gpa = 0 - MIB(1), .len = MIB(2), .user = USER + MIB(64)}, EINVAL},
		{{.gpa = MIB(64), .len = MIB(2), .user = 0 - MIB(1)}, EINVAL},
		{{.gpa = MIB(64), .len = MIB(1), .user = USER + MIB(64), .off = 0 - PAGE}, EINVAL},
		{{.gpa = MIB(64), .len = MIB(1), .user = USER + MIB(64), .off = RAM}, EINVAL},
		{{.gpa = MIB(64), .len = RAM + PAGE, .user = USER + MIB(64)}, EINVAL},
		{{.gpa = MIB(64), .len = RAM, .user = USER + MIB(64), .off = PAGE}, EINVAL},
		{{.gpa = MIB(64), .len = 0 - PAGE, .user = USER + MIB(64)}, EINVAL},
		{{.gpa = MIB(64) + 1, .len = PAGE, .user = USER + MIB(64)}, EINVAL},
		{{.gpa = MIB(64), .len = PAGE + 1, .user = USER + MIB(64)}, EINVAL},
		{{.gpa = MIB(64), .len = PAGE, .user = USER + MIB(64), .off = 512}, EINVAL},
		/* Overlaps with [0, 1 MiB): in guest addresses, in user addresses, by one page, around it. */
		{{.gpa = MIB(1) - PAGE, .len = MIB(1), .user = USER + MIB(64)}, EEXIST},
		{{.gpa = MIB(64), .len = MIB(1), .user = USER + MIB(1) - PAGE}, EEXIST},
		{{.gpa = MIB(64), .len = MIB(1), .user = USER - MIB(1) + PAGE}, EEXIST},
		{{.gpa = MIB(64), .len = MIB(8), .user = USER - MIB(4)}, EEXIST},
		{{.gpa = 0, .len = MIB(1), .user = USER}, EEXIST},
	};
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, slots);
	assert_int_equal(ask_add(&f, region_of(0, MIB(1), 0), f.fd), 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int rc = ask_add(&f, wrong[i].region, f.fd);

		if (rc != -wrong[i].error)
			fail_msg("region %zu: %d (%s)", i, rc, err.text);
		assert_true(err.text[0]);
		assert_int_equal(nr_regions(&f), 1);
	}
	/* The neighbours on both sides are none. */
	assert_int_equal(ask_add(&f, region_of(MIB(1), MIB(1), 0), f.fd), 0);
	close_backend(&f);
}

static void files_that_cannot_be_memory_are_refused(void **state)
{
	const struct gm_vhost_region region = region_of(0, PAGE, 0);
	struct front f;
	char path[] = "/tmp/gm-vhost-XXXXXX";
	int pipes[2];
	int fds[8];
	uint8_t byte;

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, slots);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	fds[0] = pipes[0];
	fds[1] = eventfd(0, EFD_CLOEXEC);
	fds[2] = open("/dev/zero", O_RDWR | O_CLOEXEC);
	fds[3] = open("/tmp", O_RDONLY | O_CLOEXEC);
	fds[4] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fds[5] = mkostemp(path, O_CLOEXEC);
	assert_int_equal(ftruncate(fds[5], (off_t)PAGE), 0);
	fds[6] = open(path, O_RDONLY | O_CLOEXEC);
	fds[7] = open(path, O_PATH | O_CLOEXEC);
	for (int i = 0; i < 8; i++) {
		if (i == 5)
			continue;
		assert_int_equal(ask_add(&f, region, fds[i]), -EINVAL);
	}
	/* A file that can shrink: while there is a guard, and then it may. */
	assert_int_equal(ask_add(&f, region, fds[5]), -EPERM);
	assert_int_equal(gm_guard_install(), 0);
	assert_int_equal(ask_add(&f, region, fds[5]), 0);
	assert_int_equal(read_ram(&f, 0, &byte), 0);
	assert_int_equal(ftruncate(fds[5], 0), 0);
	assert_int_equal(read_ram(&f, 0, &byte), -EIO);
	assert_int_equal(ask_remove(&f, region), 0);
	assert_int_equal(ask_add(&f, region, fds[5]), -EINVAL);
	assert_int_equal(gm_guard_remove(), 0);
	close_backend(&f);
	for (int i = 0; i < 8; i++)
		close(fds[i]);
	close(pipes[1]);
	unlink(path);
}

static void a_region_is_removed_by_its_addresses_and_size(void **state)
{
	struct gm_vhost_region region = region_of(MIB(2), MIB(1), MIB(1));
	struct gm_vhost_region other;
	struct front f;
	int fds[1];

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, slots);
	assert_int_equal(ask_remove(&f, region), -ENOENT);
	assert_int_equal(ask_add(&f, region, f.fd), 0);
	other = region;
	other.gpa += PAGE;
	assert_int_equal(ask_remove(&f, other), -ENOENT);
	other = region;
	other.user += PAGE;
	assert_int_equal(ask_remove(&f, other), -ENOENT);
	other = region;
	other.len -= PAGE;
	assert_int_equal(ask_remove(&f, other), -ENOENT);
	/* Whatever the offset says, and with a descriptor that nobody needs. */
	other = region;
	other.off = 0;
	fds[0] = f.fd;
	assert_int_equal(
		ask(&f, GM_VHOST_REM_MEM_REG, &(struct gm_vhost_one_region){.region = other},
			sizeof(struct gm_vhost_one_region), fds, 1),
		0);
	assert_int_equal(nr_regions(&f), 0);
	close_backend(&f);
}

static void there_are_509_slots_and_not_one_more(void **state)
{
	const size_t fds = count_fds();
	struct front f;
	uint32_t i;

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, slots);
	for (int twice = 0; twice < 2; twice++) {
		assert_int_equal(say(&f, GM_VHOST_GET_MAX_MEM_SLOTS, "", 0, NULL, 0), 0);
		assert_int_equal(said(&f), GM_VHOST_SLOTS_MAX);
	}
	/* From the last to the first, so that all are moved. */
	for (i = GM_VHOST_SLOTS_MAX; i-- > 0;)
		assert_int_equal(ask_add(&f, region_of(MIB(2) * i, PAGE, PAGE * i), f.fd), 0);
	assert_int_equal(ask_add(&f, region_of(GIB(8), PAGE, 0), f.fd), -ENOSPC);
	for (i = 0; i < GM_VHOST_SLOTS_MAX; i += 2)
		assert_int_equal(ask_remove(&f, region_of(MIB(2) * i, PAGE, 0)), 0);
	for (i = 0; i < GM_VHOST_SLOTS_MAX; i++) {
		uint8_t byte;

		f.ram[PAGE * i] = (uint8_t)i;
		assert_int_equal(read_ram(&f, MIB(2) * i, &byte), i % 2 ? 0 : -EFAULT);
		assert_true(i % 2 == 0 || byte == (uint8_t)i);
	}
	assert_int_equal(ask_add(&f, region_of(GIB(8), PAGE, 0), f.fd), 0);
	gm_vhost_backend_disconnect(f.b);
	assert_int_equal(nr_regions(&f), 0);
	close_backend(&f);
	assert_int_equal(count_fds(), fds);
}

/* R9 */
static void with_gpa_addresses_user_addresses_are_guest_addresses(void **state)
{
	const struct gm_vhost_backend_opts opts = {
		.features = ALL_FEATURES, .queues = QUEUES, .flags = GM_VHOST_BACKEND_GPA};
	struct gm_vhost_region region = region_of(0, RAM, 0);
	struct gm_vhost_vring_addr addr = {.desc = DESC_AT, .avail = AVAIL_AT, .used = USED_AT};
	struct front f;

	(void)state;
	open_backend(&f, &opts);
	negotiate(&f, 0, slots | P(GPA_ADDRESSES));
	assert_int_equal(ask_table(&f, &region, &f.fd, 1), -EINVAL);
	assert_int_equal(ask_add(&f, region, f.fd), -EINVAL);
	region.user = region.gpa;
	assert_int_equal(ask_table(&f, &region, &f.fd, 1), 0);
	make_driver(&f);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_NUM, 0, NR), 0);
	assert_int_equal(ask(&f, GM_VHOST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0), 0);
	assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_KICK, 0, f.kick), 0);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_ENABLE, 0, 1), 0);
	round_trip(&f, 3);
	close_backend(&f);
}

static void a_table_replaces_all_and_what_is_the_same_stays(void **state)
{
	const struct gm_vhost_region first[] = {
		region_of(0, MIB(4), 0), region_of(MIB(64), MIB(1), MIB(4))};
	const struct gm_vhost_region second[] = {
		region_of(MIB(128), MIB(1), MIB(5)), region_of(0, MIB(4), 0)};
	const struct gm_vhost_region moved[] = {region_of(0, MIB(4), MIB(4))};
	struct gm_vhost_region twice[] = {region_of(0, PAGE, 0), region_of(0, PAGE, PAGE)};
	struct front f;
	int fds[2];
	uint8_t byte;

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, 0);
	fds[0] = fds[1] = f.fd;
	f.ram[1] = 0x11;
	f.ram[MIB(4) + 1] = 0x22;
	assert_int_equal(ask_table(&f, first, fds, 2), 0);
	assert_int_equal(read_ram(&f, MIB(64) + 1, &byte), 0);
	assert_int_equal(byte, 0x22);
	assert_int_equal(ask_table(&f, second, fds, 2), 0);
	assert_int_equal(nr_regions(&f), 2);
	assert_int_equal(read_ram(&f, MIB(64), &byte), -EFAULT);
	assert_int_equal(read_ram(&f, 1, &byte), 0);
	assert_int_equal(byte, 0x11);
	/* Other bytes of the file in the same place. */
	assert_int_equal(ask_table(&f, moved, fds, 1), 0);
	assert_int_equal(read_ram(&f, 1, &byte), 0);
	assert_int_equal(byte, 0x22);
	/* One that is refused changes nothing. */
	assert_int_equal(ask_table(&f, twice, fds, 2), -EEXIST);
	assert_int_equal(read_ram(&f, 1, &byte), 0);
	assert_int_equal(byte, 0x22);
	assert_int_equal(ask_table(&f, NULL, NULL, 0), 0);
	assert_int_equal(nr_regions(&f), 0);
	close_backend(&f);
}

/* The number of regions, the length and the descriptors have to agree. */
static void a_table_is_as_long_as_it_says(void **state)
{
	struct gm_vhost_msg msg = {.request = GM_VHOST_SET_MEM_TABLE, .flags = GM_VHOST_VERSION};
	const size_t open = count_fds();
	struct front f;
	int fds[10];

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, 0);
	for (int i = 0; i < 10; i++)
		fds[i] = f.fd;
	for (uint32_t i = 0; i < 8; i++)
		msg.u.memory.region[i] = region_of(i * MIB(1), MIB(1), i * MIB(1));
	for (uint32_t nr = 0; nr <= 9; nr++)
		for (uint32_t len = 0; len <= 9; len++)
			for (uint32_t nr_fds = 0; nr_fds <= 9; nr_fds++) {
				bool good = nr == len && nr == nr_fds && nr <= 8;

				msg.u.memory.nr = nr;
				msg.len = 8 + len * 32;
				assert_int_equal(
					say_raw(&f, &msg, fds, nr_fds), good ? 0 : -EPROTO);
			}
	msg.u.memory.nr = UINT32_MAX;
	assert_int_equal(say_raw(&f, &msg, fds, 8), -EPROTO);
	close_backend(&f);
	assert_int_equal(count_fds(), open);
}

/* R14: the table changes under a ring that runs, and its memory with it. */
static void rings_are_found_again_after_a_change(void **state)
{
	const struct gm_vhost_region same = region_of(0, RAM, 0);
	struct gm_vhost_region moved = same;
	const struct gm_vhost_region two[] = {same, region_of(GIB(1), MIB(1), 0)};
	struct front f;
	int fds[2];
	uint32_t starts;

	(void)state;
	open_front(&f, 0, 0, NULL);
	fds[0] = fds[1] = f.fd;
	round_trip(&f, 1);
	/* Nothing goes: the ring need not stop. */
	starts = f.dev.starts;
	assert_int_equal(ask_table(&f, two, fds, 2), 0);
	assert_int_equal(f.dev.starts, starts);
	assert_int_equal(f.dev.stops, 0);
	round_trip(&f, 2);
	/* The other region goes: it stops, and goes on where it was. */
	assert_int_equal(ask_table(&f, &same, fds, 1), 0);
	assert_int_equal(f.dev.stops, 1);
	assert_int_equal(f.dev.starts, starts + 1);
	round_trip(&f, 3);
	/* The same user addresses have other guest addresses. */
	moved.gpa = GIB(2);
	assert_int_equal(ask_table(&f, &moved, fds, 1), 0);
	assert_true(f.dev.runs[0]);
	offer(&f, 4, IN_AT, OUT_AT);
	/* Addresses in the driver's chain are of then. */
	assert_int_equal(dev_serve(&f.dev, 0), -EFAULT);
	assert_int_equal(ask_table(&f, &same, fds, 1), 0);
	assert_int_equal(dev_serve(&f.dev, 0), 1);
	take_back(&f, 4, OUT_AT);
	close_backend(&f);
}

/* R15 */
static void a_ring_whose_memory_goes_waits_until_it_is_back(void **state)
{
	const struct gm_vhost_region all = region_of(0, RAM, 0);
	struct front f;

	(void)state;
	open_front(&f, 0, slots, NULL);
	round_trip(&f, 1);
	for (uint8_t i = 0; i < 10; i++) {
		assert_int_equal(ask_remove(&f, all), 0);
		assert_false(f.dev.runs[0]);
		offer(&f, i, IN_AT, OUT_AT);
		assert_int_equal(ask_add(&f, all, f.fd), 0);
		assert_true(f.dev.runs[0]);
		assert_int_equal(dev_serve(&f.dev, 0), 1);
		take_back(&f, i, OUT_AT);
	}
	close_backend(&f);
}

/* R17, and a ring whose end passes its region. */
static void a_ring_lies_in_one_region_whole(void **state)
{
	const struct gm_vhost_region halves[] = {region_of(0, DESC_AT + PAGE, 0),
		region_of(DESC_AT + PAGE, RAM - DESC_AT - PAGE, DESC_AT + PAGE)};
	struct gm_vhost_vring_addr addr = {.desc = USER + DESC_AT + PAGE - 16 * NR,
		.avail = USER + AVAIL_AT,
		.used = USER + USED_AT};
	struct front f;
	int fds[2];

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, 0);
	fds[0] = fds[1] = f.fd;
	assert_int_equal(ask_table(&f, halves, fds, 2), 0);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_NUM, 0, NR), 0);
	assert_int_equal(ask(&f, GM_VHOST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0), 0);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_ENABLE, 0, 1), 0);
	assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_KICK, 0, f.kick), 0);
	assert_true(f.dev.runs[0]);
	addr.desc += 16;
	assert_int_equal(ask(&f, GM_VHOST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0), -EFAULT);
	assert_false(f.dev.runs[0]);
	addr.desc -= 16;
	/* Its used entries end with the last byte of memory, and then behind it. */
	addr.used = USER + RAM - 4 - 8 * NR;
	assert_int_equal(ask(&f, GM_VHOST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0), 0);
	assert_true(f.dev.runs[0]);
	addr.used += 4;
	assert_int_equal(ask(&f, GM_VHOST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0), -EFAULT);
	addr.used = UINT64_MAX - 3;
	assert_int_equal(ask(&f, GM_VHOST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0), -EFAULT);
	close_backend(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_region_is_the_file_of_the_front_end),
		cmocka_unit_test(regions_that_cannot_be_are_refused),
		cmocka_unit_test(files_that_cannot_be_memory_are_refused),
		cmocka_unit_test(a_region_is_removed_by_its_addresses_and_size),
		cmocka_unit_test(there_are_509_slots_and_not_one_more),
		cmocka_unit_test(with_gpa_addresses_user_addresses_are_guest_addresses),
		cmocka_unit_test(a_table_replaces_all_and_what_is_the_same_stays),
		cmocka_unit_test(a_table_is_as_long_as_it_says),
		cmocka_unit_test(rings_are_found_again_after_a_change),
		cmocka_unit_test(a_ring_whose_memory_goes_waits_until_it_is_back),
		cmocka_unit_test(a_ring_lies_in_one_region_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
