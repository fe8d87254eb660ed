/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager_kvm.c - a guest whose memory is filled while it runs: by a thread that is told, and by the vCPU's own
 * thread; with prefetch, discards and a device's readv beside it.
 */
#include <guestmem/clone.h>
#include <guestmem/discard.h>
#include <sys/uio.h>

#include "one_guest.h"
#include "one_pager.h"

#define AT GIB(1)
#define PAGES 1024u
#define LEN (PAGES * PAGE)
#define EXIT_MEMORY_FAULT 39u /* then flags, gpa, size */

static uint8_t *hva;
static struct gm_block *block;
static uint64_t area;

static void start_all(bool shared, uint32_t flags)
{
	uint64_t id = 0;

	start_guest(KVM_OPTS(0), 1);
	assert_ok(gm_space_add(space,
		DESC(.gpa = AT, .backing = BLOCK(.len = LEN, .flags = shared ? GM_BLOCK_SHARE : 0)),
		&id, &err));
	hva = region(id).hva;
	block = region(id).block;
	start_pager(LEN);
	assert_ok(gm_pager_add_space(
		pager, space, AT, LEN, AREA(.source = source, .flags = flags), &area, &err));
}

static void stop_all(void)
{
	stop_pager();
	stop_guest();
}

/* What it adds up of @nr pages, and how often it left because of a missing page. */
static uint64_t sum(uint64_t first, uint64_t nr, unsigned int *ret_left)
{
	struct guest_params *params = guest_start(&guest, 0, GUEST_SUM);

	params->base = AT + first * PAGE;
	params->mask = PAGES - 1;
	params->count = nr;
	params->offset = 0;
	params->value = 0;
	params->seed = 1;
	*ret_left = 0;
	for (;;) {
		int rc = guest_run(&guest, 0);
		const struct kvm_run *run = guest.cpus[0].run;
		uint64_t gpa;

		if (rc == KVM_EXIT_IO && guest_is_done(&guest, 0))
			return params->value;
		assert_int_equal(rc, -EFAULT);
		/* kvm-pvm leaves the reason 0 and does not say where; the payload goes from page to page. */
		gpa = AT + (first + *ret_left % nr) * PAGE;
		if (run->exit_reason == EXIT_MEMORY_FAULT)
			memcpy(&gpa, (const uint8_t *)&run->hw + 8, sizeof(gpa));
		assert_true(gpa >= AT && gpa - AT < LEN);
		assert_int_equal(gm_pager_resolve(pager, hva + (gpa - AT)), 0);
		(*ret_left)++;
	}
}

static uint64_t expected(uint64_t first, uint64_t nr)
{
	uint64_t all = 0;

	for (uint64_t page = first; page < first + nr; page++)
		all += word_at(page * PAGE);
	return all;
}

static void a_guest_is_filled_while_it_runs(void **state)
{
	unsigned int left;

	(void)state;
	for (int shared = 0; shared < 2; shared++) {
		start_all(shared, 0);
		start_stepping();
		assert_true(sum(0, 200, &left) == expected(0, 200));
		assert_int_equal(left, 0);
		assert_int_equal(gm_pager_prefetch(pager, area, 300 * PAGE, 200 * PAGE), 0);
		assert_true(sum(200, 400, &left) == expected(200, 400));
		/* The guest's balloon. */
		assert_ok(gm_discard(
			space, AT + 100 * PAGE, 50 * PAGE, GM_DISCARD_NOW, 0, NULL, &err));
		assert_ok(gm_discard(
			space, AT + 700 * PAGE, 50 * PAGE, GM_DISCARD_NOW, 0, NULL, &err));
		assert_true(sum(0, 200, &left) == expected(0, 100) + expected(150, 50));
		assert_true(sum(600, 200, &left) == expected(600, 100) + expected(750, 50));
		guest_store_u64(AT + 900 * PAGE, 77);
		assert_int_equal(guest_load_u64(AT + 900 * PAGE), 77);
		stop_stepping();
		assert_true(stats().loaded > 0);
		assert_int_equal(stats().poisoned, 0);
		stop_all();
	}
}

/* As after the first rounds of a migration: some of it is there, some is pushed, the rest is asked for. */
static void a_guest_goes_on_where_its_memory_is_there_in_part(void **state)
{
	static uint64_t present[PAGES / 64];
	uint8_t *data = map_anon(LEN);
	uint64_t installed;
	unsigned int left;
	uint64_t id = 0;

	(void)state;
	fill_words(data, 0, LEN);
	/* Pages 64 to 127 of each 128. */
	for (unsigned int i = 0; i < PAGES / 64; i++)
		present[i] = i % 2 ? ~UINT64_C(0) : 0;
	for (int shared = 0; shared < 2; shared++) {
		start_guest(KVM_OPTS(0), 1);
		assert_ok(gm_space_add(space,
			DESC(.gpa = AT,
				.backing = BLOCK(.len = LEN, .flags = shared ? GM_BLOCK_SHARE : 0)),
			&id, &err));
		hva = region(id).hva;
		/* It has seen the rest too, and that has changed since. */
		memset(hva, 0x5a, LEN);
		assert_true(sum(0, PAGES, &left) == PAGES * UINT64_C(0x5a5a5a5a5a5a5a5a));
		for (uint64_t page = 0; page < PAGES; page++) {
			if (present[page / 64])
				fill_words(hva + page * PAGE, page * PAGE, PAGE);
		}
		start_pager(LEN);
		assert_ok(gm_pager_add_space(pager, space, AT, LEN,
			AREA(.source = source, .flags = GM_PAGER_PRESENT, .present = present),
			&area, &err));
		start_stepping();
		assert_int_equal(gm_pager_push(pager, area, 0, data, LEN / 2, NULL, &installed), 0);
		assert_int_equal(installed, LEN / 4);
		assert_true(sum(0, PAGES, &left) == expected(0, PAGES));
		assert_int_equal(of_source.bytes, LEN / 4);
		stop_all();
	}
	munmap(data, LEN);
}

/* Shared memory is continued, private copied into, by the vCPU's own thread. */
static void a_vcpu_resolves_its_own_faults(void **state)
{
	unsigned int left;

	(void)state;
	for (int shared = 0; shared < 2; shared++) {
		start_all(shared, GM_PAGER_SIGBUS);
		assert_true(sum(0, 300, &left) == expected(0, 300));
		assert_true(left >= 300);
		assert_true(sum(0, 300, &left) == expected(0, 300));
		assert_int_equal(stats().loaded, 300);
		stop_all();
	}
}

/* The guest's writes; the pages that it wrote to, 8 bytes at 16 of each. */
static void stamp(uint64_t count)
{
	struct guest_params *params = guest_start(&guest, 0, GUEST_STAMP);

	params->base = AT;
	params->mask = PAGES - 1;
	params->count = count;
	params->offset = 16;
	params->value = 1000;
	params->seed = 99;
	assert_int_equal(run_through(), 0);
}

static void check_clone(int fd, const uint8_t *image, uint32_t way)
{
	unsigned int written = 0;
	unsigned int left;
	uint64_t id;

	start_guest(KVM_OPTS(0), 1);
	assert_ok(gm_space_add(space,
		DESC(.gpa = AT, .backing = BLOCK(.len = LEN, .backing = GM_BACKING_FD, .fd = fd,
					.flags = GM_BLOCK_PRIVATE)),
		&id, &err));
	hva = region(id).hva;
	start_pager(LEN);
	assert_ok(gm_pager_add_space(pager, space, AT, LEN, AREA(.way = way), &area, &err));
	assert_int_equal(area_info(area).way, way ? way : GM_PAGER_MAP);
	start_stepping();
	assert_true(sum(0, 300, &left) == expected(0, 300));
	stamp(400);
	/* It has what it wrote, and nothing else; the image has none of it. */
	assert_true(sum(0, PAGES, &left) == expected(0, PAGES));
	for (uint64_t page = 0; page < PAGES; page++) {
		uint64_t word = *(const uint64_t *)(hva + page * PAGE + 16);

		if (word == word_at(page * PAGE + 16))
			continue;
		assert_true(word >= 1000 && word < 1400);
		written++;
	}
	assert_true(written > 200);
	assert_true(has_words(image, 0, LEN));
	stop_all();
}

/* Two guests one after the other, and one more mapping beside them. */
static void a_guest_is_a_clone(void **state)
{
	const uint8_t *image;
	int fd = -1;

	(void)state;
	start_pager(LEN);
	assert_ok(gm_clone_image(source, NULL, &fd, &err));
	stop_pager();
	image = mmap(NULL, LEN, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_true(image != MAP_FAILED);
	check_clone(fd, image, GM_PAGER_AUTO);
	check_clone(fd, image, GM_PAGER_CONTINUE);
	munmap((void *)(uintptr_t)image, LEN);
	close(fd);
}

/* ---- a device beside it, in a mapping of its own ---- */

static struct device {
	pthread_t thread;
	uint8_t *at;
	uint64_t nr;
	uint64_t wrong;
} device;

/* Reads eight bytes into each page, behind what the guest adds up. From the last page to the first. */
static void *read_into_all(void *arg)
{
	struct device *d = arg;
	int fds[2];

	if (pipe(fds)) {
		d->wrong++;
		return NULL;
	}
	for (uint64_t page = d->nr; page-- > 0;) {
		uint64_t word = ~word_at(page * PAGE);
		struct iovec to = {d->at + page * PAGE + 8, sizeof(word)};

		if (write(fds[1], &word, sizeof(word)) != sizeof(word) ||
			readv(fds[0], &to, 1) != sizeof(word))
			d->wrong++;
	}
	close(fds[0]);
	close(fds[1]);
	return NULL;
}

/* One file, two mappings: in KVM's the vCPU's thread resolves, in the device's system calls wait. */
static void a_device_waits_while_vcpus_resolve(void **state)
{
	const uint64_t nr = 400;
	struct gm_block_info info = {.size = sizeof(info)};
	unsigned int left;

	(void)state;
	start_all(true, GM_PAGER_SIGBUS);
	assert_ok(gm_block_info(block, &info));
	device = (struct device){.nr = nr};
	device.at =
		mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, info.fd, (off_t)info.offset);
	assert_true(device.at != MAP_FAILED);
	assert_ok(gm_pager_add_twin(pager, area, device.at, 0, NULL, &err));
	of_source.slow_ns = 20000;
	start_stepping();
	assert_int_equal(pthread_create(&device.thread, NULL, read_into_all, &device), 0);
	assert_true(sum(0, nr, &left) == expected(0, nr));
	assert_true(left > 0);
	pthread_join(device.thread, NULL);
	assert_int_equal(device.wrong, 0);
	assert_true(sum(0, nr, &left) == expected(0, nr));
	stop_stepping();
	assert_int_equal(of_source.bytes, nr * PAGE);
	for (uint64_t page = 0; page < nr; page++) {
		const uint64_t *words = (const uint64_t *)(device.at + page * PAGE);

		assert_true(words[0] == word_at(page * PAGE));
		assert_true(words[1] == ~word_at(page * PAGE));
		assert_true(words[2] == word_at(page * PAGE + 16));
	}
	stop_all();
	munmap(device.at, LEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_is_filled_while_it_runs),
		cmocka_unit_test(a_guest_goes_on_where_its_memory_is_there_in_part),
		cmocka_unit_test(a_vcpu_resolves_its_own_faults),
		cmocka_unit_test(a_guest_is_a_clone),
		cmocka_unit_test(a_device_waits_while_vcpus_resolve),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
