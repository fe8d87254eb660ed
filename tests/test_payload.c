/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_payload.c - the payloads of "guestmem run" in this process: they find their memory right, and find it
 * wrong where it is. Wrong is memory in which each page shows in two places.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../payload/payload.h"
#include "random.h"
#include "support.h"

#define LEN (MIB(1))

/* Memory of @len bytes; @twice: the second half shows the first. */
static void *map_memory(size_t len, bool twice)
{
	int fd = memfd_create("payload", MFD_CLOEXEC);
	uint8_t *mem = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t part = twice ? len / 2 : len;

	assert_true(fd >= 0 && mem != MAP_FAILED);
	assert_int_equal(ftruncate(fd, (off_t)part), 0);
	for (size_t at = 0; at < len; at += part)
		assert_ptr_equal(
			mmap(mem + at, part, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0),
			mem + at);
	close(fd);
	return mem;
}

static struct run_params params_of(uint32_t payload, void *mem, size_t len)
{
	struct run_params p = {
		.magic = RUN_MAGIC,
		.version = RUN_VERSION,
		.size = sizeof(p),
		.nr_vcpus = 1,
		.payload = payload,
		.mem = (uintptr_t)mem,
		.mem_len = len,
		.all = (uintptr_t)mem,
		.all_len = len,
		.seed = test_seed(1),
		.arg = {[RUN_ARG_STRIDE] = 4096,
			[RUN_ARG_WRITE] = 1,
			[RUN_ARG_ROUNDS] = 2,
			[RUN_ARG_VERIFY] = 1,
			[RUN_ARG_COUNT] = 1000},
	};

	if (payload == RUN_STORE) {
		p.arg[RUN_ARG_WRITE] = 50;
		p.arg[RUN_ARG_SKEW] = 99;
	}
	return p;
}

static const uint32_t verifying[] = {RUN_TOUCH, RUN_CHASE, RUN_STREAM, RUN_STORE, RUN_STAMP};

static void good_memory_is_found_right(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(verifying) / sizeof(verifying[0]); i++) {
		void *mem = map_memory(LEN, false);
		struct run_params p = params_of(verifying[i], mem, LEN);

		assert_int_equal(payload_run(&p), RUN_WELL);
		assert_int_equal(p.state, RUN_DONE);
		assert_int_equal(p.errors, 0);
		assert_true(p.ops > 0 && p.ticks > 0);
		assert_int_not_equal(p.expected, 0);
		assert_int_equal(p.checksum, p.expected);
		munmap(mem, LEN);
	}
}

static void bad_memory_is_found_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(verifying) / sizeof(verifying[0]); i++) {
		void *mem = map_memory(LEN, true);
		struct run_params p = params_of(verifying[i], mem, LEN);

		/* Its entries would find each other. */
		if (verifying[i] == RUN_STORE)
			p.arg[RUN_ARG_KEYS] = 8000;
		/* Then the circle through half of the memory is left at once. */
		if (verifying[i] == RUN_CHASE)
			p.arg[RUN_ARG_COUNT] = 100;
		assert_int_equal(payload_run(&p), RUN_WRONG);
		assert_true(p.errors > 0);
		assert_int_not_equal(p.error_found, p.error_wanted);
		munmap(mem, LEN);
	}
}

static void what_cannot_be_is_refused(void **state)
{
	void *mem = map_memory(LEN, false);
	struct run_params p;

	(void)state;
	for (uint32_t payload = RUN_TOUCH; payload < RUN_NR_PAYLOADS; payload++) {
		p = params_of(payload, mem, 0);
		assert_int_equal(payload_run(&p), RUN_IMPOSSIBLE);
	}
	p = params_of(RUN_NR_PAYLOADS, mem, LEN);
	assert_int_equal(payload_run(&p), RUN_IMPOSSIBLE);
	p = params_of(RUN_PROGRAM, mem, LEN);
	assert_int_equal(payload_run(&p), RUN_IMPOSSIBLE);
	p = params_of(RUN_TOUCH, mem, LEN);
	p.magic++;
	assert_int_equal(payload_run(&p), RUN_IMPOSSIBLE);
	p = params_of(RUN_TOUCH, mem, LEN);
	p.arg[RUN_ARG_STRIDE] = 0;
	assert_int_equal(payload_run(&p), RUN_IMPOSSIBLE);
	munmap(mem, LEN);
}

static void what_is_told_to_stop_stops(void **state)
{
	void *mem = map_memory(LEN, false);

	(void)state;
	for (size_t i = 0; i < sizeof(verifying) / sizeof(verifying[0]); i++) {
		struct run_params p = params_of(verifying[i], mem, LEN);

		p.stop = 1;
		p.arg[RUN_ARG_ROUNDS] = UINT64_MAX;
		p.arg[RUN_ARG_COUNT] = UINT64_MAX;
		if (verifying[i] == RUN_STAMP)
			p.arg[RUN_ARG_ROUNDS] = 0;
		assert_int_equal(payload_run(&p), RUN_WELL);
		assert_int_equal(p.ops, 0);
	}
	munmap(mem, LEN);
}

static void an_order_has_everything_once(void **state)
{
	struct rng rng = {test_seed(2)};

	(void)state;
	for (unsigned long n = 0; n < support_scale(200); n++) {
		uint64_t nr = n < 70 ? n + 1 : 1 + rng_below(&rng, 3000);
		uint8_t *seen = test_calloc(nr, 1);
		struct payload_order order;

		payload_order_init(&order, nr, rng_next(&rng));
		for (uint64_t i = 0; i < nr; i++) {
			uint64_t thing = payload_order_at(&order, i);

			assert_true(thing < nr);
			assert_int_equal(seen[thing]++, 0);
			assert_int_equal(payload_order_place(&order, thing), i);
		}
		test_free(seen);
	}
}

static void an_order_looks_random(void **state)
{
	struct payload_order order;
	uint64_t near = 0;
	const uint64_t nr = 100000;

	(void)state;
	payload_order_init(&order, nr, test_seed(3));
	for (uint64_t i = 1; i < nr; i++) {
		uint64_t a = payload_order_at(&order, i - 1);
		uint64_t b = payload_order_at(&order, i);

		near += (a > b ? a - b : b - a) < nr / 100;
	}
	/* Two in a hundred by chance. */
	assert_in_range(near, nr / 200, nr / 20);
}

/* The share of the key that is written most, in thousandths. */
static uint64_t most_written(void *mem, uint64_t skew)
{
	struct run_params p = params_of(RUN_STORE, mem, LEN);
	const uint64_t *slots = mem;
	uint64_t most = 0;

	p.arg[RUN_ARG_KEYS] = 1000;
	p.arg[RUN_ARG_COUNT] = 100000;
	p.arg[RUN_ARG_WRITE] = 100;
	p.arg[RUN_ARG_SKEW] = skew;
	assert_int_equal(payload_run(&p), RUN_WELL);
	for (size_t at = 0; at < LEN / 8; at += 8)
		most = slots[at] && slots[at + 1] > most ? slots[at + 1] : most;
	return most / 100;
}

static void keys_are_as_skewed_as_asked(void **state)
{
	void *mem = map_memory(LEN, false);

	(void)state;
	/* The first of n has log 2 / log n of all with exponent 1, half with exponent 2. */
	assert_in_range(most_written(mem, 0), 0, 3);
	assert_in_range(most_written(mem, 99), 80, 130);
	assert_in_range(most_written(mem, 100), 80, 130);
	assert_in_range(most_written(mem, 200), 450, 550);
	munmap(mem, LEN);
}

/* What the manual says for those who follow it from outside. */
static void stamps_lie_where_the_manual_says(void **state)
{
	void *mem = map_memory(LEN, false);
	struct run_params p = params_of(RUN_STAMP, mem, LEN);
	uint64_t expected[LEN / 4096] = {0};

	(void)state;
	p.arg[RUN_ARG_ORDER] = 1;
	p.arg[RUN_ARG_ROUNDS] = 5;
	p.arg[RUN_ARG_COUNT] = 20;
	assert_int_equal(payload_run(&p), RUN_WELL);
	for (uint64_t round = 1; round <= 5; round++) {
		for (uint64_t i = 0; i < 20; i++)
			expected[payload_mix(p.seed ^ round << 32 ^ i) % (LEN / 4096)] = round;
	}
	for (size_t page = 0; page < LEN / 4096; page++)
		assert_int_equal(
			*(const uint64_t *)((const uint8_t *)mem + page * 4096), expected[page]);
	assert_int_equal(p.progress, 5);
	munmap(mem, LEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_memory_is_found_right),
		cmocka_unit_test(bad_memory_is_found_wrong),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(what_is_told_to_stop_stops),
		cmocka_unit_test(an_order_has_everything_once),
		cmocka_unit_test(an_order_looks_random),
		cmocka_unit_test(keys_are_as_skewed_as_asked),
		cmocka_unit_test(stamps_lie_where_the_manual_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
