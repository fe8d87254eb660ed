/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * trace.h - page-touch traces: which pages a guest touched, in which order and when. The format
 * stands in docs/trace-format.md.
 *
 * Compiled for the guest as well: no libc, no allocation. The reader is safe on any bytes.
 */
#ifndef GM_PAYLOAD_TRACE_H
#define GM_PAYLOAD_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_MAGIC UINT64_C(0x3145434152544d47) /* "GMTRACE1" */
#define TRACE_VERSION 1u
#define TRACE_HEADER_LEN 64u
#define TRACE_RECORD_MAX 32u /* bytes of a record at most */
#define TRACE_PAGES_MAX (UINT64_C(1) << 52)

/**
 * struct trace_header - the first 64 bytes, all little-endian
 * @magic:      TRACE_MAGIC
 * @version:    TRACE_VERSION
 * @page_log2:  size of the pages that are counted, 12 to 30
 * @nr_pages:   pages of the guest's memory: all pages are below
 * @nr_records: records that follow
 * @body_len:   bytes that they take up
 * @touched:    pages in all records together
 * @micros:     time from the first record to the last
 * @checksum:   trace_checksum() of the body
 */
struct trace_header {
	uint64_t magic;
	uint32_t version;
	uint32_t page_log2;
	uint64_t nr_pages;
	uint64_t nr_records;
	uint64_t body_len;
	uint64_t touched;
	uint64_t micros;
	uint64_t checksum;
};

_Static_assert(sizeof(struct trace_header) == TRACE_HEADER_LEN, "as it stands in the file");

/* One record: @nr pages from @page on, @micros after the one before. */
struct trace_record {
	uint64_t page;
	uint64_t nr;
	uint64_t micros;
	bool write;
};

struct trace_reader {
	const uint8_t *at;
	const uint8_t *end;
	uint64_t next; /* page behind the last record */
	uint64_t nr_pages;
	uint64_t left; /* records */
};

/* What is wrong with a trace, for messages; NULL if nothing is. It reads all of it. */
const char *trace_check(const void *bytes, uint64_t len, struct trace_header *ret_header);
/* False if the header is none. Records are checked as they are read. */
bool trace_open(struct trace_reader *reader, const void *bytes, uint64_t len);
/* 1, 0 at the end, -1 if the bytes cannot be. */
int trace_next(struct trace_reader *reader, struct trace_record *ret);
uint64_t trace_checksum(const void *bytes, uint64_t len);

/* Writes a record into @buf; @next is the page behind the one before (0 first). Returns its bytes. */
uint32_t trace_encode(
	uint8_t buf[TRACE_RECORD_MAX], const struct trace_record *record, uint64_t *next);

#endif
