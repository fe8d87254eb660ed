/* SPDX-License-Identifier: BSD-3-Clause */
/* trace.c - see trace.h. */
#include "trace.h"

#define HAS_WRITE 1u
#define HAS_RUN 2u
#define HAS_TIME 4u
#define FLAG_BITS 3

static uint64_t load_le(const uint8_t *at, uint32_t bytes)
{
	uint64_t value = 0;

	for (uint32_t i = 0; i < bytes; i++)
		value |= (uint64_t)at[i] << 8 * i;
	return value;
}

uint64_t trace_checksum(const void *bytes, uint64_t len)
{
	const uint8_t *at = bytes;
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	for (uint64_t i = 0; i < len; i++)
		sum = (sum ^ at[i]) * UINT64_C(0x100000001b3);
	return sum;
}

static void read_header(const uint8_t *at, struct trace_header *ret)
{
	ret->magic = load_le(at, 8);
	ret->version = (uint32_t)load_le(at + 8, 4);
	ret->page_log2 = (uint32_t)load_le(at + 12, 4);
	ret->nr_pages = load_le(at + 16, 8);
	ret->nr_records = load_le(at + 24, 8);
	ret->body_len = load_le(at + 32, 8);
	ret->touched = load_le(at + 40, 8);
	ret->micros = load_le(at + 48, 8);
	ret->checksum = load_le(at + 56, 8);
}

static const char *judge_header(const struct trace_header *h, uint64_t len)
{
	if (h->magic != TRACE_MAGIC)
		return "is no page-touch trace";
	if (h->version != TRACE_VERSION)
		return "is a trace of another version";
	if (h->page_log2 < 12 || h->page_log2 > 30)
		return "has a size of pages that cannot be";
	if (h->nr_pages == 0 || h->nr_pages > TRACE_PAGES_MAX)
		return "has a number of pages that cannot be";
	if (h->body_len != len - TRACE_HEADER_LEN)
		return "is cut short, or longer than it says";
	return NULL;
}

bool trace_open(struct trace_reader *reader, const void *bytes, uint64_t len)
{
	struct trace_header h;

	if (len < TRACE_HEADER_LEN)
		return false;
	read_header(bytes, &h);
	if (judge_header(&h, len))
		return false;
	reader->at = (const uint8_t *)bytes + TRACE_HEADER_LEN;
	reader->end = (const uint8_t *)bytes + len;
	reader->next = 0;
	reader->nr_pages = h.nr_pages;
	reader->left = h.nr_records;
	return true;
}

/* Seven bits a byte, the lowest first; the top bit says that more follow. */
static bool read_number(struct trace_reader *r, uint64_t *ret)
{
	uint64_t value = 0;

	for (uint32_t shift = 0; shift < 64 && r->at < r->end; shift += 7) {
		uint8_t byte = *r->at++;

		/* The tenth byte holds one bit. */
		if (shift == 63 && byte > 1)
			return false;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret = value;
			return true;
		}
	}
	return false;
}

int trace_next(struct trace_reader *r, struct trace_record *ret)
{
	uint64_t head;
	uint64_t zigzag;

	if (r->left == 0)
		return r->at == r->end ? 0 : -1;
	if (!read_number(r, &head))
		return -1;
	zigzag = head >> FLAG_BITS;
	/* Modulo 2^64; what is out of range is refused below. */
	ret->page = r->next + (zigzag >> 1 ^ (UINT64_C(0) - (zigzag & 1)));
	ret->write = head & HAS_WRITE;
	ret->nr = 1;
	ret->micros = 0;
	if ((head & HAS_RUN) && (!read_number(r, &ret->nr) || ret->nr == 0))
		return -1;
	if ((head & HAS_TIME) && !read_number(r, &ret->micros))
		return -1;
	if (ret->page >= r->nr_pages || ret->nr > r->nr_pages - ret->page)
		return -1;
	r->next = ret->page + ret->nr;
	r->left--;
	return 1;
}

const char *trace_check(const void *bytes, uint64_t len, struct trace_header *ret_header)
{
	struct trace_reader reader;
	struct trace_record record;
	uint64_t touched = 0;
	uint64_t micros = 0;
	const char *why;
	int rc;

	if (len < TRACE_HEADER_LEN)
		return "is no page-touch trace";
	read_header(bytes, ret_header);
	why = judge_header(ret_header, len);
	if (why)
		return why;
	if (trace_checksum((const uint8_t *)bytes + TRACE_HEADER_LEN, len - TRACE_HEADER_LEN) !=
		ret_header->checksum)
		return "is damaged: its checksum is wrong";
	trace_open(&reader, bytes, len);
	while ((rc = trace_next(&reader, &record)) == 1) {
		if (__builtin_add_overflow(touched, record.nr, &touched) ||
			__builtin_add_overflow(micros, record.micros, &micros))
			return "has sums that cannot be";
	}
	if (rc < 0)
		return "has a record that cannot be";
	if (touched != ret_header->touched || micros != ret_header->micros)
		return "has other sums than its header says";
	return NULL;
}

static uint32_t write_number(uint8_t *buf, uint64_t value)
{
	uint32_t len = 0;

	for (; value >= 0x80; value >>= 7)
		buf[len++] = (uint8_t)(value | 0x80);
	buf[len++] = (uint8_t)value;
	return len;
}

uint32_t trace_encode(
	uint8_t buf[TRACE_RECORD_MAX], const struct trace_record *record, uint64_t *next)
{
	uint64_t delta = record->page - *next;
	uint64_t zigzag = delta << 1 ^ (UINT64_C(0) - (delta >> 63));
	uint64_t head = zigzag << FLAG_BITS | (record->write ? HAS_WRITE : 0) |
			(record->nr != 1 ? HAS_RUN : 0) | (record->micros ? HAS_TIME : 0);
	uint32_t len = write_number(buf, head);

	if (record->nr != 1)
		len += write_number(buf + len, record->nr);
	if (record->micros)
		len += write_number(buf + len, record->micros);
	*next = record->page + record->nr;
	return len;
}
