/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_trace.c - bytes as a page-touch trace, as they are and with a header that says what is there. What is
 * taken has records that lie in its pages, add up, and are written again as the same records.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../payload/trace.h"

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_again(const struct trace_record *r, uint64_t before)
{
	uint8_t buf[TRACE_HEADER_LEN + TRACE_RECORD_MAX];
	struct trace_reader reader = {.at = buf, .next = before, .nr_pages = UINT64_MAX, .left = 1};
	struct trace_record again;
	uint64_t next = before;

	reader.end = buf + trace_encode(buf, r, &next);
	require(trace_next(&reader, &again) == 1 && trace_next(&reader, &again) == 0);
	require(again.page == r->page && again.nr == r->nr && again.micros == r->micros &&
		again.write == r->write);
	require(next == reader.next);
}

static void check(const uint8_t *data, size_t size)
{
	struct trace_header h;
	struct trace_reader reader;
	struct trace_record r;
	uint64_t touched = 0;
	uint64_t before = 0;
	uint64_t nr = 0;

	if (trace_check(data, size, &h)) {
		/* Whoever does not ask must not fall either. */
		if (trace_open(&reader, data, size)) {
			while (trace_next(&reader, &r) == 1)
				require(r.page < h.nr_pages && r.nr <= h.nr_pages - r.page);
		}
		return;
	}
	require(trace_open(&reader, data, size));
	for (; trace_next(&reader, &r) == 1; nr++) {
		require(r.nr > 0 && r.page < h.nr_pages && r.nr <= h.nr_pages - r.page);
		touched += r.nr;
		check_again(&r, before);
		before = r.page + r.nr;
	}
	require(nr == h.nr_records && touched == h.touched);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	check(data, size);
	if (size < TRACE_HEADER_LEN)
		return 0;
	copy = malloc(size);
	require(copy != NULL);
	memcpy(copy, data, size);
	memcpy(copy, &(uint64_t){TRACE_MAGIC}, 8);
	memcpy(copy + 8, &(uint32_t){TRACE_VERSION}, 4);
	memcpy(copy + 32, &(uint64_t){size - TRACE_HEADER_LEN}, 8);
	memcpy(copy + 56,
		&(uint64_t){trace_checksum(copy + TRACE_HEADER_LEN, size - TRACE_HEADER_LEN)}, 8);
	check(copy, size);
	free(copy);
	return 0;
}
