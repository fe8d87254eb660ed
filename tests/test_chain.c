/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_chain.c - cursors over lists of ranges: what is refused, what is consumed, and random work
 * on every sort of memory against plain arrays of bytes.
 */
#include <endian.h>
#include <errno.h>
#include <guestmem/chain.h>

#include "chain_model.h"
#include "provider.h"
#include "stream_memory.h"

#define R GM_CHAIN_READABLE
#define W GM_CHAIN_WRITABLE

static const struct gm_view *view;

static void begin(void)
{
	start_memory();
	view = gm_reader_enter(reader);
}

static void end(void)
{
	gm_reader_leave(reader);
	stop();
}

/* ---- lists that are refused ---- */

static void test_a_list_is_checked_once_and_whole(void **state)
{
	struct gm_chain_elem wraps[] = {{0, 5, 0, 0}, {UINT64_MAX - 3, 5, 0, 0}};
	struct gm_chain_elem order[] = {{0, 5, GM_CHAIN_WRITE, 0}, {0, 5, 0, 0}};
	struct gm_chain_elem odd[] = {{0, 5, 4, 0}};
	struct gm_chain_elem more[] = {{0, 5, 0, 1}};
	struct gm_chain_elem huge[] = {{0, INT64_MAX, 0, 0}, {0, 1, GM_CHAIN_WRITE, 0}};
	struct gm_chain_opts opts = {.size = sizeof(opts), .max_nr = 1};
	struct gm_chain chain = {.nr = 99};

	(void)state;
	assert_fails(gm_chain_init(&chain, wraps, 2, NULL, &err), ERANGE, "element 1");
	assert_fails(gm_chain_init(&chain, order, 2, NULL, &err), EPROTO, "element 1");
	assert_fails(gm_chain_init(&chain, odd, 1, NULL, &err), EINVAL, "flags 0x4");
	assert_int_equal(gm_chain_init(&chain, more, 1, NULL, NULL), -EINVAL);
	assert_fails(gm_chain_init(&chain, huge, 2, NULL, &err), EOVERFLOW, "element 1");
	assert_fails(gm_chain_init(&chain, wraps, 2, &opts, &err), E2BIG, "2 elements");
	opts = (struct gm_chain_opts){.size = sizeof(opts), .max_len = 9};
	assert_fails(gm_chain_init(&chain, order, 2, &opts, &err), EPROTO, "readable");
	opts.flags = GM_CHAIN_MIXED;
	assert_fails(gm_chain_init(&chain, order, 2, &opts, &err), EOVERFLOW, "9 bytes");
	opts.max_len = UINT64_MAX;
	assert_fails(gm_chain_init(&chain, huge, 2, &opts, &err), EOVERFLOW, "element 1");
	opts.flags = 2;
	assert_fails(gm_chain_init(&chain, order, 2, &opts, &err), EINVAL, "flags 0x2");
	opts = (struct gm_chain_opts){.size = 4};
	assert_int_equal(gm_chain_init(&chain, order, 2, &opts, NULL), -EINVAL);
	assert_int_equal(gm_chain_init(&chain, huge, 32769, NULL, NULL), -E2BIG);
	assert_int_equal(chain.nr, 99);
	/* At the limits. */
	opts = (struct gm_chain_opts){
		.size = sizeof(opts), .max_len = 10, .max_nr = 2, .flags = GM_CHAIN_MIXED};
	assert_ok(gm_chain_init(&chain, order, 2, &opts, &err));
	assert_int_equal(gm_chain_total(&chain, R), 5);
	assert_int_equal(gm_chain_total(&chain, W), 5);
	wraps[1].len = 4;
	assert_ok(gm_chain_init(&chain, wraps, 2, NULL, &err));
	assert_ok(gm_chain_init(&chain, huge, 1, NULL, &err));
	assert_ok(gm_chain_init(&chain, NULL, 0, NULL, &err));
	assert_int_equal(gm_chain_left(&chain, R) + gm_chain_left(&chain, W), 0);
}

/* ---- what is consumed ---- */

static void test_bytes_come_in_the_order_of_the_list(void **state)
{
	struct gm_chain_elem elems[] = {{PAGE - 2, 4, 0, 0}, {7 * PAGE, 0, 0, 0}, {100, 3, 0, 0},
		{200, 2, GM_CHAIN_WRITE, 0}, {UINT64_MAX, 0, GM_CHAIN_WRITE, 0},
		{UINT64_MAX, 1, GM_CHAIN_WRITE, 0}, {300, 9, GM_CHAIN_WRITE, 0}};
	struct gm_chain chain;
	struct gm_chain rest;
	uint8_t buf[16] = {0};
	uint64_t gpa = 1;
	size_t done = 9;

	(void)state;
	begin();
	set(PAGE - 2, "abcd", 4);
	set(100, "efg", 3);
	assert_ok(gm_chain_init(&chain, elems, 7, NULL, &err));
	assert_int_equal(gm_chain_total(&chain, R), 7);
	assert_int_equal(gm_chain_total(&chain, W), 12);
	assert_int_equal(gm_chain_check(&chain, R, view), 0);
	assert_int_equal(gm_chain_check(&chain, W, view), 0);
	assert_int_equal(gm_chain_peek(&chain, view, buf, 6, &done), 0);
	assert_memory_equal(buf, "abcdef", 6);
	assert_int_equal(gm_chain_done(&chain, R), 0);
	assert_int_equal(gm_chain_read(&chain, view, buf, 3, &done), 0);
	assert_int_equal(done, 3);
	assert_int_equal(gm_chain_range(&chain, R, &gpa), 1);
	assert_int_equal(gpa, PAGE + 1);
	assert_int_equal(gm_chain_skip(&chain, R, 2), 0);
	assert_int_equal(gm_chain_done(&chain, R), 5);
	assert_int_equal(gm_chain_left(&chain, R), 2);
	/* More than is left touches nothing. */
	assert_int_equal(gm_chain_read(&chain, view, buf, 3, &done), -ENODATA);
	assert_int_equal(done, 0);
	assert_int_equal(gm_chain_peek(&chain, view, buf, 3, NULL), -ENODATA);
	assert_int_equal(gm_chain_skip(&chain, R, 3), -ENODATA);
	assert_int_equal(gm_chain_read(&chain, view, buf, 2, NULL), 0);
	assert_memory_equal(buf, "fg", 2);
	gpa = 1;
	assert_int_equal(gm_chain_range(&chain, R, &gpa), 0);
	assert_int_equal(gpa, 1);

	assert_int_equal(gm_chain_split(&chain, W, 13, &rest), -ENOSPC);
	assert_int_equal(gm_chain_split(&chain, W, 11, &rest), 0);
	assert_int_equal(gm_chain_left(&chain, W), 11);
	assert_int_equal(gm_chain_left(&rest, W), 1);
	assert_int_equal(gm_chain_total(&rest, W), 1);
	assert_int_equal(gm_chain_total(&rest, R), 0);
	assert_int_equal(gm_chain_write(&chain, view, "0123456789ab", 12, &done), -ENOSPC);
	assert_int_equal(done, 0);
	assert_int_equal(gm_chain_write(&chain, view, "0123", 4, &done), 0);
	assert_int_equal(gm_chain_fill(&chain, view, 'x', 6, NULL), 0);
	gm_chain_limit(&chain, W, 5);
	assert_int_equal(gm_chain_left(&chain, W), 1);
	gm_chain_limit(&chain, W, 0);
	assert_int_equal(gm_chain_fill(&chain, view, 'y', 1, NULL), -ENOSPC);
	assert_int_equal(gm_chain_write_u8(&rest, view, 'z'), 0);
	assert_memory(200, "01", 2);
	assert_memory(UINT64_MAX, "2", 1);
	assert_memory(300, "3xxxxxx\0z", 9);
	end();
}

static void test_errors_come_with_the_progress(void **state)
{
	struct gm_chain_elem elems[] = {
		{PAGE, PAGE + 5, 0, 0}, {10, 20, GM_CHAIN_WRITE, 0}, {ROM, 1, GM_CHAIN_WRITE, 0}};
	struct gm_chain chain;
	struct gm_reader *second;
	struct gm_chain other;
	uint8_t buf[2 * PAGE];
	size_t done;

	(void)state;
	begin();
	assert_ok(gm_chain_init(&chain, elems, 3, NULL, &err));
	assert_int_equal(gm_chain_check(&chain, R, view), -EFAULT);
	assert_int_equal(gm_chain_check(&chain, W, view), -EACCES);
	assert_int_equal(gm_chain_read(&chain, view, buf, PAGE + 5, &done), -EFAULT);
	assert_int_equal(done, PAGE);
	assert_int_equal(gm_chain_left(&chain, R), 5);
	assert_int_equal(gm_chain_read(&chain, view, buf, 5, &done), -EFAULT);
	assert_int_equal(done, 0);
	assert_int_equal(gm_chain_write(&chain, view, buf, 21, &done), -EACCES);
	assert_int_equal(done, 20);
	assert_int_equal(gm_chain_done(&chain, W), 20);
	assert_int_equal(gm_chain_fill(&chain, view, 1, 1, &done), -EACCES);
	/* A copy stops where either side does. */
	assert_ok(gm_chain_init(&chain, elems, 3, NULL, &err));
	assert_ok(gm_chain_init(&other, elems, 3, NULL, &err));
	assert_int_equal(gm_chain_copy(&chain, view, &other, view, 22, &done), -ENOSPC);
	assert_int_equal(gm_chain_copy(&chain, view, &other, view, 21, &done), -EACCES);
	assert_int_equal(done, 20);
	assert_int_equal(gm_chain_done(&other, R), 20);
	assert_int_equal(gm_chain_done(&chain, W), 20);
	/* Between two views: a second reader may have another. */
	assert_ok(gm_reader_create(space, "second", &second, &err));
	add(10 * PAGE, PAGE);
	assert_ok(gm_chain_init(&chain, elems, 3, NULL, &err));
	assert_ok(gm_chain_init(&other, elems, 3, NULL, &err));
	assert_int_equal(
		gm_chain_copy(&chain, gm_reader_enter(second), &other, view, 21, &done), -EACCES);
	gm_reader_leave(second);
	gm_reader_destroy(second);
	assert_int_equal(done, 20);
	assert_int_equal(gm_chain_done(&other, R), 20);
	gm_chain_limit(&other, R, 0);
	assert_int_equal(gm_chain_copy(&chain, view, &other, view, 1, &done), -ENODATA);
	assert_int_equal(gm_chain_copy(&chain, view, &other, view, 0, &done), 0);
	end();
}

static void test_objects_may_lie_across_elements(void **state)
{
	struct gm_chain_elem elems[] = {{PAGE - 15, 8, 0, 0}, {PAGE - 5, 21, 0, 0},
		{PAGE - 15, 8, GM_CHAIN_WRITE, 0}, {PAGE - 5, 21, GM_CHAIN_WRITE, 0}};
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t more[2];
	} out = {1, 2, {3, 4}}, in = {0};
	struct gm_chain chain;

	(void)state;
	begin();
	assert_ok(gm_chain_init(&chain, elems, 4, NULL, &err));
	assert_int_equal(gm_chain_write_object(&chain, view, &out), 0);
	assert_int_equal(gm_chain_left(&chain, W), 13);
	assert_memory(PAGE - 15, "\1\0\0\0\0\0\0\0", 8);
	assert_memory(PAGE - 5, "\2\0\0\0\3\0\4\0", 8);
	assert_int_equal(gm_chain_peek_object(&chain, view, &in), 0);
	assert_memory_equal(&in, &out, sizeof(in));
	assert_int_equal(gm_chain_left(&chain, R), 29);
	in.addr = 0;
	assert_int_equal(gm_chain_read_object(&chain, view, &in), 0);
	assert_memory_equal(&in, &out, sizeof(in));
	assert_int_equal(gm_chain_left(&chain, R), 13);
	assert_int_equal(gm_chain_read_object(&chain, view, &in), -ENODATA);
	assert_int_equal(gm_chain_write_object(&chain, view, &out), -ENOSPC);
	end();
}

static void test_numbers_have_their_byte_order_and_come_whole(void **state)
{
	struct gm_chain_elem elems[] = {{PAGE - 15, 8, 0, 0}, {PAGE - 5, 21, 0, 0},
		{2 * PAGE - 2, 3, 0, 0}, {PAGE - 15, 8, GM_CHAIN_WRITE, 0},
		{PAGE - 5, 21, GM_CHAIN_WRITE, 0}, {2 * PAGE - 2, 3, GM_CHAIN_WRITE, 0}};
	struct gm_chain chain;
	uint16_t u16 = 7;
	uint32_t u32;
	uint64_t u64;
	uint8_t u8;

	(void)state;
	begin();
	assert_ok(gm_chain_init(&chain, elems, 6, NULL, &err));
	assert_int_equal(gm_chain_write_u8(&chain, view, 0x11), 0);
	assert_int_equal(gm_chain_write_le16(&chain, view, 0x2233), 0);
	assert_int_equal(gm_chain_write_le32(&chain, view, 0x44556677), 0);
	assert_int_equal(gm_chain_write_le64(&chain, view, 0x8899aabbccddeeff), 0);
	assert_int_equal(gm_chain_write_be16(&chain, view, 0x2233), 0);
	assert_int_equal(gm_chain_write_be32(&chain, view, 0x44556677), 0);
	assert_int_equal(gm_chain_write_be64(&chain, view, 0x8899aabbccddeeff), 0);
	assert_memory(PAGE - 15, "\x11\x33\x22\x77\x66\x55\x44\xff", 8);
	assert_memory(PAGE - 5,
		"\xee\xdd\xcc\xbb\xaa\x99\x88\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee"
		"\xff",
		21);
	assert_int_equal(gm_chain_read_u8(&chain, view, &u8), 0);
	assert_int_equal(u8, 0x11);
	assert_int_equal(gm_chain_read_le16(&chain, view, &u16), 0);
	assert_int_equal(u16, 0x2233);
	assert_int_equal(gm_chain_read_le32(&chain, view, &u32), 0);
	assert_int_equal(u32, 0x44556677);
	assert_int_equal(gm_chain_read_le64(&chain, view, &u64), 0);
	assert_true(u64 == 0x8899aabbccddeeff);
	assert_int_equal(gm_chain_read_be16(&chain, view, &u16), 0);
	assert_int_equal(u16, 0x2233);
	assert_int_equal(gm_chain_read_be32(&chain, view, &u32), 0);
	assert_int_equal(u32, 0x44556677);
	assert_int_equal(gm_chain_read_be64(&chain, view, &u64), 0);
	assert_true(u64 == 0x8899aabbccddeeff);
	/* The last byte is in a hole: neither is consumed in part. */
	assert_int_equal(gm_chain_left(&chain, R), 3);
	assert_int_equal(gm_chain_skip(&chain, R, 1) + gm_chain_skip(&chain, W, 1), 0);
	assert_int_equal(gm_chain_read_le16(&chain, view, &u16), -EFAULT);
	assert_int_equal(u16, 0x2233);
	assert_int_equal(gm_chain_read_le32(&chain, view, &u32), -ENODATA);
	assert_int_equal(gm_chain_write_be16(&chain, view, 1), -EFAULT);
	assert_int_equal(gm_chain_left(&chain, R), 2);
	assert_int_equal(gm_chain_left(&chain, W), 2);
	end();
}

static void test_slices_can_be_had_of_a_chain(void **state)
{
	struct gm_chain_elem elems[] = {{5, 3, 0, 0}, {PAGE - 4, 10, 0, 0}, {2 * PAGE, 1, 0, 0}};
	struct gm_chain chain;
	struct iovec slices[8];
	struct gm_pin pins[8];
	size_t nr = 99;

	(void)state;
	begin();
	set(PAGE - 4, "0123456789", 10);
	assert_ok(gm_chain_init(&chain, elems, 3, NULL, &err));
	assert_int_equal(gm_chain_pin(&chain, W, view, 100, slices, pins, 8, &nr), 0);
	assert_int_equal(nr, 0);
	assert_int_equal(gm_chain_skip(&chain, R, 1), 0);
	/* Up to the hole, and no further than asked. */
	assert_int_equal(gm_chain_pin(&chain, R, view, UINT64_MAX, slices, pins, 8, &nr), 0);
	assert_int_equal(nr, 3);
	assert_int_equal(slices[0].iov_len, 2);
	assert_memory_equal(slices[1].iov_base, "0123", 4);
	assert_memory_equal(slices[2].iov_base, "456789", 6);
	assert_int_equal(gm_chain_left(&chain, R), 13);
	while (nr)
		gm_pin_put(&pins[--nr]);
	assert_int_equal(gm_chain_pin(&chain, R, view, 7, slices, pins, 8, &nr), 0);
	assert_int_equal(nr, 3);
	assert_int_equal(slices[2].iov_len, 1);
	while (nr)
		gm_pin_put(&pins[--nr]);
	assert_int_equal(gm_chain_pin(&chain, R, view, 7, slices, pins, 1, &nr), 0);
	assert_int_equal(nr, 1);
	gm_pin_put(&pins[0]);
	assert_int_equal(gm_chain_skip(&chain, R, 12), 0);
	assert_int_equal(gm_chain_pin(&chain, R, view, 7, slices, pins, 8, &nr), -EFAULT);
	assert_int_equal(nr, 1);
	end();
}

/* ---- random work on every sort of memory ---- */

#define NR_ELEMS 12u

/* The writable ranges do not touch each other or the readable ones, which may overlap. */
static size_t random_list(struct gm_chain_elem *elems, uint64_t base, struct rng *rng)
{
	size_t nr = rng_below(rng, NR_ELEMS + 1);
	size_t nr_read = rng_below(rng, nr + 1);
	uint64_t at = PROVIDED / 2;

	for (size_t i = 0; i < nr; i++) {
		bool write = i >= nr_read;
		uint64_t len = rng_below(rng, 4) ? rng_below(rng, 40) : rng_below(rng, 2700);
		uint64_t off = write ? at : rng_below(rng, PROVIDED / 2 - len);

		if (write)
			at += len + rng_below(rng, 9);
		elems[i] = (struct gm_chain_elem){base + off, len, write ? GM_CHAIN_WRITE : 0, 0};
	}
	return nr;
}

static void test_random_work_is_that_of_plain_arrays(void **state)
{
	uint8_t *memory = malloc(PROVIDED);
	uint8_t *want = malloc(PROVIDED);
	uint64_t seed = test_seed(50);
	unsigned long rounds = support_scale(25);

	(void)state;
	for (size_t i = 0; i < NR_PROVIDERS; i++) {
		struct rng rng = {seed + i};
		struct provided p;

		provide(i, &p);
		for (size_t at = 0; at < PROVIDED; at++)
			memory[at] = (uint8_t)rng_next(&rng);
		p.set(&p, memory);
		memcpy(want, memory, PROVIDED);
		for (unsigned long round = 0; round < rounds; round++) {
			struct gm_chain_elem elems[NR_ELEMS];
			size_t nr = random_list(elems, p.base, &rng);
			struct chain_model m;
			const char *wrong;

			assert_ok(gm_chain_init(&m.chain, elems, nr, NULL, &err));
			chain_model_start(&m, elems, nr, want, p.base);
			wrong = chain_model_run(&m, gm_reader_enter(p.reader), 30, &rng);
			gm_reader_leave(p.reader);
			if (wrong)
				fail_msg("%s, round %lu, seed %llu: %s", p.name, round,
					(unsigned long long)seed, wrong);
		}
		p.get(&p, memory);
		if (memcmp(memory, want, PROVIDED) != 0)
			fail_msg("%s, seed %llu: memory is something else", p.name,
				(unsigned long long)seed);
		unprovide(&p);
	}
	free(want);
	free(memory);
}

static void test_chains_of_two_spaces_are_copied(void **state)
{
	uint8_t *bytes = noise(PROVIDED, 51);
	uint8_t *back = malloc(PROVIDED);
	struct gm_chain_elem from[] = {{0, 100, 0, 0}, {5000, 9000, 0, 0}, {300, 77, 0, 0}};
	struct gm_chain_elem to[] = {
		{9, 5000, GM_CHAIN_WRITE, 0}, {20000, 4177, GM_CHAIN_WRITE, 0}};

	(void)state;
	for (size_t i = 0; i < NR_PROVIDERS * NR_PROVIDERS; i++) {
		struct gm_chain source;
		struct gm_chain sink;
		struct gm_chain_elem a[3];
		struct gm_chain_elem b[2];
		struct provided p;
		struct provided q;
		size_t done;

		provide(i / NR_PROVIDERS, &p);
		provide(i % NR_PROVIDERS, &q);
		p.set(&p, bytes);
		for (size_t j = 0; j < 3; j++)
			a[j] = (struct gm_chain_elem){from[j].gpa + p.base, from[j].len, 0, 0};
		for (size_t j = 0; j < 2; j++)
			b[j] = (struct gm_chain_elem){
				to[j].gpa + q.base, to[j].len, GM_CHAIN_WRITE, 0};
		assert_ok(gm_chain_init(&source, a, 3, NULL, &err));
		assert_ok(gm_chain_init(&sink, b, 2, NULL, &err));
		assert_int_equal(gm_chain_copy(&sink, gm_reader_enter(q.reader), &source,
					 gm_reader_enter(p.reader), 9177, &done),
			0);
		gm_reader_leave(p.reader);
		gm_reader_leave(q.reader);
		assert_int_equal(done, 9177);
		q.get(&q, back);
		assert_memory_equal(back + 9, bytes, 100);
		assert_memory_equal(back + 109, bytes + 5000, 4900);
		assert_memory_equal(back + 20000, bytes + 9900, 4100);
		assert_memory_equal(back + 24100, bytes + 300, 77);
		unprovide(&q);
		unprovide(&p);
	}
	free(back);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_list_is_checked_once_and_whole),
		cmocka_unit_test(test_bytes_come_in_the_order_of_the_list),
		cmocka_unit_test(test_errors_come_with_the_progress),
		cmocka_unit_test(test_objects_may_lie_across_elements),
		cmocka_unit_test(test_numbers_have_their_byte_order_and_come_whole),
		cmocka_unit_test(test_slices_can_be_had_of_a_chain),
		cmocka_unit_test(test_random_work_is_that_of_plain_arrays),
		cmocka_unit_test(test_chains_of_two_spaces_are_copied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
