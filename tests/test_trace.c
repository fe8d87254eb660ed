/* SPDX-License-Identifier: BSD-3-Clause */
/* test_trace.c - page-touch traces: what is written is read, and nothing that cannot be is taken. */
#include <stdlib.h>
#include <string.h>

#include "../payload/trace.h"
#include "random.h"
#include "support.h"

#define RECORDS_MAX 400

struct file {
	uint8_t bytes[TRACE_HEADER_LEN + RECORDS_MAX * TRACE_RECORD_MAX];
	uint64_t len;
	struct trace_record records[RECORDS_MAX];
	uint64_t nr;
	uint64_t nr_pages;
};

static void put_le(uint8_t *at, uint32_t bytes, uint64_t value)
{
	for (uint32_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

/* The header that belongs to the records, and the right checksum. */
static void finish(struct file *f)
{
	uint64_t touched = 0;
	uint64_t micros = 0;

	for (uint64_t i = 0; i < f->nr; i++) {
		touched += f->records[i].nr;
		micros += f->records[i].micros;
	}
	memcpy(f->bytes, "GMTRACE1", 8);
	put_le(f->bytes + 8, 4, 1);
	put_le(f->bytes + 12, 4, 12);
	put_le(f->bytes + 16, 8, f->nr_pages);
	put_le(f->bytes + 24, 8, f->nr);
	put_le(f->bytes + 32, 8, f->len - TRACE_HEADER_LEN);
	put_le(f->bytes + 40, 8, touched);
	put_le(f->bytes + 48, 8, micros);
	put_le(f->bytes + 56, 8,
		trace_checksum(f->bytes + TRACE_HEADER_LEN, f->len - TRACE_HEADER_LEN));
}

static void write_records(struct file *f)
{
	uint64_t next = 0;

	f->len = TRACE_HEADER_LEN;
	for (uint64_t i = 0; i < f->nr; i++)
		f->len += trace_encode(f->bytes + f->len, &f->records[i], &next);
	finish(f);
}

/* As a guest touches: runs, jumps, repeats; some at the ends. */
static void make_records(struct file *f, struct rng *rng)
{
	f->nr = rng_below(rng, RECORDS_MAX);
	f->nr_pages = 1 + (rng_below(rng, 4) ? rng_below(rng, 100000) : TRACE_PAGES_MAX - 1);
	for (uint64_t i = 0; i < f->nr; i++) {
		struct trace_record *r = &f->records[i];

		r->page = rng_below(rng, 8) ? rng_below(rng, f->nr_pages) : f->nr_pages - 1;
		r->nr = rng_below(rng, 2) ? 1 : 1 + rng_below(rng, f->nr_pages - r->page);
		r->micros = rng_below(rng, 2) ? 0 : rng_below(rng, UINT64_C(1) << 40);
		r->write = rng_below(rng, 2);
	}
}

static struct file *new_file(struct rng *rng)
{
	struct file *f = test_calloc(1, sizeof(*f));

	make_records(f, rng);
	write_records(f);
	return f;
}

/* At its exact length, so that a sanitizer sees a step outside. */
static const char *check(const uint8_t *bytes, uint64_t len)
{
	struct trace_header h;
	uint8_t *copy = malloc(len ? len : 1);
	const char *why;

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	why = trace_check(copy, len, &h);
	free(copy);
	return why;
}

static void what_is_written_is_read(void **state)
{
	struct rng rng = {test_seed(1)};

	(void)state;
	for (unsigned long n = 0; n < support_scale(300); n++) {
		struct file *f = new_file(&rng);
		struct trace_reader reader;
		struct trace_record r;
		uint64_t i = 0;

		assert_null(check(f->bytes, f->len));
		assert_true(trace_open(&reader, f->bytes, f->len));
		for (; trace_next(&reader, &r) == 1; i++) {
			assert_int_equal(r.page, f->records[i].page);
			assert_int_equal(r.nr, f->records[i].nr);
			assert_int_equal(r.micros, f->records[i].micros);
			assert_int_equal(r.write, f->records[i].write);
		}
		assert_int_equal(i, f->nr);
		assert_int_equal(trace_next(&reader, &r), 0);
		test_free(f);
	}
}

static void the_next_page_costs_one_byte(void **state)
{
	uint8_t buf[TRACE_RECORD_MAX];
	uint64_t next = 1000;

	(void)state;
	assert_int_equal(trace_encode(buf, &(struct trace_record){1000, 1, 0, true}, &next), 1);
	assert_int_equal(next, 1001);
	assert_int_equal(trace_encode(buf, &(struct trace_record){1001, 100, 0, false}, &next), 2);
	assert_int_equal(trace_encode(buf, &(struct trace_record){1100, 1, 0, false}, &next), 1);
}

static void no_record_is_longer_than_promised(void **state)
{
	uint8_t buf[TRACE_RECORD_MAX];
	uint64_t next = TRACE_PAGES_MAX;
	const struct trace_record back = {0, UINT64_MAX, UINT64_MAX, true};

	(void)state;
	assert_in_range(trace_encode(buf, &back, &next), 1, TRACE_RECORD_MAX);
}

static void what_is_cut_short_is_refused(void **state)
{
	struct rng rng = {test_seed(2)};
	struct file *f = new_file(&rng);

	(void)state;
	for (uint64_t len = 0; len < f->len; len++)
		assert_non_null(check(f->bytes, len));
	assert_null(check(f->bytes, f->len));
	test_free(f);
}

static void every_changed_bit_is_seen(void **state)
{
	struct rng rng = {test_seed(3)};
	struct file *f = new_file(&rng);
	/* The number of pages and their size may be others. */
	const uint64_t free_from = 12;
	const uint64_t free_to = 24;

	(void)state;
	for (uint64_t bit = 0; bit < f->len * 8; bit++) {
		if (bit / 8 >= free_from && bit / 8 < free_to)
			continue;
		f->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_non_null(check(f->bytes, f->len));
		f->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_null(check(f->bytes, f->len));
	test_free(f);
}

/* A file with this body, of which everything but the body is right. */
static const char *check_body(
	const uint8_t *body, size_t len, const struct trace_record *as, uint64_t nr)
{
	struct file *f = test_calloc(1, sizeof(*f));
	const char *why;

	memcpy(f->bytes + TRACE_HEADER_LEN, body, len);
	f->len = TRACE_HEADER_LEN + len;
	f->nr_pages = 100;
	f->nr = nr;
	memcpy(f->records, as, nr * sizeof(*as));
	finish(f);
	why = check(f->bytes, f->len);
	test_free(f);
	return why;
}

static void records_that_cannot_be_are_refused(void **state)
{
	static const uint8_t fine[] = {(99 << 4 & 0x7f) | 0x80, 99 << 4 >> 7};
	static const uint8_t no_pages[] = {2, 0};
	static const uint8_t too_many[] = {2, 101};
	static const uint8_t past_the_end[] = {(99 << 4 & 0x7f) | 0x82, 99 << 4 >> 7, 2};
	static const uint8_t no_end[] = {0x80};
	static const uint8_t no_run[] = {2};
	static const uint8_t no_time[] = {4};
	static const uint8_t before_0[] = {1 << 3};
	static const uint8_t behind[] = {0, 0};
	static const uint8_t eleven[] = {
		4, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0};
	static const uint8_t bit_64[] = {
		4, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2};
	const struct trace_record one = {0, 1, 0, false};
	const struct trace_record none = {0, 0, 0, false};
	const struct trace_record two = {99, 2, 0, false};
	const struct trace_record many = {0, 101, 0, false};

	(void)state;
	assert_null(check_body(fine, sizeof(fine), &one, 1));
	assert_non_null(check_body(no_pages, sizeof(no_pages), &none, 1));
	assert_non_null(check_body(too_many, sizeof(too_many), &many, 1));
	assert_non_null(check_body(past_the_end, sizeof(past_the_end), &two, 1));
	assert_non_null(check_body(no_end, sizeof(no_end), &one, 1));
	assert_non_null(check_body(no_run, sizeof(no_run), &one, 1));
	assert_non_null(check_body(no_time, sizeof(no_time), &one, 1));
	assert_non_null(check_body(before_0, sizeof(before_0), &one, 1));
	assert_non_null(check_body(behind, sizeof(behind), &one, 1));
	assert_non_null(check_body(eleven, sizeof(eleven), &one, 1));
	assert_non_null(check_body(bit_64, sizeof(bit_64), &one, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(the_next_page_costs_one_byte),
		cmocka_unit_test(no_record_is_longer_than_promised),
		cmocka_unit_test(what_is_cut_short_is_refused),
		cmocka_unit_test(every_changed_bit_is_seen),
		cmocka_unit_test(records_that_cannot_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
